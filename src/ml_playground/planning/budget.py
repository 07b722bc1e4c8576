"""Which model to train, and how, for the lowest loss in a given time: a search among candidates, measured where it matters.

Pure: what a step costs is asked of a function that measures, what a loss will be of the fitted law. T tokens of a row.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ml_playground.core.error_handling import ConfigError
from ml_playground.planning.scaling import Forecast, Law, TextDifficulty, Training, forecast

SMALLEST_MINUTES = 0.5
"""Below it starting, preparing and sampling take so much that nothing is left to plan."""
LEAST_STEPS = 64
"""A run of fewer steps learns little more than how often each token occurs."""
SIZES: Mapping[int, tuple[int, ...]] = {
    96: (1, 2, 3),
    128: (1, 2, 3, 4),
    160: (3, 4),
    192: (2, 3, 4, 5),
    256: (2, 3, 4, 6),
    384: (2, 3, 4, 6, 8),
    512: (4, 8),
    640: (10,),
    768: (12,),
    1024: (16,),
}
"""Blocks of the candidates, by their width; wide and shallow ones use a processor best: 2 of 256 end lower than 4 of 192 (docs/LOG.md)."""
CONTEXTS = (64, 128, 256, 512)
"""T of the candidates."""
STEP_TOKENS = (1536, 2048, 3072, 6144, 12288, 24576, 49152, 98304)
"""Tokens of a step of the candidates; 768 ended at 1.556 where 1536 ended at 1.510 with as many tokens and weights (docs/LOG.md)."""
LEAST_ROWS = 6
"""Fewer places of the text in a step than this say too much of one of them."""
NEWTON_SCHULZ = 280
"""Operations of Muon a step and block, in units of width cubed: five iterations over matrices of 12 width squared numbers."""
ATTENTION_WEIGHT = 4
"""How much longer an operation of attention takes than one of a matrix product: it moves more memory."""
MOST_TRIALS = 5
"""Candidates that are measured at most."""
EVALUATIONS = 10
"""Evaluations of a run at most; each on the whole validation part where they all cost less than `EVALUATION_SHARE`."""
EVALUATION_SHARE = 0.025
"""Of the time."""
LEAST_EVALUATED = 40_000
"""Tokens below which the loss of an evaluation is known to no better than 0.01 nats."""
GENEROUS = 4
"""Steps that are allowed for each one that is expected: the clock ends the run, on a machine twice as fast too."""
DROPOUTS = (0.0, 0.05, 0.1, 0.2)
"""The law chooses among them: dropout is worth its price only where a text is soon known by heart."""
DROPOUT_TIME = 1.2
"""How much longer a step takes with any of them (docs/LOG.md)."""


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What the prepared text is."""

    vocab_size: int
    train_tokens: int
    validation_tokens: int
    bytes_per_token: float


@dataclass(frozen=True, slots=True, order=True)
class Candidate:
    """A model and its batches."""

    layers: int
    width: int
    sequence_tokens: int
    rows: int

    @property
    def heads(self) -> int:
        """Heads of 32 features in narrow models, of 64 in wide ones."""
        return max(1, self.width // (32 if self.width < 256 else 64))  # noqa: PLR2004

    @property
    def step_tokens(self) -> int:
        """Tokens of a step."""
        return self.sequence_tokens * self.rows

    @property
    def parameters(self) -> int:
        """Weights of the matrices in the blocks: queries, keys, values, projection, and four times the width up and down."""
        return 12 * self.layers * self.width**2

    def work(self, vocab_size: int) -> float:
        """Operations of a step, attention and the optimizer's in units of a matrix product's."""
        products = 6 * (self.parameters + self.width * vocab_size)
        attention = ATTENTION_WEIGHT * 12 * self.layers * self.width * self.sequence_tokens
        return self.step_tokens * (products + attention) + NEWTON_SCHULZ * self.layers * self.width**3

    def training(self, facts: DataFacts, steps: float, dropout: float = 0.0) -> Training:
        """What the law must know of so many steps."""
        return Training(
            parameters=self.parameters,
            bytes_per_token=facts.bytes_per_token,
            text_tokens=facts.train_tokens,
            sequence_tokens=self.sequence_tokens,
            step_tokens=self.step_tokens,
            steps=steps,
            dropout=dropout,
        )

    def __str__(self) -> str:
        return f"{self.layers} blocks of {self.width}, context {self.sequence_tokens}, {self.rows} rows"


ANCHOR = Candidate(layers=3, width=128, sequence_tokens=64, rows=24)
"""The model of the short training that tells how hard a text is; the law was fitted with the same one."""
ANCHOR_STEPS = 262
"""Its steps, where there is time for them: after 65 a text's forecast is wrong by 6 % for each decade, after 131 by 3 %."""
TRIAL_STEPS = 40
"""Steps of a candidate that is only timed."""


@dataclass(frozen=True, slots=True)
class Timing:
    """What a candidate costs on this machine."""

    step_s: float
    evaluation_s: float
    """A token of validation."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The best candidate, and what is expected of it."""

    candidate: Candidate
    timing: Timing
    steps: int
    expected: Forecast
    tried: Mapping[Candidate, float]
    """Expected loss of every candidate that was measured, and of the one that was guessed where the time for measuring was over."""
    dropout: float = 0.0


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a candidate comes to in the time there is, with the dropout that suits it best."""

    training: Training
    expected: Forecast


@dataclass(frozen=True, slots=True)
class Search:
    """What the search among candidates needs to know."""

    law: Law
    facts: DataFacts
    text: TextDifficulty
    seconds: float
    """For training alone."""
    fits: Callable[[Candidate], bool]
    """Whether it fits the memory."""
    fixed: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Keys that their user has set, which are not planned."""

    @property
    def anchor(self) -> Candidate:
        """The model of the short training, as far as its user leaves it."""
        return anchor_of(self.fixed)

    def steps(self, step_s: float) -> float:
        """How many there is time for."""
        return self.seconds * (1 - EVALUATION_SHARE) / step_s

    def outlook(self, candidate: Candidate, step_s: float) -> Outlook:
        """What comes of it, if a step takes so long."""
        possible = [candidate.training(self.facts, self.steps(longer * step_s), d) for d, longer in self._dropouts()]
        outlooks = [Outlook(training, forecast(self.law, self.text, training)) for training in possible]
        return min(outlooks, key=lambda outlook: outlook.expected.loss)

    def _dropouts(self) -> list[tuple[float, float]]:
        """Dropouts to choose from, and how much longer a step takes than the one that was timed."""
        fixed = self.fixed.get("model.dropout")
        if fixed is not None:
            return [(fixed, 1.0)]
        return [(dropout, DROPOUT_TIME if dropout else 1.0) for dropout in DROPOUTS]


def anchor_of(fixed: Mapping[str, Any]) -> Candidate:
    """The anchor, but for what its user has set."""
    return Candidate(
        layers=fixed.get("model.n_layer") or ANCHOR.layers,
        width=fixed.get("model.n_embd") or ANCHOR.width,
        sequence_tokens=fixed.get("data.sequence_tokens") or ANCHOR.sequence_tokens,
        rows=fixed.get("data.micro_batch_rows") or ANCHOR.rows,
    )


def candidates(facts: DataFacts, fixed: Mapping[str, Any]) -> list[Candidate]:
    """All that agree with what is fixed, and of whose windows the validation part holds at least one."""
    layers, width = fixed.get("model.n_layer"), fixed.get("model.n_embd")
    context, rows = fixed.get("data.sequence_tokens"), fixed.get("data.micro_batch_rows")
    heads: int = fixed.get("model.n_head") or 1
    sizes = {(layers or blocks, width or wide) for wide, several in SIZES.items() for blocks in several}
    sizes = {size for size in sizes if size[1] % heads == 0} or sizes
    contexts = [context] if context else [T for T in CONTEXTS if min(facts.validation_tokens, facts.train_tokens) > T]
    found = {
        Candidate(blocks, wide, T, rows or max(LEAST_ROWS, tokens // T))
        for blocks, wide in sizes
        for T in contexts
        for tokens in STEP_TOKENS
    }
    return sorted(found)


def search(wanted: Search, measured: Callable[[Candidate], Timing | None], first: Timing) -> Choice:
    """Measure what looks best until nothing better is in sight, or the time for measuring is over.

    Args:
        wanted: Law, text, time, limits.
        measured: Measures a candidate; None when there is no time left for it.
        first: What the anchor costs.

    Raises:
        ConfigError: No candidate fits the memory.
    """
    everything = candidates(wanted.facts, wanted.fixed)
    timings: dict[Candidate, Timing] = {wanted.anchor: first}
    best = _best(wanted, timings, everything)
    in_time = True
    while in_time and best not in timings and len(timings) <= MOST_TRIALS:
        timing = measured(best)
        in_time = timing is not None
        if timing is not None:
            timings[best] = timing
            best = _best(wanted, timings, everything)
    known = {candidate: timing for candidate, timing in timings.items() if candidate in everything}
    # Where the time for measuring is over, the best guess beats the little that was measured: the run ends by the clock however long
    # its steps are. On a busy machine the anchor alone was measured, and its own size was 0.13 nats worse than recipe/speed.
    if not known or not in_time:
        known[best] = Timing(_step_s(wanted, timings, best), first.evaluation_s)
    outlooks = {candidate: wanted.outlook(candidate, timing.step_s) for candidate, timing in known.items()}
    losses = {candidate: outlook.expected.loss for candidate, outlook in outlooks.items()}
    chosen = min(losses, key=lambda candidate: losses[candidate])
    training = outlooks[chosen].training
    return Choice(
        chosen, known[chosen], int(training.steps), outlooks[chosen].expected, losses, dropout=training.dropout
    )


def _best(wanted: Search, timings: Mapping[Candidate, Timing], everything: list[Candidate]) -> Candidate:
    """The candidate of the lowest expected loss among those that fit; the others are removed as they are met."""
    while everything:
        best = min(everything, key=lambda candidate: _expected_loss(wanted, timings, candidate))
        if wanted.fits(best):
            return best
        everything.remove(best)
    raise ConfigError(
        "no candidate of --minutes fits the memory that is free; free some, or set a smaller model.n_embd."
    )


def _expected_loss(wanted: Search, timings: Mapping[Candidate, Timing], candidate: Candidate) -> float:
    step_s = _step_s(wanted, timings, candidate)
    # Too few steps for the law to mean anything.
    return wanted.outlook(candidate, step_s).expected.loss if wanted.steps(step_s) >= LEAST_STEPS else math.inf


def _step_s(wanted: Search, timings: Mapping[Candidate, Timing], candidate: Candidate) -> float:
    """Seconds of a step: measured, or from the measured candidate that is most alike."""
    if candidate in timings:
        return timings[candidate].step_s
    vocab_size = wanted.facts.vocab_size
    work = candidate.work(vocab_size)
    alike = min(timings, key=lambda other: abs(math.log(work / other.work(vocab_size))))
    starting_s = _starting_s(timings, vocab_size)
    return starting_s * candidate.layers + (timings[alike].step_s - starting_s * alike.layers) * work / alike.work(
        vocab_size
    )


def _starting_s(timings: Mapping[Candidate, Timing], vocab_size: int) -> float:
    """Seconds that starting the operations of a block takes: what makes the work of all that were measured equally fast.

    One measurement alone tells nothing of it: then a third of the step, as in small models on a CPU, or 2 ms if that is less.
    """
    most_s = min(timing.step_s / candidate.layers for candidate, timing in timings.items())
    if len(timings) == 1:
        return min(0.35 * most_s, 0.002)

    def unlike(starting_s: float) -> float:
        rates = [
            math.log((timing.step_s - starting_s * candidate.layers) / candidate.work(vocab_size))
            for candidate, timing in timings.items()
        ]
        return max(rates) - min(rates)

    return min((share / 20 * most_s for share in range(20)), key=unlike)
