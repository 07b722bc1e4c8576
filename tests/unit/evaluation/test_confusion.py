"""Counts of a classifier, and how sure they are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.evaluation.confusion import confusion_of, wilson_interval


@given(pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=60))
def test_confusion_of_any_answers_counts_each_once_in_its_place(pairs: list[tuple[int, int]]) -> None:
    """Rows are what images are, columns what they are taken for."""
    labels, predicted = (np.array([pair[place] for pair in pairs], dtype=np.int64) for place in (0, 1))
    found = confusion_of(labels, predicted, 5)
    assert [[pairs.count((row, column)) for column in range(5)] for row in range(5)] == found.tolist()


@pytest.mark.parametrize(
    ("right", "images", "interval"), [(8, 10, (0.4902, 0.9433)), (0, 20, (0.0, 0.1611)), (20, 20, (0.8389, 1.0))]
)
def test_wilson_interval_known_cases(right: int, images: int, interval: tuple[float, float]) -> None:
    """As tables have them, for 95 %."""
    assert wilson_interval(right, images) == pytest.approx(interval, abs=5e-5)


@given(images=st.integers(1, 10_000), data=st.data())
def test_wilson_interval_holds_the_share_and_narrows_with_more_images(images: int, data: st.DataObject) -> None:
    """Within 0 and 1, also where all answers are right."""
    right = data.draw(st.integers(0, images))
    low, high = wilson_interval(right, images)
    assert 0 <= low <= right / images <= high <= 1
    further = wilson_interval(4 * right, 4 * images)
    assert further[1] - further[0] < high - low
