"""What makes a step fast must not change what it learns; and what it does is counted, for seconds depend on who else is at work."""

import importlib
import pydoc_data.topics
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
import torch

from ml_playground.core.values import ModelContext
from ml_playground.data_pipeline.batches import TokenBatch
from ml_playground.models.core.gpt import GptModel, build
from ml_playground.models.settings import Gpt
from ml_playground.objectives.next_token import NextTokenObjective
from ml_playground.objectives.settings import NextToken
from ml_playground.training.learner import GradientLearner
from ml_playground.training.optim import adamw, muon
from ml_playground.training.settings import AdamW, Muon
from tests.fakes.counted_operations import Operations

LENGTH, ROWS = 32, 8
TEXT = "".join(pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics)).encode()[:200_000]
IDS = torch.frombuffer(bytearray(TEXT), dtype=torch.uint8).long().clamp_max(127)

BLOCK_OPERATIONS = 130
OTHER_OPERATIONS = 86
"""Of a step with bfloat16: what one block adds, and what remains without any block."""

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


def model_of(layers: int = 2, **options: Any) -> GptModel:
    torch.manual_seed(0)
    settings = Gpt(n_layer=layers, n_head=2, n_embd=64, **options)
    return build(settings, ModelContext({"vocab_size": 128, "sequence_tokens": LENGTH}))


def learner_of(model: GptModel, dtype: torch.dtype, kind: str = "adamw", *, compiled: bool = False) -> GradientLearner:
    optimizer = (
        adamw.build(AdamW(lr=2e-3), model, dtype)
        if kind == "adamw"
        else muon.build(Muon(lr=2e-3, matrix_lr=0.01), model, dtype)
    )
    objective = NextTokenObjective(NextToken())
    return GradientLearner(model, objective, optimizer, seed=1, grad_clip=1.0, dtype=dtype, compiled=compiled)


def batch(number: int, *, validation: bool = False) -> TokenBatch:
    """Rows of the text, the last tenth of which is for validation."""
    generator = torch.Generator().manual_seed(number)
    border = len(IDS) * 9 // 10
    first, last = (border, len(IDS) - LENGTH - 1) if validation else (0, border - LENGTH - 1)
    starts = torch.randint(first, last, (ROWS,), generator=generator)
    rows = torch.stack([IDS[start : start + LENGTH + 1] for start in starts.tolist()])
    return TokenBatch(rows[:, :-1], rows[:, 1:].contiguous())


def validation_loss(learner: GradientLearner, steps: int) -> float:
    for step in range(steps):
        learner.train_step([batch(step)], step=step, lr_factor=min(1.0, (step + 1) / 20))
    return learner.evaluate([batch(number, validation=True) for number in range(40)])["loss"]


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_bfloat16_learns_what_float32_learns(kind: str) -> None:
    """After 200 steps from the same start on the same batches, the validation losses differ by less than 0.005 nats."""
    exact, fast = (
        validation_loss(learner_of(model_of(), dtype, kind), 200) for dtype in (torch.float32, torch.bfloat16)
    )
    assert exact < 2.6
    assert abs(fast - exact) < 0.005


def counted_step(learner: GradientLearner, micro_batches: int = 1) -> Counter[str]:
    """The operations of the third step."""
    for step in range(2):
        learner.train_step([batch(step)], step=step, lr_factor=1.0)
    with Operations() as counting:
        learner.train_step([batch(9)] * micro_batches, step=2, lr_factor=1.0)
    return counting.counts


@pytest.mark.parametrize("micro_batches", [1, 3])
@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_step_reads_nothing_from_the_device(kind: str, micro_batches: int) -> None:
    """The one number read is how many targets a batch has, while it is still on the host."""
    counts = counted_step(learner_of(model_of(), torch.bfloat16, kind), micro_batches)
    assert counts["_local_scalar_dense"] == micro_batches


def test_step_asks_for_few_operations() -> None:
    """Each costs some microseconds, however small its tensors; a block, with its way back, at most 130 of them."""
    few, more = (counted_step(learner_of(model_of(layers), torch.bfloat16)).total() for layers in (2, 4))
    assert (more - few) / 2 <= BLOCK_OPERATIONS
    assert few - (more - few) <= OTHER_OPERATIONS


def test_first_step_imports_no_compiler() -> None:
    """torch._dynamo takes 1.5 s to import, more than the whole of a short run; torch's own optimizers import it."""
    program = """
import sys
from tests.integration.test_fast_path import batch, learner_of, model_of
import torch
for kind in ("adamw", "muon"):
    learner_of(model_of(), torch.bfloat16, kind).train_step([batch(0)], step=0, lr_factor=1.0)
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=600)
    assert done.stdout.split() == ["False"]


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_step_learns_what_the_plain_one_learns() -> None:
    """The whole loss is compiled, once; twins of weights and their gradients are those of the plain path up to rounding."""
    plain, compiled = (learner_of(model_of(), torch.bfloat16, compiled=compiled) for compiled in (False, True))
    for step in range(12):
        losses = [float(one.train_step([batch(step)], step=step, lr_factor=1.0).loss) for one in (plain, compiled)]
        assert losses[1] == pytest.approx(losses[0], abs=0.02)
    assert validation_loss(compiled, 0) == pytest.approx(validation_loss(plain, 0), abs=0.01)
    counters = importlib.import_module("torch._dynamo.utils").counters
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


@GPU
def test_gpu_step_never_waits_for_the_device() -> None:
    """Batches, loss, clipping and optimizer: whatever would wait raises."""
    learner = learner_of(model_of().cuda(), torch.bfloat16)
    learner.train_step([batch(0)], step=0, lr_factor=1.0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        numbers = learner.train_step([batch(1)], step=1, lr_factor=1.0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert numbers.loss.is_cuda and numbers.grad_norm.is_cuda


@GPU
def test_gpu_learns_what_the_cpu_learns() -> None:
    """The same start and batches; kernels round differently, and that is all."""
    here, there = learner_of(model_of(), torch.float32), learner_of(model_of().cuda(), torch.bfloat16)
    assert validation_loss(there, 100) == pytest.approx(validation_loss(here, 100), abs=0.01)
