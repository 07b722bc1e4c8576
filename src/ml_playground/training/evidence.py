"""What a person needs to see why a step went wrong: `bad_batches/`, a file for each batch that was set aside."""

import json
import math
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from ml_playground.core.atomic import write_file
from ml_playground.core.error_handling import StorageError
from ml_playground.core.run_folder import RunFolder
from ml_playground.training.assembly import Assembly, Opened
from ml_playground.training.guard import Guard
from ml_playground.training.memory import is_out_of_memory
from ml_playground.training.precision import DTYPES
from ml_playground.training.protocols import Data, Movable, Objective, TellsRows

SCHEMA_VERSION = 1

Numbers = dict[str, Any]
"""JSON values."""


@dataclass(frozen=True, slots=True)
class Examiner:
    """Looks at batches with a model as it stands; leaves it as it is, gradients included."""

    model: nn.Module
    objective: Objective[Any, Any]
    device: torch.device
    dtype: torch.dtype
    parts: int = 1
    """In how many parts a batch fits into memory."""

    def weights(self) -> Numbers:
        """By parameter: length, largest value, and how many are not finite."""
        return {name: _summary(parameter.detach()) for name, parameter in self.model.named_parameters()}

    def batch(self, batch: Movable) -> Numbers:
        """Loss of each row; length of each parameter's gradient; largest activation of each module, in the order of their work."""
        with self._evaluating(), self._watched() as activations:
            rows = [self._row_loss(row) for row in batch.split(batch.rows)]
            seen = {name: _activation(seen) for name, seen in activations.items()}
        with self._evaluating():
            gradients = self._gradients(batch)
        return {"loss_of_rows": rows, "gradients": gradients, "activations": seen}

    @torch.no_grad()
    def _row_loss(self, row: Movable) -> Any:
        """Nats per target; None for a row without targets."""
        targets = self.objective.targets(row)
        return _number(float(self.objective.loss_sum(self.model, row.to(self.device))) / targets) if targets else None

    def _gradients(self, batch: Movable) -> Numbers:
        named = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        targets = self.objective.targets(batch) or 1.0
        sums: dict[str, Tensor] = {}
        for piece in batch.split(self.parts):
            loss = self.objective.loss_sum(self.model, piece.to(self.device)) / targets
            # A parameter that the loss does not depend on has none, which torch's types leave out.
            found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
            for name, gradient in zip(named, cast(Sequence[Tensor | None], found), strict=True):
                if gradient is not None:
                    sums[name] = sums[name] + gradient if name in sums else gradient
        return {name: _summary(total) for name, total in sums.items()}

    @contextmanager
    def _evaluating(self) -> Generator[None]:
        was_training = self.model.training
        self.model.eval()
        try:
            with nullcontext() if self.dtype is torch.float32 else torch.autocast(self.device.type, dtype=self.dtype):
                yield
        finally:
            self.model.train(was_training)

    @contextmanager
    def _watched(self) -> Generator[dict[str, list[Tensor]]]:
        """Inside, what each module gives is measured: (2,) largest magnitude and count of what is not finite, a call each."""
        seen: dict[str, list[Tensor]] = {}

        def watch(name: str) -> Callable[[nn.Module, Any, Any], None]:
            def look(_module: nn.Module, _given: Any, result: Any) -> None:
                if isinstance(result, Tensor) and result.is_floating_point():
                    seen.setdefault(name, []).append(_measured(result))

            return look

        with ExitStack() as hooks:
            for name, module in cast(Iterable[tuple[str, nn.Module]], self.model.named_modules()):
                if name:
                    hooks.callback(module.register_forward_hook(watch(name)).remove)
            yield seen


def keep_evidence(run: RunFolder, ready: Opened, built: Assembly, guard: Guard, tell: Callable[[str], None]) -> None:
    """Write a file for each batch that was set aside and has none yet.

    Args:
        run: Where they are written.
        ready: The job and its data.
        built: Its model, with the weights of the newest checkpoint, or of the beginning.
        guard: Knows what was set aside.
        tell: Hears where the files lie, and what went wrong; the run goes on without them.
    """
    examiner = Examiner(
        model=built.model,
        objective=built.objective,
        device=built.device,
        dtype=DTYPES[ready.job.runtime.dtype],
        parts=guard.parts("training", built.start.step + 1),
    )
    for undone in guard.course.roll_backs:
        for number in undone.batches:
            path = run.bad_batch(undone.step, number)
            if path.exists():
                continue
            record = {"schema_version": SCHEMA_VERSION, "step": undone.step, "why": undone.why, "batch": number}
            record |= {"weights_of_step": built.start.step, "rows": _rows(ready.data, number)}
            record |= _examined(examiner, ready.data, number)
            try:
                write_file(path, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
            except StorageError as error:
                tell(f"what is known of micro-batch {number} of step {undone.step:,} is not kept: {error}")
            else:
                tell(f"micro-batch {number} of step {undone.step:,}: its text and statistics are in {path}")


def _rows(data: Data[Any], number: int) -> list[Numbers]:
    return [dict(row) for row in data.rows_at(number)] if isinstance(data, TellsRows) else []


def _examined(examiner: Examiner, data: Data[Any], number: int) -> Numbers:
    try:
        return examiner.batch(cast(Movable, data.train.batch_at(number))) | {"weights": examiner.weights()}
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return {"not_examined": "memory ran out"}


def _summary(tensor: Tensor) -> Numbers:
    """Length, largest magnitude, and how many numbers are not finite."""
    wide = tensor.float()
    norm = cast(Tensor, torch.linalg.vector_norm(wide))
    return {"norm": _number(float(norm))} | _activation([_measured(wide)])


def _measured(tensor: Tensor) -> Tensor:
    """(2,) largest finite magnitude and count of what is not finite; left on the device."""
    finite = torch.isfinite(tensor)
    largest = tensor.detach().abs().masked_fill(~finite, 0.0).amax() if tensor.numel() else tensor.new_zeros(())
    return torch.stack([largest.float(), (~finite).sum().float()])


def _activation(calls: Sequence[Tensor]) -> Numbers:
    both = torch.stack(list(calls)).cpu()
    return {"largest": _number(float(both[:, 0].max())), "not_finite": int(both[:, 1].sum())}


def _number(value: float) -> float | str:
    """As JSON can hold it: six figures, and words for what is not finite."""
    return float(f"{value:.6g}") if math.isfinite(value) else str(value)
