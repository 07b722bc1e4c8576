"""Beam search: of all continuations the likeliest that a search with so many open ends finds. K beams, V vocabulary."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, cast

import torch
from torch import Tensor

from ml_playground.configuration.sample_settings import SampleSettings
from ml_playground.core.error_handling import ConfigError
from ml_playground.models.protocols import Decoder, LogitsProcessor
from ml_playground.sampling.filters import penalised, processed, without_repeats
from ml_playground.sampling.generate import diverged, window_start
from ml_playground.sampling.past import Past


class Branching(Protocol):
    """A decoder's state whose rows can be gone on from in several ways."""

    def select(self, rows: Tensor) -> None:
        """Hold these rows of it, (K,), in this order; one may come several times, and another not at all."""
        ...


@dataclass(frozen=True, slots=True)
class Continuation:
    """What a search found."""

    ids: tuple[int, ...]
    """Without the id that ended it."""
    log_probability: float
    """Of all its tokens, the one that ended it included, in nats."""
    score: float
    """`log_probability` over the number of these tokens to the power of the length penalty."""
    end: Literal["length", "stop"]


@dataclass(frozen=True, slots=True)
class _Beam:
    ids: tuple[int, ...] = ()
    total: float = 0.0


@dataclass(slots=True)
class _Search:
    """What is open, and the best of what has ended."""

    settings: SampleSettings
    stop_ids: Collection[int]
    stops: Callable[[Sequence[int]], bool]
    live: list[_Beam] = field(default_factory=lambda: [_Beam()])
    ended: list[Continuation] = field(default_factory=list[Continuation])

    def advance(self, log_probabilities: Tensor, tokens: int) -> None:
        """Go on from (K, V) log-probabilities of each beam gone on with each id, which then hold so many tokens."""
        beams, vocab_size = self.settings.num_beams, log_probabilities.shape[1]
        # Beams that end make room for the next best, so that K stay open as long as there are tokens.
        ranked = torch.topk(log_probabilities.flatten(), min(2 * beams, log_probabilities.numel()))
        open_beams: list[_Beam] = []
        for rank, (total, place) in enumerate(zip(_floats(ranked.values), _ints(ranked.indices), strict=True)):
            if total == -torch.inf or len(open_beams) == beams:
                break
            row, id_ = divmod(place, vocab_size)
            ids = (*self.live[row].ids, id_)
            if id_ not in self.stop_ids and not self.stops(ids):
                open_beams.append(_Beam(ids, total))
            elif rank < beams:
                # One that is not among the K best of its length is no better than what it would displace.
                self.close(ids[:-1] if id_ in self.stop_ids else ids, total, tokens, "stop")
        self.live = open_beams

    def close(self, ids: tuple[int, ...], total: float, tokens: int, end: Literal["length", "stop"]) -> None:
        """Keep a continuation if it is among the best."""
        self.ended.append(Continuation(ids, total, total / tokens**self.settings.length_penalty, end))
        self.ended.sort(key=lambda continuation: -continuation.score)
        del self.ended[self.settings.num_beams :]

    @property
    def decided(self) -> bool:
        """Whether nothing that is open can still come among the best."""
        if not self.live:
            return True
        if len(self.ended) < self.settings.num_beams:
            return False
        # Every further token lowers the total; dividing by more than 1 lifts a negative one, most at the greatest length.
        penalty, longest = self.settings.length_penalty, self.settings.max_new_tokens
        tokens = longest if penalty > 0 else min(len(self.live[0].ids) + 1, longest)
        best = max(beam.total for beam in self.live)
        return best / tokens**penalty <= self.ended[-1].score


def search(
    decoder: Decoder,
    prompt: Sequence[int],
    settings: SampleSettings,
    *,
    stop_ids: Collection[int] = (),
    stops: Callable[[Sequence[int]], bool] = lambda _: False,
    processors: Sequence[LogitsProcessor] = (),
) -> Iterator[Sequence[Continuation]]:
    """Go on from a prompt with `settings.num_beams` beams, until none of them can come among the best that ended.

    Args:
        decoder: Of the model.
        prompt: Token ids, at least one.
        settings: Beams, length, length penalty, and the filters that look back; the others have no say, as at temperature 0.
        stop_ids: Ids that end a continuation; they are not given out.
        stops: Told a continuation, whether it is complete.
        processors: Applied to the logits of each beam before anything else, as when texts are drawn.

    Yields:
        Nothing after each step, so that its user may leave; at the end the continuations found, best first.

    Raises:
        ConfigError: More beams than ids, or the model's cache cannot branch.
        CheckpointError: The model gives logits that are not numbers.

    Source: the conditions under which Hugging Face's `generate` takes a beam as ended; unlike there the search never ends
    before its result is certain (`early_stopping="never"`).
    """
    if settings.num_beams > decoder.vocab_size:
        raise ConfigError(
            f"sample.num_beams = {settings.num_beams} is more than the {decoder.vocab_size} ids of the model; use fewer beams."
        )
    found = _Search(settings, frozenset(stop_ids), stops)
    for drawn, log_probabilities in _predictions(decoder, prompt, found, processors):
        found.advance(log_probabilities, drawn + 1)
        yield ()
        if found.decided:
            break
    else:
        for beam in found.live:
            found.close(beam.ids, beam.total, len(beam.ids), "length")
    yield found.ended


def _predictions(
    decoder: Decoder, prompt: Sequence[int], found: _Search, processors: Sequence[LogitsProcessor]
) -> Iterator[tuple[int, Tensor]]:
    """Tokens drawn so far, and the log-probabilities (K, V) of each live beam gone on with each id; the search updates `live` between."""
    settings, drawn = found.settings, 0
    while drawn < settings.max_new_tokens:
        rows = [[*prompt, *beam.ids] for beam in found.live]
        window = window_start(len(rows[0]), decoder.max_context)
        ids = torch.tensor([row[window:] for row in rows], device=decoder.device)
        steps = settings.max_new_tokens - drawn
        if decoder.max_context is not None:
            steps = min(steps, decoder.max_context - ids.shape[1] + 1)
        with torch.inference_mode():
            state = decoder.new_state(len(rows), ids.shape[1] + steps - 1)
        for step in range(steps):
            before = found.live
            with torch.inference_mode():
                logits = processed(decoder.step(ids, state), processors, [beam.ids for beam in before])
                log_probabilities = _log_probabilities(logits, prompt, before, settings)
            # Outside: the mode would hold for whoever reads the search, and on after one that leaves it.
            yield drawn, log_probabilities
            drawn += 1
            if step + 1 < steps:
                parents = [_parent(beam, before) for beam in found.live]
                with torch.inference_mode():
                    _branching(state).select(torch.tensor(parents, device=decoder.device))
                ids = torch.tensor([[beam.ids[-1]] for beam in found.live], device=decoder.device)


def _log_probabilities(
    logits: Tensor, prompt: Sequence[int], beams: Sequence[_Beam], settings: SampleSettings
) -> Tensor:
    """(K, V) float64, on Apple's GPUs float32: of each beam gone on with each id."""
    past = Past([[*prompt, *beam.ids] for beam in beams], logits.shape[1], settings, logits.device)
    precise = torch.float32 if logits.device.type == "mps" else torch.float64
    scores = penalised(logits, settings, past.seen).log_softmax(-1, dtype=precise)
    if scores.isnan().any():
        raise diverged(len(prompt) + len(beams[0].ids))
    if past.repeating is not None:
        # After the softmax: a beam that may not go on as it wants to pays for what it takes instead.
        scores = without_repeats(scores, past.repeating)
    return scores + torch.tensor([[beam.total] for beam in beams], dtype=scores.dtype, device=scores.device)


def _parent(beam: _Beam, before: Sequence[_Beam]) -> int:
    """Which of the beams of the step before this one goes on from; no two of them are equal."""
    return next(row for row, parent in enumerate(before) if parent.ids == beam.ids[:-1])


def _branching(state: object) -> Branching:
    if not hasattr(state, "select"):
        raise ConfigError(
            "The cache of this model cannot branch, so there is no beam search with it; set sample.num_beams = 1."
        )
    return cast(Branching, state)


def _floats(values: Tensor) -> list[float]:
    return cast(list[float], values.tolist())


def _ints(values: Tensor) -> list[int]:
    return cast(list[int], values.tolist())
