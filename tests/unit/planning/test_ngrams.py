"""Counting: known texts have known losses."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_playground.planning.ngrams import MOST_TRAINING, counted_loss


def test_counted_loss_of_a_repeated_text_is_nearly_nothing() -> None:
    """What always follows is known after it was seen a few times."""
    text = np.tile(np.arange(50, dtype=np.uint16), 400)
    assert counted_loss(text, text[:2000], 50) < 0.02


def test_counted_loss_of_dice_is_their_entropy() -> None:
    """No context tells anything of the next throw."""
    throws = np.random.default_rng(1).integers(0, 6, 40_000).astype(np.uint16)
    assert counted_loss(throws[:30_000], throws[30_000:], 6) == pytest.approx(math.log(6), abs=0.02)


def test_counted_loss_of_a_chain_is_that_of_its_pairs() -> None:
    """A token that stays with 9 of 10 and else is any of ten."""
    random = np.random.default_rng(1)
    stays = random.random(40_000) < 0.9
    chain = np.zeros(40_000, dtype=np.uint16)
    for number in range(1, 40_000):
        chain[number] = chain[number - 1] if stays[number] else random.integers(10)
    expected = -0.91 * math.log(0.91) - 0.09 * math.log(0.01)
    assert counted_loss(chain[:30_000], chain[30_000:], 10) == pytest.approx(expected, abs=0.03)


@given(st.lists(st.integers(0, 4), min_size=2, max_size=60), st.lists(st.integers(0, 4), min_size=1, max_size=20))
@settings(max_examples=50)
def test_counted_loss_is_at_most_that_of_knowing_nothing_much(training: list[int], validation: list[int]) -> None:
    """The shortest n-gram adds what was counted to equal shares; no token is impossible."""
    loss = counted_loss(np.array(training, dtype=np.uint16), np.array(validation, dtype=np.uint16), 5)
    assert 0 < loss <= math.log(5 * (len(training) + 5))


def test_counted_loss_of_a_long_text_reads_all_its_places() -> None:
    """Beginning and end are of different kinds, and both are counted."""
    length = MOST_TRAINING + 500_000
    text = np.zeros(length, dtype=np.uint16)
    text[length // 2 :] = np.tile(np.arange(1, 9, dtype=np.uint16), length)[: length - length // 2]
    assert counted_loss(text, text[-1000:], 9) < 0.05
