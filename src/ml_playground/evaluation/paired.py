"""Two models on the same questions: is one of them better, or was it chance? Pure."""

import math


def mcnemar_p(only_one: int, only_other: int) -> float:
    """How probable questions that only one of two models answers right fall at least so unevenly, if both are equally good.

    What both know, and neither, says nothing of a difference. The binomial distribution is summed exactly, two-sided.

    Args:
        only_one: Questions that the first alone has right.
        only_other: Questions that the second alone has right.

    Source: McNemar 1947, doi:10.1007/BF02295996; exact form as in Agresti 2013, Categorical Data Analysis, section 11.1.
    """
    uneven = only_one + only_other
    fewer = min(only_one, only_other)
    # math.comb of each term anew would take quadratic time; integers lose nothing.
    term = total = 1
    for place in range(fewer):
        term = term * (uneven - place) // (place + 1)
        total += term
    return min(1.0, 2 * total / (1 << uneven)) if uneven else 1.0


def p_text(p: float) -> str:
    """`p = 0.012`, `p < 0.001`: more digits than these say nothing."""
    least = 0.001
    return f"p < {least:g}" if p < least else f"p = {math.ceil(p * 1000) / 1000:.3f}"
