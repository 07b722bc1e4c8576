"""Answers of a model to chats: in batches for an evaluation, and one as it is drawn for whoever waits for it."""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, repeat
from typing import Any, Literal

from ml_playground.configuration.sample_settings import SampleSettings
from ml_playground.core.seeding import seed_for
from ml_playground.core.tokenizer_protocol import Tokenizer
from ml_playground.core.values import Message
from ml_playground.models.protocols import Decoder
from ml_playground.sampling.chat import ChatPrompter, Turn
from ml_playground.sampling.generate import Likelihoods, Token, generate
from ml_playground.sampling.texts import ROWS_AT_ONCE, Steering, TextWriter

End = Literal["stop", "length", "interrupted"]
GREEDY = SampleSettings(temperature=0.0, num_samples=1)
"""The likeliest answer: what evaluations compare."""
BATCHES_SORTED = 8
"""Batches within which chats are drawn by length, so that little is padding."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model answered."""

    text: str
    ids: tuple[int, ...]
    """Of the answer, without the id that ended it."""
    end: End
    """`length`: it was cut off at the longest length, so that nobody knows its end."""
    log_probability: float
    """In nats, of all its tokens and of the one that ended it, as the model itself saw them: before processors and filters."""
    tokens: int
    """How many these are."""
    statistics: Sequence[Mapping[str, Any]] = ()
    """What each processor did, beside its label."""
    notes: Sequence[str] = ()
    """What was done to the prompt: turns that were left out."""

    @property
    def confidence(self) -> float:
        """Geometric mean of the tokens' probabilities, which a calibration compares with how often answers are right.

        The product of them would call every long answer improbable, however sure each of its tokens is.
        """
        return math.exp(self.log_probability / self.tokens) if self.tokens else math.nan


def steering_of(prompter: ChatPrompter, settings: SampleSettings) -> Steering:
    """The stops and, if the settings want them, the processors of a run's chats."""
    return Steering(prompter.stop_ids, prompter.processors() if settings.processors else ())


def draw_answers(
    decoder: Decoder,
    prompter: ChatPrompter,
    chats: Iterable[Sequence[Message]],
    settings: SampleSettings = GREEDY,
    *,
    facts: Iterable[Mapping[str, Any]] | None = None,
    rows_at_once: int = ROWS_AT_ONCE,
) -> Iterator[Answer]:
    """The answer to each chat, in their order.

    Args:
        decoder: Of the model.
        prompter: Of the run; what it adds to messages, `prompter.dressed`, prepared chats have already.
        chats: Messages up to a question, as they were prepared.
        settings: How to draw; greedy if nothing is said. `num_samples` and `num_beams` have no say.
        facts: Of each chat, where templates are to know their tools.
        rows_at_once: Bounds the memory; changes no answer.

    Raises:
        DataError: The template refuses a chat.
        CheckpointError: The model gives logits that are not numbers.
    """
    steering = steering_of(prompter, settings)
    asked = zip(chats, repeat({}) if facts is None else facts, strict=facts is not None)
    waiting = enumerate(
        prompter.prompt([Turn(message) for message in chat], facts=known, room=settings.max_new_tokens)
        for chat, known in asked
    )
    while group := dict(islice(waiting, rows_at_once * BATCHES_SORTED)):
        by_length = sorted(group, key=lambda number: len(group[number].ids))
        answers: dict[int, Answer] = {}
        for first in range(0, len(by_length), rows_at_once):
            rows = by_length[first : first + rows_at_once]
            prompts = [group[number].ids for number in rows]
            seeds = [seed_for(settings.seed, "answer", number) for number in rows]
            batch = Answering(decoder, prompter.tokenizer, prompts, settings, steering, seeds=seeds)
            deque(batch, maxlen=0)
            answers |= dict(zip(rows, batch.answers, strict=True))
        for number, prompt in group.items():
            yield replace(answers[number], notes=prompt.notes)


class Answering:
    """Answers to some prompts as they are drawn, in one batch."""

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: Tokenizer,
        prompts: Sequence[Sequence[int]],
        settings: SampleSettings,
        steering: Steering,
        *,
        seeds: Sequence[int],
    ) -> None:
        self._steering = steering
        self._likelihoods = Likelihoods(len(prompts))
        self._ids: list[list[int]] = [[] for _ in prompts]
        self._texts = [""] * len(prompts)
        self._ends: list[End] = ["interrupted"] * len(prompts)
        self._writers = [TextWriter(tokenizer.decode, settings.stop) for _ in prompts]
        self._fresh: dict[int, str] = {}
        self._steps = generate(
            decoder,
            prompts,
            settings,
            seeds=seeds,
            stop_ids=steering.stop_ids,
            ended=self._ended,
            processors=steering.processors,
            likelihoods=self._likelihoods,
        )

    def __iter__(self) -> Iterator[Mapping[int, str]]:
        """After each step what the rows gained that can be shown, by their number."""
        live = set(range(len(self._ids)))
        for tokens in self._steps:
            going_on = {token.row for token in tokens if not self._writers[token.row].stopped}
            self._end(live - going_on, "stop")
            live = going_on
            yield self._given_out()
        self._end(live, "length")
        yield self._given_out()

    @property
    def answers(self) -> list[Answer]:
        """All there is of them."""
        return [
            Answer(text, tuple(ids), end, total, tokens, self._steering.statistics(ids))
            for text, ids, end, total, tokens in zip(
                self._texts,
                self._ids,
                self._ends,
                self._likelihoods.totals,
                self._likelihoods.tokens,
                strict=True,
            )
        ]

    def _ended(self, token: Token) -> bool:
        self._ids[token.row].append(token.id)
        self._fresh[token.row] = self._writers[token.row].add(token.id)
        return self._writers[token.row].stopped

    def _end(self, rows: Iterable[int], end: End) -> None:
        for row in rows:
            self._ends[row] = end
            self._fresh[row] = self._fresh.get(row, "") + self._writers[row].finish()

    def _given_out(self) -> Mapping[int, str]:
        fresh, self._fresh = self._fresh, {}
        for row, text in fresh.items():
            self._texts[row] += text
        return fresh
