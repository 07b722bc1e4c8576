"""Is a model as often right as it is sure? N answers; pure."""

from collections.abc import Sequence
from dataclasses import dataclass

BINS = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers of which the model was about equally sure."""

    low: float
    """Probability from which it holds answers."""
    high: float
    """To which; the last bin holds 1 itself."""
    answers: int
    confidence: float
    """Mean probability."""
    right: float
    """Share of right answers."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Probabilities beside what came true."""

    error: float
    """Expected calibration error: mean distance of confidence and share of right answers, bins weighted by their answers."""
    confidence: float
    """Mean probability of all answers."""
    bins: Sequence[Bin]
    """Those that hold answers."""


def calibration_of(probabilities: Sequence[float], right: Sequence[bool], *, bins: int = BINS) -> Calibration:
    """Compare probabilities with what came true, in bins of equal width.

    Args:
        probabilities: (N,) of each answer; at least one.
        right: (N,) whether it was right.
        bins: How many.

    Source: Naeini et al. 2015, doi:10.1609/aaai.v29i1.9602.
    """
    held: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for probability, is_right in zip(probabilities, right, strict=True):
        held[min(bins - 1, int(probability * bins))].append((probability, is_right))
    filled = [
        Bin(
            low=number / bins,
            high=(number + 1) / bins,
            answers=len(answers),
            confidence=sum(one for one, _ in answers) / len(answers),
            right=sum(one for _, one in answers) / len(answers),
        )
        for number, answers in enumerate(held)
        if answers
    ]
    error = sum(one.answers * abs(one.confidence - one.right) for one in filled) / len(probabilities)
    return Calibration(error, sum(probabilities) / len(probabilities), filled)
