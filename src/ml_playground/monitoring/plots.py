"""Small charts as SVG, without a library: points, steps, fields of colour, lines across axes."""

import html
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 420, 250
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 44
WIDE_RANGE = 20
"""From this ratio of the largest to the smallest value on, an axis is logarithmic."""
MOST_TICKS = 6
MARGIN = 0.04
"""Share of an axis left free at each end, so that no point lies on the frame."""


@dataclass(frozen=True, slots=True)
class Axis:
    """Where values lie between 0 and 1."""

    name: str
    values: Sequence[Any]
    linear: bool = False
    """Never logarithmic."""

    @property
    def numeric(self) -> bool:
        """Whether all are numbers; else each has a place of its own."""
        return all(isinstance(value, int | float) and not isinstance(value, bool) for value in self.values)

    @property
    def logarithmic(self) -> bool:
        """Whether orders of magnitude lie equally far apart."""
        return (
            not self.linear
            and self.numeric
            and min(self.values) > 0
            and max(self.values) / min(self.values) >= WIDE_RANGE
        )

    @property
    def places(self) -> list[Any]:
        """Different values, in order: of numbers by size, of others as they came."""
        different = [value for number, value in enumerate(self.values) if value not in self.values[:number]]
        return sorted(different) if self.numeric else different

    def at(self, value: Any) -> float:
        """The place of a value."""
        if not self.numeric:
            return (self.places.index(value) + 0.5) / len(self.places)
        low, high = self._scaled(min(self.values)), self._scaled(max(self.values))
        return 0.5 if high == low else MARGIN + (1 - 2 * MARGIN) * (self._scaled(value) - low) / (high - low)

    def ticks(self) -> list[tuple[float, str]]:
        """Places with a label: the values themselves where they are few, else the ends and the middle."""
        places = self.places
        if len(places) > MOST_TICKS and self.numeric:
            low, high = min(places), max(places)
            middle = math.sqrt(low * high) if self.logarithmic else (low + high) / 2
            places = [low, round(middle) if isinstance(low + high, int) else middle, high]
        return [(self.at(value), f"{value:.3g}" if isinstance(value, float) else label(value)) for value in places]

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.logarithmic else value


def label(value: Any) -> str:
    """A value in few letters."""
    text = f"{value:.4g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False).strip('"')
    return text if len(text) <= 14 else f"{text[:13]}…"  # noqa: PLR2004 - what fits below a tick


def text(value: str) -> str:
    """Nothing in it is markup."""
    return html.escape(value, quote=True)


def _x(place: float) -> float:
    return LEFT + place * (WIDTH - LEFT - RIGHT)


def _y(place: float) -> float:
    return HEIGHT - BOTTOM - place * (HEIGHT - TOP - BOTTOM)


def _frame(across: Axis, up: Axis) -> str:
    parts = [f'<path class="axis" d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>']
    for place, word in across.ticks():
        parts.append(f'<text x="{_x(place):.1f}" y="{HEIGHT - BOTTOM + 16}" class="mid">{text(word)}</text>')
    for place, word in _even_ticks(up):
        parts.append(f'<path class="grid" d="M{LEFT} {_y(place):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{_y(place) + 4:.1f}" class="end">{text(word)}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" class="mid name">{text(across.name)}</text>')
    return "".join(parts)


def _even_ticks(up: Axis) -> list[tuple[float, str]]:
    low, high = min(up.values), max(up.values)
    place = _linear(up)
    shares = (0.0,) if low == high else (0.0, 0.25, 0.5, 0.75, 1.0)
    return [(place(low + (high - low) * share), label(float(low + (high - low) * share))) for share in shares]


def _svg(content: str, title: str, height: int = HEIGHT) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{text(title)}">{content}</svg>'


def scatter(across: Axis, up: Axis, notes: Sequence[str]) -> str:
    """A point for each pair of values; a note for each appears where it is pointed at. `up` is linear."""
    linear = _linear(up)
    points = "".join(
        f'<circle cx="{_x(across.at(x)):.1f}" cy="{_y(linear(y)):.1f}" r="4.5"><title>{text(note)}</title></circle>'
        for x, y, note in zip(across.values, up.values, notes, strict=True)
    )
    return _svg(_frame(across, up) + points, f"{up.name} against {across.name}")


def best_so_far(numbers: Axis, up: Axis, *, higher: bool) -> str:
    """A point for each trial, and the best until then as a line of steps."""
    linear = _linear(up)
    best: list[float] = []
    for value in up.values:
        best.append(value if not best else (max if higher else min)(best[-1], value))
    points = "".join(
        f'<circle class="faint" cx="{_x(numbers.at(x)):.1f}" cy="{_y(linear(y)):.1f}" r="3.5"/>'
        for x, y in zip(numbers.values, up.values, strict=True)
    )
    corners = [(_x(numbers.at(x)), _y(linear(y))) for x, y in zip(numbers.values, best, strict=True)]
    line = f"M{corners[0][0]:.1f} {corners[0][1]:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in corners[1:])
    return _svg(f'{_frame(numbers, up)}{points}<path class="line" d="{line}"/>', f"best {up.name} so far")


def _linear(up: Axis) -> Callable[[float], float]:
    low, high = min(up.values), max(up.values)

    def place(value: float) -> float:
        return 0.5 if high == low else MARGIN + (1 - 2 * MARGIN) * (value - low) / (high - low)

    return place


def heat_map(across: Axis, down: Axis, values: Sequence[float], name: str, *, higher: bool) -> str:
    """A field for each pair of values, the better the darker; of equal pairs the best one."""
    best: dict[tuple[int, int], float] = {}
    for x, y, value in zip(across.values, down.values, values, strict=True):
        place = (across.places.index(x), down.places.index(y))
        best[place] = value if place not in best else (max if higher else min)(best[place], value)
    low, high = min(best.values()), max(best.values())
    columns, rows = len(across.places), len(down.places)
    width, height = (WIDTH - LEFT - RIGHT) / columns, (HEIGHT - TOP - BOTTOM) / rows
    parts: list[str] = []
    for (column, row), value in best.items():
        share = 1.0 if high == low else (value - low if higher else high - value) / (high - low)
        x, y = LEFT + column * width, TOP + row * height
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width - 2:.1f}" height="{height - 2:.1f}" '
            f'rx="3" fill-opacity="{0.12 + 0.7 * share:.3f}"/>'
            f'<text x="{x + width / 2:.1f}" y="{y + height / 2 + 4:.1f}" class="mid value">{text(label(float(value)))}</text>'
        )
    for column, value in enumerate(across.places):
        parts.append(
            f'<text x="{LEFT + (column + 0.5) * width:.1f}" y="{HEIGHT - BOTTOM + 16}" class="mid">{text(label(value))}</text>'
        )
    for row, value in enumerate(down.places):
        parts.append(
            f'<text x="{LEFT - 6}" y="{TOP + (row + 0.5) * height + 4:.1f}" class="end">{text(label(value))}</text>'
        )
    names = f"{across.name} across, {down.name} down"
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" class="mid name">{text(names)}</text>')
    return _svg("".join(parts), f"{name}: {names}")


def parallel(axes: Sequence[Axis], values: Sequence[float], name: str, *, higher: bool) -> str:
    """An upright axis for each key, the last one for the result; a line for each trial, the better the darker."""
    results = Axis(name, values)
    linear = _linear(results)
    uprights = [*axes, results]
    places = [LEFT + number * (WIDTH - 2 * LEFT) / max(1, len(uprights) - 1) for number in range(len(uprights))]
    parts: list[str] = []
    order = sorted(range(len(values)), key=lambda trial: values[trial], reverse=not higher)
    for trial in order:
        heights = [*(axis.at(axis.values[trial]) for axis in axes), linear(values[trial])]
        points = " ".join(f"{x:.1f},{_y(place):.1f}" for x, place in zip(places, heights, strict=True))
        share = linear(values[trial]) if higher else 1 - linear(values[trial])
        parts.append(f'<polyline points="{points}" stroke-opacity="{0.12 + 0.88 * share**2:.3f}"/>')
    for x, axis in zip(places, uprights, strict=True):
        parts.append(f'<path class="axis" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        for place, word in _even_ticks(axis) if axis is results else axis.ticks():
            parts.append(f'<text x="{x + 4:.1f}" y="{_y(place) + 4:.1f}">{text(word)}</text>')
        parts.append(
            f'<text x="{x:.1f}" y="{HEIGHT - 14}" class="mid name">{text(axis.name.rpartition(".")[2])}</text>'
        )
    return _svg("".join(parts), f"{name} by all settings")
