"""Counting what a classifier takes for what. N images, K classes; pure."""

import math

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

NORMAL_95 = 1.959963984540054
"""The middle 95 % of the normal distribution lie within so many deviations."""


def confusion_of(labels: Ints, predicted: Ints, classes: int) -> Ints:
    """(K, K): how many images of each class (rows) are taken for each class (columns)."""
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def wilson_interval(right: int, images: int, deviations: float = NORMAL_95) -> tuple[float, float]:
    """Where the true share of right answers lies, with 95 % confidence.

    Args:
        right: Images that were recognised.
        images: All of them, at least one.
        deviations: Of the normal distribution, for another confidence.

    Source: Wilson 1927, doi:10.1080/01621459.1927.10502953. Unlike the plain normal interval it stays within 0 and 1, and means
    something where all answers are right.
    """
    share, squared = right / images, deviations**2
    middle = share + squared / (2 * images)
    reach = deviations * math.sqrt(share * (1 - share) / images + squared / (4 * images**2))
    whole = 1 + squared / images
    # Where all answers are alike an end of the interval is the share itself, but for rounding.
    return max(0.0, min(share, (middle - reach) / whole)), min(1.0, max(share, (middle + reach) / whole))
