"""What a sweep tries: grids of values, and ranges to draw from; read from the command line, checked through the loader."""

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from ml_playground.configuration.documents import parsed_toml
from ml_playground.configuration.models import JobConfig
from ml_playground.configuration.overrides import ASSIGNMENT
from ml_playground.configuration.rendering import toml_value
from ml_playground.core.error_handling import ConfigError

MOST_TRIALS = 1000
RANGE = re.compile(r"(uniform|log|int|logint)\(\s*([^,()]+?)\s*,\s*([^,()]+?)\s*\)")
FORMS = "log(1e-4,1e-2), uniform(0,0.3), int(2,8), logint(8,512), or a list such as [1,2,4]"

Values = Mapping[str, Any]
"""Key of a job -> what one trial sets it to."""


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from `low` to `high`, both among them."""

    kind: Literal["uniform", "log", "int", "logint"]
    low: float
    high: float

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are drawn."""
        return self.kind.endswith("int")

    @property
    def logarithmic(self) -> bool:
        """Whether each order of magnitude is as likely."""
        return self.kind.startswith("log")

    def number(self, value: float) -> float:
        """A drawn number in four figures, which a person can type again; never outside the range."""
        return int(value) if self.whole else min(max(float(f"{value:.4g}"), self.low), self.high)

    def ends(self) -> list[Any]:
        """Both ends, as the loader is to check them."""
        return [self.number(self.low), self.number(self.high)]


@dataclass(frozen=True, slots=True)
class Choices:
    """Any of some values."""

    values: tuple[Any, ...]

    def ends(self) -> list[Any]:
        """All of them."""
        return list(self.values)


Space = Mapping[str, Range | Choices]


def read_grid(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Key -> values, of `KEY=[VALUE, ...]` each.

    Raises:
        ConfigError: No list, an empty one, or a key that stands twice.
    """
    grid: dict[str, list[Any]] = {}
    for text in texts:
        key, raw = _key_and_value("--grid", text, "optimizer.lr=[1e-3,3e-4]")
        if key in grid:
            raise ConfigError(f"--grid {text}: {key} has a grid already; put all of its values into one list")
        values = _list(raw)
        if values is None:
            raise ConfigError(
                f"--grid {text}: {raw!r} is no list of TOML values; write {key}=[A,B,...], texts in quotes"
            )
        if not values:
            raise ConfigError(
                f"--grid {text}: the list is empty, so there is nothing to try; name a value, or leave it out"
            )
        grid[key] = [value for number, value in enumerate(values) if value not in values[:number]]
    return grid


def read_space(texts: Sequence[str]) -> dict[str, Range | Choices]:
    """Key -> range or choices.

    Raises:
        ConfigError: Neither, an empty one, or a key that stands twice.
    """
    space: dict[str, Range | Choices] = {}
    for text in texts:
        key, raw = _key_and_value("--space", text, "optimizer.lr=log(1e-4,1e-2)")
        if key in space:
            raise ConfigError(f"--space {text}: {key} has a space already")
        match = RANGE.fullmatch(raw)
        values = _list(raw)
        if match:
            space[key] = _range(text, match)
        elif values:
            space[key] = Choices(tuple(values))
        else:
            raise ConfigError(f"--space {text}: {raw!r} is neither a range nor a list of choices; write {FORMS}")
    return space


def _key_and_value(option: str, text: str, example: str) -> tuple[str, str]:
    match = ASSIGNMENT.match(text)
    if not match:
        raise ConfigError(f"{option} {text}: must look like {example}")
    return match[1].strip(), match[2].strip()


def _list(raw: str) -> list[Any] | None:
    try:
        table = parsed_toml(f"v = {raw}")
    except ValueError:
        return None
    value = table.get("v")
    values = cast(list[Any], value) if isinstance(value, list) and len(table) == 1 else None
    # Tables and dates are no values of one key.
    return values if values is None or all(isinstance(one, str | int | float | list) for one in values) else None


def _range(text: str, match: re.Match[str]) -> Range:
    kind = cast(Literal["uniform", "log", "int", "logint"], match[1])
    try:
        low, high = float(match[2]), float(match[3])
    except ValueError:
        raise ConfigError(f"--space {text}: {match[0]} does not hold two numbers; write {FORMS}") from None
    problem = ""
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        problem = "its lower end must be a number below its upper end"
    elif kind.startswith("log") and low <= 0:
        problem = "a logarithmic range must begin above 0"
    elif kind.endswith("int") and not (low.is_integer() and high.is_integer()):
        problem = "its ends must be whole numbers"
    if problem:
        raise ConfigError(f"--space {text}: {match[0]}: {problem}")
    return Range(kind, low, high)


def combinations(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every combination, the last key changing fastest.

    Raises:
        ConfigError: Too many; says how many.
    """
    check_number(math.prod(len(values) for values in grid.values()), " x ".join(str(len(grid[key])) for key in grid))
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def check_number(trials: int, how: str) -> None:
    """Refuse more trials than anybody waits for.

    Raises:
        ConfigError: Too many; says how many.
    """
    if trials > MOST_TRIALS:
        raise ConfigError(
            f"{how} = {trials:,} trials; at most {MOST_TRIALS:,} are made. Try fewer values, or draw some: --optuna TRIALS"
        )


def sets_of(values: Values) -> list[str]:
    """As `--set` takes them."""
    return [f"{key}={toml_value(value)}" for key, value in values.items()]


def check_values(trials: Sequence[Values], load_job: Callable[[Sequence[str]], JobConfig]) -> None:
    """Load the job of each trial, before any is trained.

    Raises:
        ConfigError: Unknown keys, values out of range, parts that do not go together; names the first trials that fail, and how many.
    """
    failed: dict[str, str] = {}
    for values in trials:
        try:
            load_job(sets_of(values))
        except ConfigError as error:
            failed.setdefault(str(error), text_of(values))
    if failed:
        shown = [f"{trial}:\n  {error}" for error, trial in list(failed.items())[:3]]
        more = [f"... and {len(failed) - 3} more problems"] if len(failed) > len(shown) else []
        raise ConfigError("\n".join(["nothing was started, for not every trial is a job", *shown, *more]))


def ends_of(space: Space) -> list[dict[str, Any]]:
    """Trials that set one key each, to an end of its range or one of its choices."""
    return [{key: value} for key, room in space.items() for value in room.ends()]


def text_of(values: Values) -> str:
    """`optimizer.lr=0.001, model.n_layer=2`."""
    return ", ".join(f"{key}={toml_value(value)}" for key, value in values.items())
