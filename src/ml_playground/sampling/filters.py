"""Which tokens may be drawn, and the draw itself: pure functions on logits. R rows, V vocabulary; removed tokens get -inf.

Order, the one of Hugging Face: what a data profile brings (`processed`), repetition penalty, repeated n-grams, temperature, top-k,
top-p, min-p. Each later filter sees the probabilities that the earlier ones left. None ever removes all tokens of a row, and none
but that of n-grams its likeliest.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ml_playground.configuration.sample_settings import SampleSettings
from ml_playground.models.protocols import LogitsProcessor

REMOVED = -math.inf
NOTHING_DRAWN = -1
"""What `draw` and `likeliest` give for a row whose logits are not numbers."""


def processed(logits: Tensor, processors: Sequence[LogitsProcessor], drawn: Sequence[Sequence[int]]) -> Tensor:
    """Logits (R, V) after processors, one after the other; one that leaves a row nothing to draw has no say in that row.

    Args:
        logits: (R, V), any float type; without processors they come back as they are.
        processors: Those of the run's profile.
        drawn: Of each row, the ids that were drawn.
    """
    for processor in processors:
        before = logits.float()
        after = processor(before, drawn)
        logits = torch.where(after.amax(dim=-1, keepdim=True).isfinite(), after, before)
    return logits


def filtered(
    logits: Tensor, settings: SampleSettings, seen: Tensor | None = None, repeating: Tensor | None = None
) -> Tensor:
    """Logits (R, V) float32 with everything applied that `settings` asks for.

    Args:
        logits: (R, V), any float type.
        settings: Temperature 0 is left to `likeliest`; here it scales nothing.
        seen: (R, V) bool, tokens that already occur in the row; needed when there is a repetition penalty.
        repeating: (R, V) bool, tokens that would repeat an n-gram of the row; none: no token would.
    """
    logits = penalised(logits, settings, seen)
    if repeating is not None:
        logits = without_repeats(logits, repeating)
    if settings.temperature not in (0.0, 1.0):
        logits = temperature(logits, settings.temperature)
    if settings.top_k:
        logits = top_k(logits, settings.top_k)
    if settings.top_p < 1.0:
        logits = top_p(logits, settings.top_p)
    if settings.min_p > 0.0:
        logits = min_p(logits, settings.min_p)
    return logits


def penalised(logits: Tensor, settings: SampleSettings, seen: Tensor | None) -> Tensor:
    """Logits (R, V) float32 after the repetition penalty, if there is one; arguments are those of `filtered`."""
    logits = logits.float()
    if settings.repetition_penalty == 1.0 or seen is None:
        return logits
    return repetition_penalty(logits, seen, settings.repetition_penalty)


def without_repeats(logits: Tensor, repeating: Tensor) -> Tensor:
    """Remove tokens from rows (R, V) where they would repeat an n-gram, (R, V) bool; a row of which nothing were left keeps all.

    Source: Paulus et al. 2017, arXiv:1705.04304, section 2.5.
    """
    return logits.masked_fill(repeating & ~repeating.all(dim=-1, keepdim=True), REMOVED)


def repetition_penalty(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make seen tokens less likely: positive logits are divided by the penalty, negative ones multiplied; once a token.

    Args:
        logits: (R, V) float32.
        seen: (R, V) bool.
        penalty: Above 1 discourages.

    Source: Keskar et al. 2019, CTRL, arXiv:1909.05858, section 4.1; the case of negative logits as Hugging Face has it.
    """
    return torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def temperature(logits: Tensor, temperature: float) -> Tensor:
    """Logits (R, V), shifted so that the highest is 0 and divided: without the shift a tiny temperature overflows."""
    # What is 0 in float32 would make the highest 0 / 0.
    divisor = max(temperature, torch.finfo(torch.float32).tiny)
    return (logits - logits.amax(dim=-1, keepdim=True)) / divisor


def top_k(logits: Tensor, k: int) -> Tensor:
    """Keep exactly the k highest logits of each row (R, V); among equals the lower ids."""
    if k >= logits.shape[-1]:
        return logits
    lowest_kept = logits.topk(k, dim=-1).values[:, -1:]
    above = logits > lowest_kept
    equal = logits == lowest_kept
    room = k - above.sum(dim=-1, keepdim=True)
    return logits.masked_fill(~(above | (equal & (equal.cumsum(dim=-1) <= room))), REMOVED)


def top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the smallest set of likeliest tokens of each row (R, V) that reaches probability p; among equals the lower ids.

    Source: Holtzman et al. 2020, nucleus sampling, arXiv:1904.09751.
    """
    ordered, ids = logits.sort(dim=-1, descending=True, stable=True)
    probabilities = ordered.softmax(dim=-1)
    before = probabilities.cumsum(dim=-1) - probabilities
    keep = before < p
    # The first is kept whatever the rounding; p itself may be denormal.
    keep[:, 0] = True
    return logits.masked_fill(~torch.zeros_like(keep).scatter(-1, ids, keep), REMOVED)


def min_p(logits: Tensor, p: float) -> Tensor:
    """Keep tokens at least p times as likely as the likeliest of their row (R, V).

    Source: Nguyen et al. 2024, arXiv:2407.01082.
    """
    return logits.masked_fill(logits < logits.amax(dim=-1, keepdim=True) + math.log(p), REMOVED)


def likeliest(logits: Tensor) -> Tensor:
    """Ids (R,) of the highest logits (R, V), the lowest id among equals; NOTHING_DRAWN where they are not numbers."""
    highest, ids = logits.max(dim=-1)
    return torch.where(highest.isfinite(), ids, NOTHING_DRAWN)


def draw(logits: Tensor, uniforms: Tensor) -> Tensor:
    """Ids (R,) drawn by inverting the cumulative distribution: one uniform number a row decides, whatever the vocabulary.

    Args:
        logits: (R, V) float32.
        uniforms: (R,) float32 in [0, 1).

    Returns:
        Ids of tokens that are not removed; NOTHING_DRAWN where the logits are not numbers.
    """
    # In float32 the rounding of each partial sum, 6e-8, is as much as an unlikely token weighs; Apple's GPUs lack float64.
    precise = torch.float32 if logits.device.type == "mps" else torch.float64
    cumulative = logits.softmax(dim=-1).cumsum(dim=-1, dtype=precise)
    total = cumulative[:, -1:]
    # Rounding may lift u * total up to total, where no token lies.
    below = torch.nextafter(total, torch.zeros_like(total))
    ids = torch.searchsorted(cumulative, torch.minimum(uniforms[:, None] * total, below), right=True)
    ids = ids.clamp(max=logits.shape[-1] - 1)
    removed = logits.gather(-1, ids) == REMOVED
    ids = torch.where(removed, logits.argmax(dim=-1, keepdim=True), ids)[:, 0]
    return torch.where(total[:, 0].isfinite(), ids, NOTHING_DRAWN)
