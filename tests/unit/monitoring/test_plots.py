"""Charts as SVG: every value has its place, the better the darker, and no text is markup."""

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.monitoring.plots import Axis, best_so_far, heat_map, label, parallel, scatter

NUMBERS = st.lists(st.floats(1e-6, 1e6) | st.integers(-5, 5), min_size=1, max_size=20)


@given(values=NUMBERS | st.lists(st.sampled_from(["adamw", "muon", "<b>"]), min_size=1))
def test_axis_places_lie_on_it_and_keep_the_order(values: list[object]) -> None:
    """A larger number is never left of a smaller one; nothing lies outside."""
    axis = Axis("key", values)
    places = [axis.at(value) for value in axis.places]
    assert places == sorted(places)
    assert all(0 <= place <= 1 for place in places)
    assert all(0 <= place <= 1 for place, _ in axis.ticks())


def test_axis_of_wide_range_is_logarithmic_unless_told() -> None:
    """Three learning rates lie equally far apart; trials are counted."""
    rates = Axis("lr", [1e-4, 1e-3, 1e-2])
    first, second, third = (rates.at(value) for value in rates.values)
    assert second - first == pytest.approx(third - second)
    assert not Axis("trial", list(range(1, 101)), linear=True).logarithmic


@given(values=st.lists(st.floats(0, 10), min_size=1, max_size=12), higher=st.booleans())
def test_charts_are_well_formed_whatever_is_drawn(values: list[float], higher: bool) -> None:
    """One value, equal values, names with markup: XML all the same, with a mark for each trial."""
    axes = [Axis("a<b>", [f"<{number % 3}>" for number in range(len(values))]), Axis("n", list(range(len(values))))]
    scores = Axis("loss", values)
    notes = ["<script>"] * len(values)
    charts = [
        scatter(axes[0], scores, notes),
        best_so_far(Axis("trial", list(range(1, len(values) + 1)), linear=True), scores, higher=higher),
        heat_map(axes[0], axes[1], values, "loss", higher=higher),
        parallel(axes, values, "loss", higher=higher),
    ]
    trees = [ET.fromstring(chart) for chart in charts]
    assert len(trees[0].findall("circle")) == len(trees[1].findall("circle")) == len(values)
    assert len(trees[2].findall("rect")) == len(trees[3].findall("polyline")) == len(values)


@pytest.mark.parametrize(("higher", "darkest"), [(True, "0.9"), (False, "0.1")])
def test_heat_map_darkest_field_is_the_best(higher: bool, darkest: str) -> None:
    """Whichever way is better."""
    chart = heat_map(Axis("a", [1, 2]), Axis("b", [1, 1]), [0.1, 0.9], "loss", higher=higher)
    fields = re.findall(r'fill-opacity="([\d.]+)"/><text[^>]*>([^<]+)<', chart)
    assert max((float(opacity), value) for opacity, value in fields)[1] == darkest


def test_best_so_far_never_gets_worse() -> None:
    """The line goes down alone, for a loss."""
    chart = best_so_far(Axis("trial", [1, 2, 3, 4]), Axis("loss", [3.0, 4.0, 2.0, 2.5]), higher=False)
    line = re.search(r'class="line" d="M[\d.]+ ([\d.]+)((?:H[\d.]+V[\d.]+)+)"', chart)
    assert line is not None
    heights = [float(line[1]), *(float(y) for y in re.findall(r"V([\d.]+)", line[2]))]
    assert heights == sorted(heights)


def test_label_is_short() -> None:
    """A long text is cut; a number has four figures."""
    assert (label(0.000123456), label("a" * 30), label(True)) == ("0.0001235", "a" * 13 + "…", "true")
