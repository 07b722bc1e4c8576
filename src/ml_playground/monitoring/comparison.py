"""Whether two runs have computed the same, bit by bit: every row of their metrics, and all that their last checkpoints hold."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from ml_playground.core.atomic import read_lines
from ml_playground.core.certificate import Equality
from ml_playground.core.checkpoint_format import CheckpointFolder, latest
from ml_playground.core.error_handling import RunError
from ml_playground.core.raw_tensors import RawTensor, gap_between, read_raw_tensors, tensors_sha256
from ml_playground.core.run_folder import RunFolder
from ml_playground.core.run_schema import MetricRow, complaint

ORDER = {"model": 0, "ema": 1}
"""Groups whose differences are told first; the optimizer's follow."""


@dataclass(frozen=True, slots=True)
class RowDifference:
    """The first row of metrics in which two runs differ."""

    step: int
    kind: str
    """train or evaluation."""
    what: str
    """In words: a column with both its values, or that the row is missing."""

    def __str__(self) -> str:
        return f"step {self.step:,}, {self.kind}: {self.what}"


@dataclass(frozen=True, slots=True)
class TensorDifference:
    """The first tensor in which two checkpoints differ."""

    name: str
    """`model/...`, `ema/...`, `optimizer/...`."""
    what: str
    """In words: how many elements, and how far apart; or that it is missing, or has another type or shape."""
    elements: int | None = None
    """How many of its numbers differ."""
    largest: float | None = None
    """The largest difference of two of them."""
    further: int = 0
    """How many other tensors differ."""

    def __str__(self) -> str:
        return f"{self.name}: {self.what}" + (f"; {self.further:,} other tensors differ" if self.further else "")


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is equal in two runs, and what is not."""

    equality: Equality
    """Counts and hashes of the first one."""
    row: RowDifference | None
    tensor: TensorDifference | None
    state: Sequence[str]
    """What else differs in their last checkpoints, in words."""

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return self.row is None and self.tensor is None and not self.state


def compare_runs(one: RunFolder, other: RunFolder) -> Comparison:
    """Compare two runs; only what depends on the clock is left out.

    Raises:
        RunError: One of them has no rows, no checkpoint, or a row that cannot be read; names the file.
        CheckpointError: All checkpoints of one of them are damaged.
    """
    rows, other_rows = rows_of(one), rows_of(other)
    saved, other_saved = last_checkpoint(one), last_checkpoint(other)
    tensors, other_tensors = tensors_of(saved), tensors_of(other_saved)
    state, other_state = state_of(saved), state_of(other_saved)
    equality = Equality(
        train_rows=sum(row.kind == "train" for row in rows),
        evaluation_rows=sum(row.kind == "evaluation" for row in rows),
        tensors=len(tensors),
        numbers=sum(tensor.elements for tensor in tensors.values()),
        losses_sha256=_sha256(
            f"{row.step} {row.values.get('loss', math.nan).hex()}" for row in rows if row.kind == "train"
        ),
        rows_sha256=_sha256(map(_text_of, rows)),
        tensors_sha256=tensors_sha256(tensors),
        state_sha256=_sha256(f"{name} {text}" for name, text in sorted(state.items())),
    )
    return Comparison(
        equality,
        first_row_difference(rows, other_rows),
        first_tensor_difference(tensors, other_tensors),
        [name for name in sorted(state | other_state) if state.get(name) != other_state.get(name)],
    )


def rows_of(run: RunFolder) -> list[MetricRow]:
    """Every row of a run's metrics.

    Raises:
        RunError: There is none, or a line is no row.
    """
    rows: list[MetricRow] = []
    for number, line in enumerate(read_lines(run.metrics), start=1):
        try:
            rows.append(MetricRow.model_validate_json(line))
        except ValueError as error:
            raise RunError(f"{run.metrics}, line {number} is no row of metrics ({complaint(error)}).") from error
    if not rows:
        raise RunError(f"{run.metrics} holds no row: two runs are compared by the metrics that they have written.")
    return rows


def last_checkpoint(run: RunFolder) -> CheckpointFolder:
    """The newest whole checkpoint of a run.

    Raises:
        RunError: It has none.
    """
    checkpoint = latest(run.checkpoints)
    if checkpoint is None:
        raise RunError(f"{run.checkpoints} holds no checkpoint: two runs are compared by their last ones.")
    return checkpoint


def tensors_of(checkpoint: CheckpointFolder) -> dict[str, RawTensor]:
    """`<group>/<name>` -> tensor, weights first."""
    groups = sorted(checkpoint.groups, key=lambda group: (ORDER.get(group, len(ORDER)), group))
    return {
        f"{group}/{name}": tensor
        for group in groups
        for name, tensor in sorted(read_raw_tensors(checkpoint.tensor_file(group)).items())
    }


def state_of(checkpoint: CheckpointFolder) -> dict[str, str]:
    """All that a checkpoint holds beside tensors and that does not depend on the clock: name -> text."""
    progress = checkpoint.progress
    plain: dict[str, Any] = {
        "step": progress.step,
        "max_steps": progress.max_steps,
        "epoch": progress.epoch,
        "targets": progress.targets,
        "metrics": checkpoint.metrics,
        "lr_factor": checkpoint.lr_factor,
        "data_fingerprint": checkpoint.data_fingerprint,
        "ending": checkpoint.ending,
        "course": checkpoint.course.model_dump(mode="json"),
    }
    states = {f"state of the hook {name!r}": state for name, state in checkpoint.hooks.items()}
    return {name: json.dumps(value, sort_keys=True) for name, value in (plain | states).items()}


def first_row_difference(rows: Sequence[MetricRow], others: Sequence[MetricRow]) -> RowDifference | None:
    """The first row that is not the same in both, in the order in which they were written."""
    for row, other in zip_longest(rows, others):
        if row is not None and (other is None or _place(row) < _place(other)):
            return RowDifference(row.step, row.kind, "missing in the second")
        if other is not None and (row is None or _place(other) < _place(row)):
            return RowDifference(other.step, other.kind, "missing in the first")
        if row is not None and other is not None:
            for column in sorted(row.values | other.values, key=lambda name: (name != "loss", name)):
                one, two = _shown(row.values.get(column)), _shown(other.values.get(column))
                if one != two:
                    return RowDifference(row.step, row.kind, f"{column} is {one} and {two}")
    return None


def first_tensor_difference(
    tensors: Mapping[str, RawTensor], others: Mapping[str, RawTensor]
) -> TensorDifference | None:
    """The first tensor that is not the same in both, in the order of the first, and how many more there are."""
    found = list(_tensor_differences(tensors, others))
    if not found:
        return None
    first = found[0]
    return TensorDifference(first.name, first.what, first.elements, first.largest, further=len(found) - 1)


def _tensor_differences(
    tensors: Mapping[str, RawTensor], others: Mapping[str, RawTensor]
) -> Iterator[TensorDifference]:
    for name in [*tensors, *(name for name in others if name not in tensors)]:
        if name not in tensors or name not in others:
            yield TensorDifference(name, f"missing in the {'second' if name in tensors else 'first'}")
            continue
        one, other = tensors[name], others[name]
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            yield TensorDifference(name, f"{one.dtype} {list(one.shape)} and {other.dtype} {list(other.shape)}")
        elif (gap := gap_between(one, other)) is not None:
            apart = "" if gap.largest is None else f", at most {gap.largest:.3g} apart"
            what = f"{gap.elements:,} of {one.elements:,} elements differ{apart}"
            yield TensorDifference(name, what, gap.elements, gap.largest)


def _place(row: MetricRow) -> tuple[int, bool]:
    """Rows in the order of a run: of one step the training row comes first."""
    return row.step, row.kind == "evaluation"


def _shown(value: float | None) -> str:
    """A number, so that different bits are different texts; every NaN is one."""
    return "nothing" if value is None else repr(value)


def _text_of(row: MetricRow) -> str:
    columns = " ".join(f"{name}={value.hex()}" for name, value in sorted(row.values.items()))
    return f"{row.kind} {row.step} {columns}"


def _sha256(lines: Iterator[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()
