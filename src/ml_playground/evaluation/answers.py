"""How well a model answers: exact and normalised match, how sure it is, by level and domain; and against another model."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np

from ml_playground.core.error_handling import CheckpointError
from ml_playground.core.seeding import seed_for
from ml_playground.evaluation.answer_loss import RowLosses
from ml_playground.evaluation.calibration import Calibration, calibration_of
from ml_playground.evaluation.intervals import Estimate, mean_of, share_of
from ml_playground.evaluation.paired import mcnemar_p
from ml_playground.evaluation.questions import Question
from ml_playground.sampling.answers import GREEDY, Answer, draw_answers
from ml_playground.sampling.chat import ChatPrompter
from ml_playground.sampling.runner import LoadedRun

GROUPS = ("level", "domain")
"""Facts of a row by which answers are counted apart."""
MOST_GROUPS = 50
"""Of one fact; with more it tells rows apart, not kinds of them."""
MISTAKES = 5
"""That are shown."""
MORE_TOKENS = 16
"""Beside twice the longest wanted answer: a longer one is wrong, whatever follows."""


class Scores(Protocol):
    """What of a data profile an evaluation needs (profiles.protocol)."""

    def answer_of(self, text: str) -> str | None:
        """What of a text is scored; none: it holds no answer."""
        ...

    def matches(self, given: str, wanted: str) -> bool:
        """Whether two texts answer the same."""
        ...


@dataclass(frozen=True, slots=True)
class Given:
    """A question and what a model answered."""

    question: Question
    answer: Answer
    exact: bool
    """The very text that was wanted, but for white space at its ends, and complete."""
    matched: bool
    """The same answer, as the run's profile compares answers."""
    scored: bool
    """Whether it holds an answer at all."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Some answers, counted."""

    questions: int
    exact: Estimate
    matched: Estimate


@dataclass(frozen=True, slots=True)
class Answered:
    """A model on some questions."""

    shares: Shares
    unscored: int
    """Answers that hold none, as the profile sees it."""
    cut: int
    """Answers that did not end by themselves."""
    loss: Estimate | None
    """Nats a target of the answers alone; none: no row could be read."""
    calibration: Calibration
    """Of the probability of the whole answer as a text, against exact match: the model says how probable this very text is."""
    groups: Mapping[str, Mapping[str, Shares]]
    """Fact -> value -> its answers."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Another model on the same questions, beside the one that is evaluated."""

    name: str
    answered: Answered
    matched_difference: Estimate
    """Share of matched answers of the evaluated model, less that of this one."""
    only_here: int
    """Questions that the evaluated model alone answers."""
    only_there: int
    """Questions that this one alone answers."""
    p: float
    """How probable they fall so unevenly if both are equally good."""
    loss_difference: Estimate | None
    """Nats a target, of the evaluated model less of this one; none where they read other tokens."""


def answers_to(
    run: LoadedRun,
    prompter: ChatPrompter,
    questions: Sequence[Question],
    *,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Given]:
    """The likeliest answer of a model to each question.

    Args:
        run: The model; its job says how long an answer may become and whether the profile steers it.
        prompter: How it is asked, and by whose profile answers are compared.
        questions: At least one.
        progress: Told how many are answered.

    Raises:
        DataError: The template refuses a chat.
        CheckpointError: The model gives logits that are not numbers.
    """
    wanted = [len(run.tokenizer.encode(question.wanted)) for question in questions]
    sample = run.job.sample
    settings = GREEDY.model_copy(
        update={
            "max_new_tokens": min(sample.max_new_tokens, 2 * max(wanted) + MORE_TOKENS),
            "stop": sample.stop,
            "processors": sample.processors,
        }
    )
    scores = cast(Scores, prompter.profile)
    given: list[Given] = []
    chats, facts = [question.messages for question in questions], [question.facts for question in questions]
    decoder = run.model.decoder(run.precision)
    drawn = draw_answers(decoder, prompter, chats, settings, facts=facts)
    for question, answer in zip(questions, drawn, strict=True):
        complete = answer.end == "stop"
        given.append(
            Given(
                question,
                answer,
                exact=complete and answer.text.strip() == question.wanted.strip(),
                matched=complete and scores.matches(answer.text, question.wanted),
                scored=scores.answer_of(answer.text) is not None,
            )
        )
        progress(len(given))
    return given


def answered(given: Sequence[Given], losses: RowLosses, seed: int) -> Answered:
    """What came of it, each number with its interval."""
    read = losses.read
    loss = None
    if read.any():
        if not np.isfinite(losses.nats[read]).all():
            raise CheckpointError(
                "The loss on answers is not a number: the weights have diverged; use another checkpoint."
            )
        loss = mean_of(losses.nats[read], losses.targets[read], seed=seed_for(seed, "loss"))
    return Answered(
        shares=shares_of(given),
        unscored=sum(not one.scored for one in given),
        cut=sum(one.answer.end != "stop" for one in given),
        loss=loss,
        calibration=calibration_of(
            [float(np.exp(one.answer.log_probability)) for one in given],
            [one.exact for one in given],
            seed=seed_for(seed, "calibration"),
        ),
        groups=grouped(given),
    )


def shares_of(given: Sequence[Given]) -> Shares:
    """Of at least one answer."""
    exact, matched = sum(one.exact for one in given), sum(one.matched for one in given)
    return Shares(len(given), share_of(exact, len(given)), share_of(matched, len(given)))


def grouped(given: Sequence[Given], names: Iterable[str] = GROUPS) -> dict[str, dict[str, Shares]]:
    """Answers by what their rows say of themselves; a fact that no row has, or that is another for nearly every row, is left out."""
    found: dict[str, dict[str, Shares]] = {}
    for name in names:
        values: dict[Any, list[Given]] = {}
        for one in given:
            value = one.question.facts.get(name)
            if isinstance(value, str | int | float | bool):
                values.setdefault(value, []).append(one)
        if 0 < len(values) <= MOST_GROUPS:
            # Numbers by their size, before texts by their letters.
            ordered = sorted(
                values, key=lambda value: (isinstance(value, str), str(value) if isinstance(value, str) else value)
            )
            found[name] = {str(value): shares_of(values[value]) for value in ordered}
    return found


def compared(
    name: str, here: Sequence[Given], there: Sequence[Given], losses: RowLosses, others: RowLosses | None, seed: int
) -> Compared:
    """Two models on the same questions, in the same order.

    Args:
        name: Of the other one.
        here: Answers of the evaluated model.
        there: Those of the other.
        losses: On the rows, of the evaluated model.
        others: The same of the other; none: it reads other tokens.
        seed: Of the intervals.
    """
    unlike = [one.matched - other.matched for one, other in zip(here, there, strict=True)]
    difference = None
    both = losses.read & others.read if others is not None else None
    if others is not None and both is not None and both.any():
        difference = mean_of(
            losses.nats[both] - others.nats[both], losses.targets[both], seed=seed_for(seed, "difference")
        )
    nothing = RowLosses(np.full(len(there), np.nan), np.zeros(len(there)))
    return Compared(
        name=name,
        answered=answered(there, nothing if others is None else others, seed),
        matched_difference=mean_of(unlike, np.ones(len(unlike)), seed=seed_for(seed, "matched")),
        only_here=unlike.count(1),
        only_there=unlike.count(-1),
        p=mcnemar_p(unlike.count(1), unlike.count(-1)),
        loss_difference=difference,
    )


def worst(given: Sequence[Given], most: int = MISTAKES) -> list[Given]:
    """Wrong answers of which the model was surest, a token."""
    wrong = [one for one in given if not one.matched]
    return sorted(wrong, key=lambda one: -one.answer.confidence)[:most]
