"""Is a model as often right as it is sure? N answers; pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml_playground.evaluation.confusion import wilson_interval
from ml_playground.evaluation.intervals import NUMBERS_AT_ONCE, RESAMPLES, TAILS, Estimate, resampled

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

    error: Estimate
    """Expected calibration error: mean distance of confidence and share of right answers, bins weighted by their answers."""
    confidence: float
    """Mean probability of all answers."""
    bins: Sequence[Bin]
    """Those that hold answers."""


def calibration_of(
    probabilities: Sequence[float], right: Sequence[bool], *, bins: int = BINS, seed: int = 0
) -> Calibration:
    """Compare probabilities with what came true, in bins of equal width.

    Args:
        probabilities: (N,) of each answer; at least one.
        right: (N,) whether it was right.
        bins: How many.
        seed: Of the interval: equal seed, equal interval.

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
    error = _error(np.asarray(probabilities), np.asarray(right, dtype=np.float64), bins, seed)
    return Calibration(error, sum(probabilities) / len(probabilities), filled)


def _error(probabilities: NDArray[np.float64], right: NDArray[np.float64], bins: int, seed: int) -> Estimate:
    """The error, and an interval by the bootstrap over answers.

    Chance alone takes a bin's share away from its confidence, so that the error of a sample lies above the true one. It lies above
    it by no more than the gaps of all bins have moved together, and so does that of a sample of the sample: which says how far down the
    interval has to go. A percentile alone would leave a model out that is exactly as sure as it is right. Of few answers, samples of
    the sample move too little: bins of one answer hardly vary. So it goes down at least as far as chance takes a model with these very
    probabilities that is exactly as sure as it is right, which makes the lower end exact for that model, however few its answers.
    And answers that are all right, or all wrong, say nothing of those that would not be: so it goes up at least to where Wilson's
    interval of their share leaves the mean confidence.

    Of twenty answers or more the interval holds the true error in 95 of 100 cases or more (tests/property/test_statistics_laws.py).

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13 (percentiles), for the upper end; Bröcker and Smith
    2007, doi:10.1175/WAF993.1 (consistency resampling), for what chance does.
    """
    gaps = probabilities - right
    numbers = np.minimum(bins - 1, (probabilities * bins).astype(np.int64))
    of_bins = [np.where(numbers == number, gaps, 0.0) for number in np.unique(numbers)]
    here = np.array([of_bin.sum() for of_bin in of_bins]) / len(gaps)
    errors: list[float] = []
    moved: list[float] = []
    for places in resampled(len(gaps), seed=seed):
        there = np.array([of_bin[places].sum(axis=1) for of_bin in of_bins]).T / len(gaps)
        errors += np.abs(there).sum(axis=1).tolist()
        moved += np.abs(there - here).sum(axis=1).tolist()
    value = float(np.abs(here).sum())
    chance = _errors_of_chance(probabilities, numbers, seed)
    low = value - max(float(np.percentile(moved, TAILS[1])), float(np.percentile(chance, TAILS[1])))
    confidence, ends = probabilities.mean(), wilson_interval(int(right.sum()), len(right))
    high = max(float(np.percentile(errors, TAILS[1])), *(abs(float(confidence) - end) for end in ends))
    return Estimate(value, max(0.0, low), max(value, min(1.0, high)))


def _errors_of_chance(probabilities: NDArray[np.float64], numbers: NDArray[np.int64], seed: int) -> list[float]:
    """Errors of samples in which each answer, (N,) in bins of these numbers, is right with the very probability that it has."""
    generator = np.random.default_rng((seed, 1))
    in_bins = (numbers[:, None] == np.unique(numbers)).astype(np.float64)
    most = max(1, NUMBERS_AT_ONCE // len(probabilities))
    found: list[float] = []
    for first in range(0, RESAMPLES, most):
        dice = generator.random((min(most, RESAMPLES - first), len(probabilities)))
        gaps = probabilities - (dice < probabilities)
        found += (np.abs(gaps @ in_bins).sum(axis=1) / len(probabilities)).tolist()
    return found
