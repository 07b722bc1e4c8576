"""How well a model tells better answers from worse ones, over prepared pairs. B pairs."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch

from ml_playground.configuration.models import JobConfig
from ml_playground.data_pipeline.batches import PairBatch
from ml_playground.evaluation.diverged import diverged_on
from ml_playground.evaluation.intervals import Estimate, share_of
from ml_playground.evaluation.loss import data_of, precision_of
from ml_playground.objectives.dpo import build
from ml_playground.objectives.settings import Dpo
from ml_playground.sampling.runner import LoadedRun


@dataclass(frozen=True, slots=True)
class PairEvaluation:
    """A model on one split of pairs, by comparison with the reference."""

    checkpoint: str
    step: int
    weights: str
    split: str
    pairs: int
    loss: float
    """Of the run's own variant and beta, without label smoothing; at the reference it is ln 2 (`sigmoid`) or 1 / (4 beta^2) (`ipo`)."""
    accuracy: Estimate
    """Share of pairs whose better answer became likelier than the worse one, by comparison with the reference."""
    margin: float
    """Mean difference of both rewards, beta times nats."""
    reference_accuracy: Estimate
    """Share of pairs whose better answer the reference itself thinks likelier."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {
            "accuracy": self.accuracy._asdict(),
            "reference_accuracy": self.reference_accuracy._asdict(),
        }


def evaluate_pairs(run: LoadedRun, split: str, *, progress: Callable[[int], None]) -> PairEvaluation:
    """Compare both answers of each pair of a split.

    Args:
        run: The model; it is run in the precision that its job recorded, as in training.
        split: train, val or test.
        progress: Told after each batch how many pairs are done.

    Raises:
        DataError: The data are not prepared, are not those of the training, or have no such split.
        CheckpointError: The loss is not a number.
    """
    objective = build(settings_of(run.job))
    totals: dict[str, float] = defaultdict(float)
    pairs = preferred = 0
    with torch.inference_mode(), precision_of(run):
        for batch in cast(Iterable[PairBatch], data_of(run).split(split)):
            for name, sums in objective.sums(run.model, batch.to(run.execution.device)).items():
                totals[name] += float(sums[0])
            preferred += int((batch.reference[::2] > batch.reference[1::2]).sum())
            pairs += batch.rows
            progress(pairs)
    if math.isnan(totals["loss"]):
        raise diverged_on(run.checkpoint.reference, split)
    return PairEvaluation(
        checkpoint=run.checkpoint.reference,
        step=run.checkpoint.progress.step,
        weights=run.weights,
        split=split,
        pairs=pairs,
        loss=totals["loss"] / pairs,
        accuracy=share_of(round(totals["accuracy"]), pairs),
        margin=totals["margin"] / pairs,
        reference_accuracy=share_of(preferred, pairs),
    )


def settings_of(job: JobConfig) -> Dpo:
    """How pairs are compared: as the run learnt to, or as usual where it learnt texts."""
    return job.objective if isinstance(job.objective, Dpo) else Dpo()
