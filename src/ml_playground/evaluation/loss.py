"""How well a model predicts a split: loss, perplexity, bits per byte, and what counting achieves beside it.

B rows, T tokens, V vocabulary, n targets.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy

from ml_playground.configuration import families
from ml_playground.configuration.fingerprint import existing_data
from ml_playground.core.error_handling import DataError
from ml_playground.core.registry import load_object
from ml_playground.data_pipeline.batches import NO_TARGET, TokenBatch
from ml_playground.evaluation.baselines import Baselines, Ints, pairs_of
from ml_playground.evaluation.diverged import diverged_on
from ml_playground.models.protocols import NextTokenModel
from ml_playground.objectives.next_token import states_of_batch
from ml_playground.sampling.runner import LoadedRun

Floats = NDArray[np.float64]

LOGITS_AT_ONCE = 1 << 25
"""Logits that exist at the same time: 128 MB in float32, whatever the batch and the vocabulary."""


class Splits(Protocol):
    """What an evaluation needs of a prepared data set."""

    @property
    def fingerprint(self) -> str:
        """sha256 over the content."""
        ...

    def split(self, name: str) -> Iterable[TokenBatch]:
        """The batches of a whole split, each item once.

        Raises:
            DataError: There is no such split; raised by the call, not by the first batch.
        """
        ...


@dataclass(frozen=True, slots=True)
class Score:
    """One predictor on one split."""

    loss: float
    """Nats per target."""
    perplexity: float
    """e to the loss: the number of equally likely tokens that would be as hard to guess."""
    bits_per_byte: float | None
    """Comparable between tokenizers; tokens that stand for no text do not count. None where some targets are unknown to
    the tokenizer: they cost a model next to nothing, and the text behind them is not in the ids."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A model and its baselines on one split."""

    checkpoint: str
    step: int
    weights: str
    split: str
    targets: int
    """Predicted tokens."""
    text_bytes: int
    """UTF-8 bytes of the text that they stand for, as far as the tokenizer knows it."""
    unknown_targets: int
    """Targets that the tokenizer does not know; with any, nobody has bits per byte."""
    model: Score
    baselines: Mapping[str, Score]
    """By name: unigram, bigram; fitted on the training split."""

    def as_json(self) -> dict[str, Any]:
        """Plain values; JSON knows no infinity, so a perplexity beyond all floats is none."""

        def plain(score: Score) -> dict[str, float | None]:
            return {
                name: value if value is not None and math.isfinite(value) else None
                for name, value in asdict(score).items()
            }

        baselines = {name: plain(score) for name, score in self.baselines.items()}
        return asdict(self) | {"model": plain(self.model), "baselines": baselines}


class Tally:
    """Adds up losses of single targets, in float64."""

    def __init__(self, token_bytes: Ints, unknown: int | None = None) -> None:
        """`token_bytes` (V,): what each token stands for; `unknown`: the id that stands for any text, if there is one."""
        self._token_bytes = token_bytes
        self._unknown = unknown
        self._weighted = self._weight = 0.0
        self._nats_of_text = 0.0
        self.targets = 0
        self.text_bytes = 0
        self.unknown_targets = 0

    def add(self, nats: NDArray[np.floating[Any]], targets: Ints, weights: Floats | None = None) -> None:
        """Take in the loss (n,) of each target (n,), and what each weighs in the mean, where that is not 1."""
        size_bytes = self._token_bytes[targets]
        nats = nats.astype(np.float64)
        weights = np.ones(len(nats)) if weights is None else weights
        self._weighted += float((nats * weights).sum())
        self._weight += float(weights.sum())
        self._nats_of_text += float(nats[size_bytes > 0].sum())
        self.targets += len(targets)
        self.text_bytes += int(size_bytes.sum())
        if self._unknown is not None:
            self.unknown_targets += int((targets == self._unknown).sum())

    def score(self) -> Score:
        """The means.

        Raises:
            DataError: No target counts, for then the quotients have no meaning.
        """
        if not self.text_bytes and not self.unknown_targets:
            raise DataError(
                f"The split holds {self.targets} targets that stand for {self.text_bytes} bytes of text; "
                "there is nothing to evaluate. Give it more text (prepare.val_fraction, prepare.test_fraction)."
            )
        loss = self._weighted / self._weight
        # exp overflows above 709.78; NaN goes through.
        perplexity = math.inf if loss > 709 else math.exp(loss)  # noqa: PLR2004
        bits_per_byte = None if self.unknown_targets else self._nats_of_text / math.log(2) / self.text_bytes
        return Score(loss, perplexity, bits_per_byte)


Phase = Literal["counting", "evaluating"]
"""`counting`: the baselines are fitted on the training split; `evaluating`: the model runs over the split that was asked for."""


def ignore_progress(phase: Phase, targets: int) -> None:
    """Nobody watches."""


def evaluate(
    run: LoadedRun, split: str = "val", *, progress: Callable[[Phase, int], None] = ignore_progress
) -> Evaluation:
    """A loaded model over a whole split, each target once, with unigram and bigram baselines beside it.

    Args:
        run: The model; it is run in the precision that its job recorded, as in training.
        split: train, val or test.
        progress: Told after each batch what is being done, and how many targets of it are.

    Raises:
        DataError: The data are not prepared, are not those of the training, or have no such split.
        CheckpointError: The loss is not a number.
    """
    data = data_of(run)
    # Asked for first: a split that does not exist is refused before minutes are spent on counting.
    batches = data.split(split)
    token_bytes = np.array(run.tokenizer.token_bytes(), dtype=np.int64)
    baselines = Baselines.fit(_watched(data.split("train"), progress), run.tokenizer.vocab_size)
    model, unigram, bigram = (Tally(token_bytes, run.tokenizer.specials.unknown) for _ in range(3))
    with precision_of(run):
        for batch in batches:
            before, targets = pairs_of(batch)
            weights = None if batch.weights is None else batch.weights[batch.labels != NO_TARGET].double().numpy()
            model.add(target_nats(run.model, batch, run.execution.device), targets, weights)
            unigram.add(baselines.unigram_nats(targets), targets, weights)
            bigram.add(baselines.bigram_nats(before, targets), targets, weights)
            progress("evaluating", model.targets)
    score = model.score()
    if math.isnan(score.loss):
        raise diverged_on(run.checkpoint.reference, split)
    return Evaluation(
        checkpoint=run.checkpoint.reference,
        step=run.checkpoint.progress.step,
        weights=run.weights,
        split=split,
        targets=model.targets,
        text_bytes=model.text_bytes,
        unknown_targets=model.unknown_targets,
        model=score,
        baselines={"unigram": unigram.score(), "bigram": bigram.score()},
    )


def _watched(batches: Iterable[TokenBatch], progress: Callable[[Phase, int], None]) -> Iterator[TokenBatch]:
    """The same batches; each is reported when the next one is asked for, which is when it has been counted."""
    targets = 0
    for batch in batches:
        yield batch
        targets += int((batch.labels != NO_TARGET).sum())
        progress("counting", targets)


def data_of(run: LoadedRun) -> Splits:
    """The prepared data that a run was trained on.

    Raises:
        DataError: They are not there, or they are others.
    """
    job = run.job
    trained_on = run.checkpoint.data_fingerprint
    if not trained_on:
        raise DataError(
            f"{run.checkpoint.reference} was not trained here and has no data of its own; name an experiment whose prepared data "
            "it is to be evaluated on: --data EXPERIMENT"
        )
    folder = existing_data(job)
    data: Splits = load_object(families.DATA[job.data.kind_name].build)(job.data, folder, job.seed)
    if data.fingerprint != trained_on:
        raise DataError(
            f"{run.checkpoint.reference} was trained on other data (fingerprint {trained_on[:12]}) than now lie in {folder} "
            f"({data.fingerprint[:12]}); an evaluation would compare unlike things. Prepare the former data again."
        )
    return data


def target_nats(
    model: NextTokenModel, batch: TokenBatch, device: torch.device, *, logits_at_once: int = LOGITS_AT_ONCE
) -> NDArray[np.float32]:
    """Loss of each target of a batch, (n,), in nats, in the order of the rows."""
    with torch.inference_mode():
        batch = batch.to(device)
        hidden = states_of_batch(model, batch).hidden.flatten(0, 1)
        labels = batch.labels.flatten()
        rows = max(1, logits_at_once // model.vocab_size)
        parts = [
            cross_entropy(model.head(states).float(), targets, reduction="none")
            for states, targets in _chunks(hidden, labels, rows)
        ]
        nats = torch.cat(parts)[labels != NO_TARGET]
    return nats.cpu().numpy()


def row_nats(model: NextTokenModel, batch: TokenBatch, device: torch.device) -> tuple[Floats, Floats]:
    """Of each row (B,) the nats of its targets, and how many they are; where targets weigh, both are weighted."""
    counted = (batch.labels != NO_TARGET).cpu().numpy()
    weights = counted.astype(np.float64) if batch.weights is None else batch.weights.cpu().double().numpy() * counted
    nats = np.zeros(counted.shape)
    nats[counted] = target_nats(model, batch, device)
    return (nats * weights).sum(axis=1), weights.sum(axis=1)


def _chunks(hidden: torch.Tensor, labels: torch.Tensor, rows: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for first in range(0, len(labels), rows):
        yield hidden[first : first + rows], labels[first : first + rows]


def precision_of(run: LoadedRun) -> AbstractContextManager[Any]:
    """As in training: matrix products in the job's precision, everything else in float32."""
    dtype = run.execution.dtype
    return torch.autocast(run.execution.device.type, dtype=dtype, enabled=dtype is not torch.float32)
