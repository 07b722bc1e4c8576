"""What turned a run from its plain course: steps undone, batches split, and what the next step is judged by."""

from typing import Annotated, Literal

from pydantic import Field

from ml_playground.core.run_schema import Row

Phase = Literal["training", "evaluation"]

Number = Annotated[int, Field(ge=0, lt=1 << 63)]

Cut = Annotated[str, Field(max_length=64)]
"""Names how the data were cut into batches when something was noted; under another cut, batch numbers mean other rows."""


Recipe = Annotated[str, Field(max_length=64)]
"""Names all settings that decide what a run computes."""


class RollBack(Row):
    """A step that was undone, and the micro-batches that the run goes on without. Events carry it, and every later checkpoint."""

    step: Annotated[Number, Field(ge=1)]
    """The bad step, counted from 1."""
    batches: Annotated[tuple[Number, ...], Field(strict=False, min_length=1)]
    """Its micro-batches, by their numbers in the data."""
    why: str
    """What was wrong with the step, in words."""
    cut: Cut
    recipe: Recipe = ""
    """Under which settings it was tried: what others had to undo says nothing about these."""


class Split(Row):
    """From a step on, micro-batches are computed in parts, because whole they did not fit into memory."""

    phase: Phase
    step: Number
    """The first step, or the first evaluation, that is split; steps count from 1."""
    parts: Annotated[Number, Field(ge=2)]
    cut: Cut


class Course(Row):
    """All of it, as a checkpoint keeps it."""

    roll_backs: tuple[RollBack, ...] = ()
    """In the order in which they were decided."""
    splits: tuple[Split, ...] = ()
    losses: tuple[float, ...] = ()
    """Training losses of the newest good steps, oldest first; none where no spikes are looked for."""
    skipped_in_a_row: Number = 0
    """Steps that were skipped since the last good one."""
    recipe: Recipe = ""
    """Under which settings they were."""


PLAIN = Course()
"""Of a run to which nothing happened."""
