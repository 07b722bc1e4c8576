"""Tokens one after another from what knows the next one. R rows, V vocabulary.

Every row is drawn as if it were alone: it has random numbers of its own, padding is invisible to it, and the part of it
that the model reads is a function of its own length (`window_start`).
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor

from ml_playground.configuration.sample_settings import SampleSettings
from ml_playground.core.error_handling import CheckpointError
from ml_playground.models.protocols import Decoder, LogitsProcessor, NextTokenModel
from ml_playground.sampling.filters import NOTHING_DRAWN, draw, filtered, likeliest, processed
from ml_playground.sampling.past import Past


class Token(NamedTuple):
    """A token drawn for a row; rows count from 0 in the order of the prompts."""

    row: int
    id: int


Ended = Callable[[Token], bool]
"""Told each token as it is drawn; true when its row needs no more."""


def never_ended(token: Token) -> bool:
    """Go on until the length is reached."""
    return False


class Likelihoods:
    """How likely the model itself took what was drawn to be: before processors, temperature and filters."""

    def __init__(self, rows: int) -> None:
        self.totals = [0.0] * rows
        """Of each row: the log-probability of all its tokens in nats, the stop that ended it included."""
        self.tokens = [0] * rows
        """How many tokens these are."""

    def add(self, rows: Sequence[int], live: Collection[int], log_probabilities: Sequence[float]) -> None:
        """Take in the next token of each of these rows that is live."""
        for row, log_probability in zip(rows, log_probabilities, strict=True):
            if row in live:
                self.totals[row] += log_probability
                self.tokens[row] += 1


def window_start(tokens: int, max_context: int | None) -> int:
    """First of a row's tokens that the model reads when it holds `tokens` of them.

    All of them as long as they fit; when they do not, the window starts anew with the last `max_context // 2` and grows
    until it is full again. A cache is then rebuilt once in half a context, not at each token; and because only the number
    of tokens counts, a text can be gone on from at any point with the same result.
    """
    if max_context is None or tokens <= max_context:
        return 0
    dropped_at_once = max_context + 1 - max(1, max_context // 2)
    return ((tokens - max_context - 1) // dropped_at_once + 1) * dropped_at_once


def generate(
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    settings: SampleSettings,
    *,
    seeds: Sequence[int],
    stop_ids: Collection[int] = (),
    ended: Ended = never_ended,
    processors: Sequence[LogitsProcessor] = (),
    likelihoods: Likelihoods | None = None,
) -> Iterator[Sequence[Token]]:
    """Draw up to `settings.max_new_tokens` for each prompt, in one batch, with a cache.

    Args:
        decoder: Of the model.
        prompts: Token ids, at least one each; lengths may differ.
        settings: Temperature, filters, length.
        seeds: One a prompt; a row's draws depend on its own alone.
        stop_ids: Ids that end a row; they are not given out.
        ended: Asked after each token whether its row is complete.
        processors: Applied before anything else, in their order, with what each row has drawn.
        likelihoods: Where given, it comes to hold those of the rows; a step then waits for the device twice.

    Yields:
        The tokens of one step, at most one a row; a row that met a stop id is missing from then on.

    Raises:
        CheckpointError: The model gives logits that are not numbers.
    """
    rows = [list(prompt) for prompt in prompts]
    uniforms = _uniforms(seeds, settings, decoder.device)
    live, drawn = list(range(len(rows))), 0
    while live and drawn < settings.max_new_tokens:
        windows = [rows[row][window_start(len(rows[row]), decoder.max_context) :] for row in live]
        width = max(map(len, windows))
        steps = _steps_that_fit(settings.max_new_tokens - drawn, width, decoder.max_context)
        batch = _Batch(decoder, windows, length=width + steps - 1)
        past = Past([rows[row] for row in live], decoder.vocab_size, settings, decoder.device)
        in_batch, own_uniforms = live, uniforms[live]
        for _ in range(steps):
            written = [rows[row][len(prompts[row]) :] for row in in_batch] if processors else ()
            ids = batch.next_ids(settings, own_uniforms[:, drawn], past, processors, written)
            drawn += 1
            if likelihoods is not None:
                likelihoods.add(in_batch, live, batch.log_probabilities(ids))
            tokens = _accept(ids, in_batch, live, rows, stop_ids)
            live = [token.row for token in tokens if not ended(token)]
            yield tokens
            if not live:
                return


def _steps_that_fit(wanted: int, width: int, max_context: int | None) -> int:
    """Steps until a window of this width has outgrown the context; the last one's token need not be read."""
    return wanted if max_context is None else min(wanted, max_context - width + 1)


def generate_uncached(
    model: NextTokenModel,
    prompts: Sequence[Sequence[int]],
    settings: SampleSettings,
    *,
    seeds: Sequence[int],
    stop_ids: Collection[int] = (),
    ended: Ended = never_ended,
    processors: Sequence[LogitsProcessor] = (),
) -> Iterator[Sequence[Token]]:
    """What `generate` must equal: each row alone, and for each token the whole window through the model again.

    Here for tests and benchmarks. Arguments and errors are those of `generate`, but for the model, a torch module in
    evaluation mode; rows come one after the other.
    """
    device = _device_of(model)
    uniforms = _uniforms(seeds, settings, device)
    for row, prompt in enumerate(prompts):
        ids = list(prompt)
        for drawn in range(settings.max_new_tokens):
            window = torch.tensor([ids[window_start(len(ids), model.max_context) :]], device=device)
            past = Past([ids], model.vocab_size, settings, device)
            with torch.inference_mode():
                logits = processed(model(window)[:, -1], processors, [ids[len(prompt) :]])
                chosen = _choose(logits, settings, uniforms[row : row + 1, drawn], past)
            tokens = _accept(_on_host(chosen), [row], [row], {row: ids}, stop_ids)
            over = not tokens or ended(tokens[0])
            yield tokens
            if over:
                break


class _Batch:
    """Rows that share a cache: the prompts first, then one token a step."""

    def __init__(self, decoder: Decoder, windows: Sequence[Sequence[int]], *, length: int) -> None:
        width = max(map(len, windows))
        # Padding is invisible, so any id will do.
        padded = [[0] * (width - len(window)) + list(window) for window in windows]
        starts = None
        if any(len(window) < width for window in windows):
            starts = torch.tensor([width - len(window) for window in windows], device=decoder.device)
        self._decoder = decoder
        self._ids = torch.tensor(padded, device=decoder.device)
        with torch.inference_mode():
            self._state = decoder.new_state(len(windows), length, starts)

    def next_ids(
        self,
        settings: SampleSettings,
        uniforms: Tensor,
        past: Past,
        processors: Sequence[LogitsProcessor],
        written: Sequence[Sequence[int]],
    ) -> list[int]:
        """The next id of each row, which has drawn the ids in `written`; `past` comes to hold it."""
        with torch.inference_mode():
            self._logits = self._decoder.step(self._ids, self._state)
            chosen = _choose(processed(self._logits, processors, written), settings, uniforms, past)
            # A row that ended may have become NaN since; nobody reads it, but an id below 0 would break the embedding.
            following = chosen.clamp(min=0)
            self._ids = following[:, None]
            on_host = _on_host(chosen)
            past.add(following, on_host)
        return on_host

    def log_probabilities(self, ids: Sequence[int]) -> list[float]:
        """Of the ids of the last step, as the model gave them."""
        with torch.inference_mode():
            chosen = torch.tensor(ids, device=self._logits.device).clamp(min=0)
            return cast(list[float], self._logits.float().log_softmax(-1).gather(-1, chosen[:, None])[:, 0].tolist())


def _choose(logits: Tensor, settings: SampleSettings, uniforms: Tensor, past: Past) -> Tensor:
    kept = filtered(logits, settings, past.seen, past.repeating)
    return likeliest(kept) if settings.temperature == 0 else draw(kept, uniforms)


def _accept(
    ids: Sequence[int],
    in_batch: Sequence[int],
    live: Collection[int],
    rows: Sequence[list[int]] | dict[int, list[int]],
    stop_ids: Collection[int],
) -> list[Token]:
    """The tokens of live rows that are no stops, appended to their rows."""
    tokens = [Token(row, id_) for row, id_ in zip(in_batch, ids, strict=True) if row in live and id_ not in stop_ids]
    for token in tokens:
        if token.id == NOTHING_DRAWN:
            raise diverged(len(rows[token.row]))
        rows[token.row].append(token.id)
    return tokens


def diverged(tokens: int) -> CheckpointError:
    """What there is to say where a model gives no numbers after so many tokens."""
    return CheckpointError(
        f"The model's logits after {tokens} tokens are not numbers (NaN or infinite): its weights have diverged. "
        "Sample an earlier checkpoint (--checkpoint STEP), and train again with a lower optimizer.lr."
    )


def _on_host(ids: Tensor) -> list[int]:
    # The one place where a step waits for the device.
    return cast(list[int], ids.tolist())


def _device_of(model: NextTokenModel) -> torch.device:
    return next(cast(torch.nn.Module, model).parameters()).device


def _uniforms(seeds: Sequence[int], settings: SampleSettings, device: torch.device) -> Tensor:
    """One number in [0, 1) for each row and step, (R, max_new_tokens), all at once: no draw waits for the host later.

    Drawn on the CPU, so that a seed means the same text on every device.
    """
    if settings.temperature == 0:
        return torch.zeros(len(seeds), settings.max_new_tokens, device=device)
    numbers = [torch.rand(settings.max_new_tokens, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(numbers).to(device) if numbers else torch.zeros(0, settings.max_new_tokens, device=device)
