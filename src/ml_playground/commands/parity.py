"""Do the first steps of training come out on a device as they do in float32 on the CPU?"""

import math
from dataclasses import dataclass

import torch

from ml_playground.commands.findings import Finding
from ml_playground.configuration import families
from ml_playground.configuration.loading import load
from ml_playground.configuration.models import JobConfig, RuntimeSettings
from ml_playground.core.registry import load_object
from ml_playground.data_pipeline.batches import TokenBatch
from ml_playground.training.building import build_learner, build_model
from ml_playground.training.precision import apply_runtime

STEPS = 3
VOCAB, ROWS, LENGTH = 61, 8, 48
# The recipe of the shipped experiment, of a size that takes milliseconds a step, and a rate at which the losses move.
SETTINGS = ("model.n_layer=2", "model.n_head=2", "model.n_embd=64", "optimizer.lr=0.01", "use=['model/modern']")

# Nats. Kernels sum in different orders, which these few steps hardly multiply; rounding to the 8 bits of bfloat16 moves the third
# loss by up to 0.01 on a CPU, while a step itself moves it by 0.3 and more.
TOLERANCE = {"float32": 1e-3, "bfloat16": 3e-2}

REFERENCE = RuntimeSettings(
    device="cpu", dtype="float32", attention="math", compile=False, activation_checkpointing=False
)


@dataclass(frozen=True, slots=True)
class Compared:
    """Losses of the same steps, computed in two ways."""

    way: str
    """Device and precision that are compared with float32 on the CPU."""
    losses: tuple[float, ...]
    """Nats a token, of each step."""
    reference: tuple[float, ...]
    """The same in float32 on the CPU."""
    tolerance: float
    """Largest difference that is no fault, in nats."""

    @property
    def largest(self) -> float:
        """The largest difference, in nats; infinite where a loss is no number."""
        apart = [abs(one - other) for one, other in zip(self.losses, self.reference, strict=True)]
        return max(math.inf if math.isnan(difference) else difference for difference in apart)

    def finding(self) -> Finding:
        """What it says of the device."""
        text = (
            f"{self.way} and float32 on the CPU differ by at most {self.largest:.1e} nats in {len(self.losses)} steps"
        )
        if self.largest <= self.tolerance:
            return Finding("ok", "parity", f"{text}, {self.tolerance:g} are allowed")
        losses, reference = (", ".join(f"{loss:.4f}" for loss in row) for row in (self.losses, self.reference))
        return Finding(
            "problem",
            "parity",
            f"{text}, more than the {self.tolerance:g} that rounding explains: {losses} instead of {reference}",
            "do not train so: use another version of torch or of the driver, or runtime.device = 'cpu', runtime.dtype = 'float32'",
        )


def compare(decided: RuntimeSettings) -> Compared:
    """Train the same few steps as decided and in float32 on the CPU; where both are one, in bfloat16 instead."""
    plain = decided.device == "cpu" and decided.dtype == "float32"
    # Compiling takes longer than all the rest, and changes nothing but the order of sums.
    runtime = decided.model_copy(update={"dtype": "bfloat16" if plain else decided.dtype, "compile": False})
    return Compared(
        way=f"{runtime.dtype} on {runtime.device}",
        losses=first_losses(runtime),
        reference=first_losses(REFERENCE),
        tolerance=TOLERANCE[runtime.dtype],
    )


def first_losses(runtime: RuntimeSettings, *, seed: int = 0) -> tuple[float, ...]:
    """Losses of the first steps of a small model on fixed batches.

    Args:
        runtime: Device, precision, threads and kernels; this process keeps its threads and its precision of products.
        seed: Of the weights, which are drawn on the CPU whatever the device.
    """
    job: JobConfig = load("python_stdlib", sets=SETTINGS, environ={}).job.model_copy(update={"runtime": runtime})
    device = apply_runtime(runtime)
    facts = {"vocab_size": VOCAB, "sequence_tokens": LENGTH}
    model = build_model(job, facts, device, load_pretrained=False)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    objective = load_object(families.OBJECTIVES[job.objective.kind_name].build)(job.objective)
    learner = build_learner(job, model, objective)
    return tuple(learner.train_step([batch(step)], step=step, lr_factor=1.0).loss.item() for step in range(STEPS))


def batch(step: int) -> TokenBatch:
    """Rows that can be learnt: each id is twice the one before, modulo a prime."""
    rows = [[(row + 1) * pow(2, place + step, VOCAB) % VOCAB for place in range(LENGTH + 1)] for row in range(ROWS)]
    ids = torch.tensor(rows)
    return TokenBatch(ids[:, :-1], ids[:, 1:])
