"""The books of an import: what every key of a foreign file became here, and what became of none."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from ml_playground.configuration.origins import absolute
from ml_playground.configuration.schema import KeyPath
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.registry import did_you_mean

NULL = "it says nothing: as where it is not stated"
SOME = 6
Fate = Literal["kept", "changed", "left out"]
WORDS: Mapping[type, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    list: "a list",
}


@dataclass(frozen=True, slots=True)
class Computed:
    """A value that only running the file would give."""

    code: str


@dataclass(frozen=True, slots=True)
class Foreign:
    """What a foreign file states: dotted keys, plain values, the lines they stand on."""

    system: str
    """Whose format it is."""
    file: Path
    values: Mapping[str, Any]
    lines: Mapping[str, int] = field(default_factory=dict[str, int])
    unset: Sequence[str] = ()
    """Keys that it states as null."""

    def where(self, key: str) -> str:
        """`config/train.py, line 4`."""
        line = self.lines.get(key)
        return f"{self.file}, line {line}" if line else str(self.file)


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one foreign key."""

    key: str
    """Empty for a setting of ours that stands for a habit of the whole system."""
    line: int | None
    """None for what the file leaves to its system's own default."""
    value: Any
    fate: Fate
    ours: tuple[str, ...] = ()
    """Dotted keys of ours."""
    reason: str = ""


class Book:
    """Hands out the keys of a foreign file, checked, and writes down what is done with each."""

    def __init__(self, foreign: Foreign, defaults: Mapping[str, Any]) -> None:
        """`defaults` are what the foreign system takes for a key that its file does not state."""
        self.foreign = foreign
        self._defaults = defaults
        self.findings: list[Finding] = []
        self.table: dict[str, Any] = {}
        self.lines: dict[KeyPath, int] = {}
        self.unknown: dict[str, str] = {}
        """Keys that the foreign system does not have, once the book is closed; with what was probably meant."""
        self._settled: set[str] = set()

    def states(self, key: str) -> bool:
        """Whether the file itself says something about a key."""
        return key in self.foreign.values

    def stated(self, table: str) -> list[str]:
        """The keys that the file itself states below `table.`."""
        return [key for key in self.foreign.values if key.startswith(table)]

    def value(self, key: str, kind: type) -> Any:
        """What the file, else its system's default says; None where both say nothing.

        Raises:
            ConfigError: It is of another type, or would have to be computed.
        """
        value = self.foreign.values.get(key, self._defaults.get(key))
        where = self.foreign.where(key)
        if isinstance(value, Computed):
            raise ConfigError(
                f"{where}: {key} = {value.code} is computed; the file is read and never run: write the value itself there"
            )
        fits = isinstance(value, int | float if kind is float else kind) and (
            kind is bool or not isinstance(value, bool)
        )
        if not fits and (value is not None or self._defaults.get(key) is not None):
            raise ConfigError(f"{where}: {key} = {value!r} is not what {self.foreign.system} takes: {WORDS[kind]}")
        return value

    def keep(self, key: str, ours: Mapping[str, Any], reason: str = "") -> None:
        """A foreign key becomes these of ours; with a reason its value or its meaning is another one here."""
        fate: Fate = "changed" if reason else "kept"
        line = self.foreign.lines.get(key)
        for dotted, value in ours.items():
            self._set(tuple(dotted.split(".")), value, line)
        stated = self.foreign.values.get(key, self._defaults.get(key))
        self._write(Finding(key, line, stated, fate, tuple(ours), reason))

    def habit(self, ours: Mapping[str, Any], reason: str) -> None:
        """Settings of ours that stand for what the foreign system always does."""
        for dotted, value in ours.items():
            self._set(tuple(dotted.split(".")), value, None)
        self.findings.append(Finding("", None, None, "changed", tuple(ours), reason))

    def leave(self, key: str, reason: str) -> None:
        """A foreign key has no counterpart; nothing is said of one that the file does not state."""
        if self.states(key) and key not in self._settled:
            self._write(Finding(key, self.foreign.lines.get(key), self.foreign.values[key], "left out", (), reason))

    def note(self, key: str, reason: str) -> None:
        """A key, or its system's default, that shapes no setting of ours by itself, but whose meaning is another one here."""
        stated = self.foreign.values.get(key, self._defaults.get(key))
        self._write(Finding(key, self.foreign.lines.get(key), stated, "left out", (), reason))

    def overruled(self, key: str, foreign: Foreign, reason: str) -> None:
        """A key of the file as it stands that another one of the same meaning overrules."""
        self._write(Finding(key, foreign.lines.get(key), foreign.values[key], "left out", (), reason))

    def settled(self, *keys: str) -> None:
        """Nothing more is to be done about these."""
        self._settled.update(keys)

    def direct(self, table: Mapping[str, tuple[str, type]]) -> None:
        """Keys that mean the same here, under another name."""
        for key, (ours, kind) in table.items():
            value = self.value(key, kind)
            if value is not None and key not in self._settled:
                self.keep(key, {ours: value})

    def close(self, nothing: Mapping[str, str], known: Iterable[str] = ()) -> None:
        """Write down the rest: keys without a counterpart (`callbacks.` stands for all below it), and unknown ones."""
        allowed = sorted(name for name in {*nothing, *self._defaults, *self._settled, *known} if not name.endswith("."))
        for key in (*self.foreign.values, *self.foreign.unset):
            if key not in allowed and _below(key, nothing) is None:
                self.unknown[key] = did_you_mean(key, allowed).removeprefix("; ")
        for key, value in self.foreign.values.items():
            if value is None:
                self.leave(key, NULL)
            meant = self.unknown.get(key)
            unknown = f"no setting of {self.foreign.system}" + (f"; {meant}" if meant else "")
            self.leave(key, nothing.get(key) or _below(key, nothing) or unknown)
        for key in self.foreign.unset:
            self._write(Finding(key, self.foreign.lines.get(key), None, "left out", (), NULL))

    @property
    def some_known(self) -> list[str]:
        """A few keys that such a file may have, for a message."""
        return list(self._defaults)[:SOME]

    def path(self, text: str) -> str:
        """A path of the file, absolute: a relative one counts from its folder.

        Raises:
            ConfigError: No file can have it.
        """
        try:
            return absolute(text, self.foreign.file.absolute().parent)
        except ValueError as error:
            raise ConfigError(f"{self.foreign.file}: {text!r} is no path: {error}") from error

    def _write(self, finding: Finding) -> None:
        self._settled.add(finding.key)
        self.findings.append(finding)

    def _set(self, path: KeyPath, value: Any, line: int | None) -> None:
        table = self.table
        for part in path[:-1]:
            table = cast(dict[str, Any], table.setdefault(part, {}))
        table[path[-1]] = value
        if line is not None:
            self.lines[path] = line


def _below(key: str, nothing: Mapping[str, str]) -> str | None:
    """The reason that stands for all keys below a table."""
    return next((text for name, text in nothing.items() if name.endswith(".") and f"{key}.".startswith(name)), None)


def share_of_peak(lowest: float, peak: float | None) -> tuple[float, str]:
    """A lowest learning rate as the share of the peak that our schedules take; and why it is another one than stated."""
    if not peak or peak < 0:
        # The peak itself is refused.
        return 0.0, ""
    if lowest > peak:
        return 1.0, f"the floor cannot lie above the peak, {peak:g}"
    return float(f"{lowest / peak:.12g}"), ""
