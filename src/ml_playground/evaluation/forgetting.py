"""What a training has cost elsewhere: the loss on other prepared data, before it and after."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ml_playground.configuration.models import JobConfig
from ml_playground.core.error_handling import DataError
from ml_playground.core.seeding import seed_for
from ml_playground.evaluation.intervals import Estimate, mean_of
from ml_playground.evaluation.loss import data_of, precision_of, row_nats
from ml_playground.evaluation.other_data import over_data_of
from ml_playground.sampling.runner import LoadedRun


@dataclass(frozen=True, slots=True)
class Forgetting:
    """One model before and after, on the same rows."""

    name: str
    """Of the other data."""
    split: str
    targets: int
    before: Estimate
    """Nats a target, of the model that training began with."""
    after: Estimate
    """The same of the trained one."""
    difference: Estimate
    """After less before: above 0 something was forgotten. The interval is of pairs, in which the difficulty of the rows cancels."""


def forgetting_of(
    before: LoadedRun, after: LoadedRun, other: JobConfig, split: str, progress: Callable[[int], None]
) -> Forgetting:
    """Both models over a whole split of the prepared data of another job; `progress` is told how many targets are read.

    Raises:
        ConfigError: The data are images.
        DataError: They are not prepared, of another tokenizer, or have no such split.
    """
    one, two = over_data_of(before, other), over_data_of(after, other)
    nats: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    with precision_of(after):
        for batch in data_of(two).split(split):
            (was, counts), (is_, _) = (row_nats(run.model, batch, run.execution.device) for run in (one, two))
            nats.append(np.stack([was, is_]))
            targets.append(counts)
            progress(round(sum(part.sum() for part in targets)))
    sums, counts = np.concatenate(nats, axis=1), np.concatenate(targets)
    if not counts.sum():
        raise DataError(f"The {split} split of {other.name!r} has no targets; name other data: --also EXPERIMENT")
    seed = seed_for(after.job.seed, "forgetting")
    return Forgetting(
        name=other.name,
        split=split,
        targets=round(counts.sum()),
        before=mean_of(sums[0], counts, seed=seed),
        after=mean_of(sums[1], counts, seed=seed),
        difference=mean_of(sums[1] - sums[0], counts, seed=seed),
    )
