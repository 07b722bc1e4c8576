"""What Pydantic refuses, in words: layer, file, line, key, got, allowed, and what was probably meant."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from pydantic import ValidationError

from ml_playground.configuration.base import READS_FILES, Strict, kinds_of
from ml_playground.configuration.families import FAMILIES
from ml_playground.configuration.models import JobConfig
from ml_playground.configuration.origins import Merged
from ml_playground.configuration.plugins import PluginError
from ml_playground.configuration.schema import (
    KeyPath,
    Shape,
    class_of,
    dotted,
    find_key,
    find_shape,
    keys_of,
    leaves,
    node_at,
)
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.registry import did_you_mean

LONGEST_VALUE = 60
"""Characters of a value that a message shows."""


class ConfigProblemsError(ConfigError):
    """Everything that is wrong with a configuration, one line each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(dict.fromkeys(problems))
        super().__init__("\n".join(self.problems))


class UnnamedFilesError(ConfigProblemsError):
    """All is well but for files that only its user can name."""

    def __init__(self, names: Mapping[str, str], experiment: str = "The job", more: str = "") -> None:
        """Put it into words.

        Args:
            names: Dotted key of each file -> what it takes, in words.
            experiment: Which reads them.
            more: A last line.
        """
        self.names = names
        lines = [f"{experiment} reads what only you have: {' and '.join(names)} must be set."]
        lines += [f"{key} takes {words[:1].lower()}{words[1:]}." for key, words in names.items()]
        lines.append(f"Type behind the command: {' '.join(f'--set {key}=FILE' for key in names)}")
        super().__init__([*lines, *[more] * bool(more)])


def validated(merged: Merged, *, files: bool = True) -> JobConfig:
    """The job that the layers describe; with `files`, what is read of files that it names is in it.

    Raises:
        ConfigProblemsError: What is wrong, all of it.
        PluginError: A plugin is not here.
    """
    try:
        # JSON mode: strict Python mode would refuse lists for tuples and texts for paths.
        job = JobConfig.model_validate_json(json.dumps(merged.tree), context={READS_FILES: files})
    except ValidationError as error:
        raise _unnamed(error, merged) or ConfigProblemsError([*merged.problems, *_problems(error, merged)]) from None
    except PluginError as error:
        raise _placed(error, _where(("plugins",), merged), merged.tree) from error
    if merged.problems:
        raise ConfigProblemsError(merged.problems)
    return job


def recorded(content: bytes | str, where: str) -> JobConfig:
    """The job that a run or a checkpoint recorded, whose place is `where`.

    Raises:
        ValidationError: It is no job of this version.
        PluginError: A plugin that it names is not here.
    """
    try:
        return JobConfig.model_validate_json(content)
    except PluginError as error:
        # Pydantic has read it, so that it can be read; our limits would be another error than the one that is told.
        raise _placed(error, f"recorded job {where}: ", json.loads(content)) from error


def _placed(error: PluginError, where: str, tree: Mapping[str, Any]) -> PluginError:
    """The same error, with who names the plugin, and the kinds that it may bring."""
    kinds: list[str] = []
    for path, value in leaves(tree):
        shape = find_shape(path[:-1], tree) if path[-1] == "kind" else None
        if shape and shape.family and isinstance(value, str) and value not in FAMILIES[shape.family]:
            kinds.append(f"{dotted(path)} = {value!r:.80}")
    return PluginError(f"{where}{error}" + (f" Nothing else here knows {' and '.join(kinds)}." if kinds else ""))


def _unnamed(error: ValidationError, merged: Merged) -> UnnamedFilesError | None:
    """The files that are missing, where nothing else is wrong and an experiment leaves them to its user."""
    names: dict[str, str] = {}
    for detail in error.errors(include_url=False):
        path, rest = _place(detail["loc"], merged.tree)
        key = find_key((*path, str(rest)), merged.tree)
        if detail["type"] != "missing" or key is None or not key.shape.path:
            return None
        names[dotted(key.path)] = (key.field.description or key.shape.allowed).rstrip(".")
    return None if merged.problems else UnnamedFilesError(names)


def _problems(error: ValidationError, merged: Merged) -> Iterator[str]:
    for detail in error.errors(include_url=False):
        path, rest = _place(detail["loc"], merged.tree)
        kind = detail["type"]
        if kind == "missing":
            yield _missing((*path, str(rest)), merged)
        elif kind == "extra_forbidden":
            yield _unknown(path, merged)
        elif kind == "value_error":
            yield _contradiction(path, detail["msg"].removeprefix("Value error, "), merged)
        elif kind == "too_short" and len(node_at(path, merged.tree)) >= detail.get("ctx", {})["min_length"]:
            # Pydantic counts the entries that it could read; those that it could not have messages of their own.
            continue
        elif kind in ("component_kind", "component_type"):
            yield _wrong_component(path, detail["msg"], kind, merged)
        elif rest == "[key]":
            where = _where(path, merged)
            yield f"{where}{dotted(path)} is no name: letters, digits, `_`, `-` and `.`, at most 64, beginning with a letter or digit"
        else:
            yield _wrong_value(path, rest, merged)


def _place(location: tuple[int | str, ...], tree: Mapping[str, Any]) -> tuple[KeyPath, int | str | None]:
    """The key that an error is about, and what Pydantic says of the place inside it: an index, a missing key, `[key]`."""
    path: KeyPath = ()
    node: Any = tree
    for part in location:
        if not isinstance(node, Mapping) or part not in node:
            return path, part
        node = cast(Mapping[str, Any], node)[str(part)]
        path = (*path, str(part))
    return path, None


def _where(path: KeyPath, merged: Merged) -> str:
    origin = merged.origin(path)
    return f"{origin.where}: " if origin else ""


def as_text(value: Any) -> str:
    """A value as a message shows it: JSON, cut to a bearable length, and said to be text where it only looks like a number."""
    text = json.dumps(value, ensure_ascii=False)
    text = text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."
    return f"{text} (text)" if isinstance(value, str) else text


def _wrong_value(path: KeyPath, rest: int | str | None, merged: Merged) -> str:
    shape = find_shape(path, merged.tree)
    value = node_at(path, merged.tree)
    key = dotted(path)
    if isinstance(rest, int):
        key, value = f"{key}[{rest}]", value[rest]
    allowed = f" (allowed: {shape.allowed})" if shape else ""
    got = "a table" if isinstance(value, Mapping) else as_text(value)
    return f"{_where(path, merged)}{key} cannot be {got}{allowed}"


def _missing(path: KeyPath, merged: Merged) -> str:
    shape = find_shape(path, merged.tree)
    takes = f"; it takes {shape.allowed}" if shape else ""
    example = f"{dotted(path)}.kind=..." if shape and shape.family else f"{dotted(path)}=..."
    return f"{_where(path[:-1], merged)}{dotted(path)} is missing{takes}; set it in the experiment's config.toml or with --set {example}"


def _wrong_component(path: KeyPath, message: str, kind: str, merged: Merged) -> str:
    node = node_at(path, merged.tree)
    where = _where((*path, "kind"), merged) or _where(path, merged)
    if kind == "component_type":
        return f"{where}{dotted(path)} = {as_text(node)}: {message}"
    parent = find_shape(path[:-1], merged.tree)
    hint = ""
    if parent and parent.table_of and "kind" not in node:
        hint = did_you_mean(path[-1], [name for name in node_at(path[:-1], merged.tree) if name != path[-1]])
    return f"{where}{dotted(path)}: {message}{hint}"


def _contradiction(path: KeyPath, message: str, merged: Merged) -> str:
    """A rule between keys, and who set those that it names."""
    shape = find_shape(path, merged.tree)
    settings_class = class_of(shape, node_at(path, merged.tree)) if shape else None
    words = dict.fromkeys(word.rstrip(".") for word in re.findall(r"[A-Za-z_][A-Za-z_0-9.]*", message))
    keys = [
        (*path, *word.split(".")) for word in words if settings_class and word.split(".")[0] in keys_of(settings_class)
    ]
    setters = [f"{dotted(key)} comes from {merged.chains[key][-1].where}" for key in keys if key in merged.chains]
    place = f"{dotted(path)}: " if path else ""
    return f"{place}{message}" + (f" ({'; '.join(setters)})" if setters else "")


def _unknown(path: KeyPath, merged: Merged) -> str:
    value = node_at(path, merged.tree)
    got = "" if isinstance(value, Mapping) else f" (got {as_text(value)})"
    parent = find_shape(path[:-1], merged.tree)
    table = node_at(path[:-1], merged.tree)
    settings_class = class_of(parent, table) if parent else None
    what = "key" if path[:-1] or got else "section"
    return (
        f"{_where(path, merged)}unknown {what} {dotted(path)}{got}"
        f"{_hint(path, parent, settings_class, merged.tree)}{_allowed(parent, settings_class, table)}"
    )


def _allowed(parent: Shape | None, settings_class: type[Strict] | None, table: Any) -> str:
    if parent is None or settings_class is None:
        return ""
    of = f" for {parent.family} kind {table['kind']}" if parent.family else ""
    return f" (allowed{of}: {', '.join(keys_of(settings_class))})"


def _hint(path: KeyPath, parent: Shape | None, settings_class: type[Strict] | None, tree: Mapping[str, Any]) -> str:
    """The nearest key of the same table, and keys of that very name elsewhere in the job."""
    if parent and parent.family:
        owners = [kind for kind, other in kinds_of(parent.family).items() if path[-1] in keys_of(other)]
        if owners:
            return f"; it belongs to {parent.family} kind {' and '.join(owners)}"
    near = re.findall(r"'(.*)'", did_you_mean(path[-1], keys_of(settings_class) if settings_class else ()))
    candidates = [dotted((*path[:-1], name)) for name in near] + list(namesakes(path[-1], tree))[:2]
    return f"; did you mean {' or '.join(dict.fromkeys(candidates))}?" if candidates else ""


def namesakes(name: str, tree: Mapping[str, Any]) -> Iterator[str]:
    """Dotted keys of the job, one or more tables down, whose last part is `name`."""
    for path in job_keys(tree):
        if len(path) > 1 and path[-1] == name and path[0] != "hooks":
            yield dotted(path)


def job_keys(tree: Mapping[str, Any], path: KeyPath = ()) -> Iterator[KeyPath]:
    """Every key that a job of these kinds may set, tables before what is in them."""
    shape = find_shape(path, tree)
    table = node_at(path, tree)
    settings_class = class_of(shape, table) if shape else None
    names: Iterable[str] = keys_of(settings_class) if settings_class else ()
    if shape and (shape.table_of or shape.entries) and isinstance(table, Mapping):
        names = cast(Mapping[str, Any], table)
    for name in names:
        yield (*path, name)
        yield from job_keys(tree, (*path, name))
