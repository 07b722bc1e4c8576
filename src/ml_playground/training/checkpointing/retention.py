"""Which checkpoints may go: a rule on steps and metrics that touches no file."""

import math
from collections.abc import Collection
from typing import NamedTuple


class Kept(NamedTuple):
    """A checkpoint as the rule sees it."""

    step: int
    cost: float | None
    """Of its evaluation, lower is better; None or NaN where it was not evaluated."""


def to_drop(checkpoints: Collection[Kept], *, keep_last: int, keep_best: int, keep_every_steps: int | None) -> set[int]:
    """Steps whose checkpoints may go: not among the newest, not among the best, not a multiple of `keep_every_steps`.

    The newest is kept whatever the numbers say. Of equally good ones the newer are the better; NaN is never good.
    """
    newest = sorted((kept.step for kept in checkpoints), reverse=True)[: max(1, keep_last)]
    judged = [kept for kept in checkpoints if kept.cost is not None and not math.isnan(kept.cost)]
    best = sorted(judged, key=lambda kept: (kept.cost, -kept.step))[:keep_best]
    stays = {*newest, *(kept.step for kept in best)}
    if keep_every_steps:
        stays |= {kept.step for kept in checkpoints if kept.step % keep_every_steps == 0}
    return {kept.step for kept in checkpoints} - stays
