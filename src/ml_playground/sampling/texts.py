"""From tokens to text that can be shown at once: nothing given out is ever taken back."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ml_playground.configuration.sample_settings import SampleSettings
from ml_playground.core.seeding import seed_for
from ml_playground.core.stream_decoder import StreamDecoder
from ml_playground.core.tokenizer_protocol import Tokenizer
from ml_playground.models.protocols import Decoder, LogitsProcessor
from ml_playground.sampling.beam import Continuation, search
from ml_playground.sampling.generate import Token, generate

ROWS_AT_ONCE = 16
"""Rows of a batch: the cache of a 124M model at 1024 positions takes 75 MB a row in float32, 1.2 GB for 16."""

End = Literal["length", "stop"]


@dataclass(frozen=True, slots=True)
class Piece:
    """What one continuation gains in one step; `end` is set on its last piece."""

    prompt: int
    sample: int
    text: str
    tokens: int
    """Tokens of the continuation so far, stops not counted."""
    end: End | None = None
    score: float | None = None
    """Of a continuation that a beam search found, in nats (`beam.Continuation`)."""
    statistics: Sequence[Mapping[str, Any]] = ()
    """Of the last piece: what each processor did, beside its label, as JSON values."""


@dataclass(frozen=True, slots=True)
class Steering:
    """What ends a text and what changes how it is drawn, beside the settings."""

    stop_ids: Collection[int]
    """Ids that end a text; they are not part of it."""
    processors: Sequence[LogitsProcessor] = ()
    """Those of the run's profile."""

    def statistics(self, drawn: Sequence[int]) -> tuple[Mapping[str, Any], ...]:
        """What each processor did to a row that has drawn these ids."""
        return tuple({"label": processor.label, **processor.statistics(drawn)} for processor in self.processors)


def draw_texts(
    decoder: Decoder,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    settings: SampleSettings,
    *,
    steering: Steering | None = None,
    rows_at_once: int = ROWS_AT_ONCE,
) -> Iterator[Piece]:
    """Go on `settings.num_samples` times from each prompt, in batches; with beams, the so many best of each prompt.

    Sample i of prompt j is the same whatever else is drawn: its seed is `seed_for(settings.seed, "sample", j, i)`.

    Args:
        decoder: Of the model.
        tokenizer: The model's own.
        prompts: Token ids, at least one each.
        settings: How to draw, how many, and where to stop.
        steering: What ends a text; none: the tokenizer's mark of an end.
        rows_at_once: Bounds the memory; changes no text.

    Raises:
        CheckpointError: The model gives logits that are not numbers.
        ConfigError: The model cannot be searched with so many beams.
    """
    steering = steering or Steering(stop_ids(tokenizer))
    if settings.num_beams > 1:
        for number, prompt in enumerate(prompts):
            yield from _search(decoder, tokenizer, prompt, settings, number, steering)
        return
    jobs = [(prompt, sample) for prompt in range(len(prompts)) for sample in range(settings.num_samples)]
    for first in range(0, len(jobs), rows_at_once):
        yield from _draw_batch(decoder, tokenizer, prompts, settings, jobs[first : first + rows_at_once], steering)


def _draw_batch(
    decoder: Decoder,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    settings: SampleSettings,
    jobs: Sequence[tuple[int, int]],
    steering: Steering,
) -> Iterator[Piece]:
    writers = [TextWriter(tokenizer.decode, settings.stop) for _ in jobs]
    drawn: list[list[int]] = [[] for _ in jobs]
    fresh: dict[int, str] = {}

    def ended(token: Token) -> bool:
        drawn[token.row].append(token.id)
        fresh[token.row] = writers[token.row].add(token.id)
        return writers[token.row].stopped

    steps = generate(
        decoder,
        [prompts[prompt] for prompt, _ in jobs],
        settings,
        seeds=[seed_for(settings.seed, "sample", prompt, sample) for prompt, sample in jobs],
        stop_ids=steering.stop_ids,
        ended=ended,
        processors=steering.processors,
    )

    def last_piece(row: int, text: str, end: End) -> Piece:
        found = steering.statistics(drawn[row])
        return Piece(*jobs[row], text + writers[row].finish(), writers[row].tokens, end, statistics=found)

    live = set(range(len(jobs)))
    for tokens in steps:
        going_on = {token.row for token in tokens if not writers[token.row].stopped}
        for row in sorted(live):
            text = fresh.pop(row, "")
            if row not in going_on:
                yield last_piece(row, text, "stop")
            elif text:
                yield Piece(*jobs[row], text, writers[row].tokens)
        live = going_on
    for row in sorted(live):
        yield last_piece(row, "", "length")


def _search(
    decoder: Decoder,
    tokenizer: Tokenizer,
    prompt: Sequence[int],
    settings: SampleSettings,
    number: int,
    steering: Steering,
) -> Iterator[Piece]:
    def written(ids: Sequence[int]) -> tuple[str, bool]:
        writer = TextWriter(tokenizer.decode, settings.stop)
        text = "".join([writer.add(id_) for id_ in ids])
        return text + writer.finish(), writer.stopped

    def stops(ids: Sequence[int]) -> bool:
        return bool(settings.stop) and written(ids)[1]

    found: Sequence[Continuation] = ()
    for found in search(
        decoder, prompt, settings, stop_ids=steering.stop_ids, stops=stops, processors=steering.processors
    ):
        # Nothing is certain before the end, but whoever reads this may want to leave.
        if not found:
            yield Piece(number, 0, "", 0)
    for sample, continuation in enumerate(found[: settings.num_samples]):
        text, _ = written(continuation.ids)
        statistics = steering.statistics(continuation.ids)
        yield Piece(number, sample, text, len(continuation.ids), continuation.end, continuation.score, statistics)


def stop_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """Ids that end a text: the end-of-text mark, where the tokenizer has one."""
    eos = tokenizer.specials.eos
    return frozenset() if eos is None else frozenset({eos})


class TextWriter:
    """The text of one continuation, given out as far as it is certain."""

    def __init__(self, decode: Callable[[Sequence[int]], str], stops: Sequence[str]) -> None:
        self.tokens = 0
        self._decoder = StreamDecoder(decode)
        self._stops = StopTexts(stops)

    @property
    def stopped(self) -> bool:
        """A stop text is complete; nothing follows."""
        return self._stops.found

    def add(self, token: int) -> str:
        """What can be shown now that this token is known."""
        self.tokens += 1
        return self._stops.add(self._decoder.add(token))

    def finish(self) -> str:
        """What was held back and is certain at the end."""
        return self._stops.add(self._decoder.finish()) + self._stops.finish()


class StopTexts:
    """Ends a stream of text before the stop text that is completed first, however the stream is cut into pieces."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.found = False
        self._stops = stops
        self._held: str = ""

    def add(self, text: str) -> str:
        """What is certain not to be part of a stop text; nothing once one was found."""
        if self.found:
            return ""
        text = self._held + text
        ends = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if ends:
            # The earliest end; among those that end together the longest, which begins first.
            self.found = True
            self._held = ""
            return text[: min(ends)[1]]
        held = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def finish(self) -> str:
        """What was held back and turned out to be text."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that a stop text begins with, the whole stop left out."""
    longest = min(len(text), len(stop) - 1)
    return next((length for length in range(longest, 0, -1) if text.endswith(stop[:length])), 0)
