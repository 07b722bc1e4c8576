"""What one key is, takes and means, and who set it: the answer of `mlp config explain`, as values."""

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ml_playground.configuration.base import Strict, kinds_of
from ml_playground.configuration.families import FAMILIES
from ml_playground.configuration.origins import Merged, Origin, history
from ml_playground.configuration.problems import job_keys
from ml_playground.configuration.schema import (
    Key,
    KeyPath,
    Shape,
    class_of,
    default_of,
    dotted,
    entry_shape,
    find_key,
    find_shape,
    keys_of,
    node_at,
)
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.registry import did_you_mean


@dataclass(frozen=True, slots=True)
class Explanation:
    """One key or one table of a job."""

    key: str
    help: str
    takes: str
    """In words."""
    default: Any = ...
    """Class default as it stands in JSON; `...` where it must be set, or for a table."""
    value: Any = ...
    """In effect; `...` where nothing is set."""
    kinds: tuple[str, ...] = ()
    """Kinds of the component to which the key belongs, where the job has chosen another; it has no effect then."""
    chain: tuple[Origin, ...] = ()
    """Who did what to it, lowest layer first; the last one decided."""
    keys: Mapping[str, str] | None = None
    """Of a table: its keys and what each means."""
    plugin: str = ""
    """Who brings the kind of the table, or of the table around the key; empty: this package."""


def explain(text: str, merged: Merged) -> Explanation:
    """What `text` names, in a job of these layers.

    Raises:
        ConfigError: No job has such a key; names the nearest one.
    """
    path = tuple(part[0] or part[1] or part[2] for part in re.findall(r"'([^']*)'|\"([^\"]*)\"|([^.'\"]+)", text))
    shape = find_shape(path, merged.tree)
    key = find_key(path, merged.tree) if path else None
    if path and shape and shape.is_table and (key or node_at(path, merged.tree) is not None):
        return _table(path, shape, merged)
    if key:
        return _value(path, key, merged)
    owners = _owners(path, merged) if path else {}
    if owners:
        settings_class = next(iter(owners.values()))
        shape, field = keys_of(settings_class)[path[-1]], settings_class.model_fields[path[-1]]
        return Explanation(dotted(path), field.description or "", shape.allowed, default_of(field), kinds=tuple(owners))
    raise ConfigError(f"no setting {text!r}{_hint(text, path, merged)} (sections: {', '.join(keys_of_job(merged))})")


def keys_of_job(merged: Merged) -> Sequence[str]:
    """The names at the top of a job."""
    return [path[0] for path in job_keys(merged.tree) if len(path) == 1]


def _value(path: KeyPath, key: Key, merged: Merged) -> Explanation:
    chain = history(merged, path, key)
    set_here = path[-1] in (node_at(path[:-1], merged.tree) or ())
    default = chain[-1].value if chain else ...
    value = node_at(path, merged.tree) if set_here else default
    return Explanation(
        dotted(path),
        key.field.description or "",
        key.shape.allowed,
        key.default,
        value,
        chain=chain,
        plugin=_plugin_of(path[:-1], merged),
    )


def _table(path: KeyPath, shape: Shape, merged: Merged) -> Explanation:
    key = find_key(path, merged.tree)
    table = node_at(path, merged.tree)
    settings_class = class_of(shape, table)
    about = [key.field.description or ""] if key else []
    names: Mapping[str, str] = {}
    if settings_class:
        about.append(_about(settings_class))
        names = {name: settings_class.model_fields[name].description or "" for name in keys_of(settings_class)}
    elif shape.table_of:
        entries = {name: class_of(entry_shape(shape.table_of), entry) for name, entry in _entries(table)}
        names = {name: _about(entry) if entry else "" for name, entry in entries.items()}
    return Explanation(dotted(path), "\n".join(about), shape.allowed, keys=names, plugin=_plugin_of(path, merged))


def _plugin_of(path: KeyPath, merged: Merged) -> str:
    shape, table = find_shape(path, merged.tree), node_at(path, merged.tree)
    kind = dict(_entries(table)).get("kind") if shape and shape.family else None
    return FAMILIES[shape.family].origin(kind) if shape and shape.family and isinstance(kind, str) else ""


def _entries(table: Any) -> Iterable[tuple[str, Any]]:
    return cast(Mapping[str, Any], table).items() if isinstance(table, Mapping) else ()


def _about(settings_class: type[Strict]) -> str:
    return inspect.cleandoc(settings_class.__doc__ or "")


def _owners(path: KeyPath, merged: Merged) -> dict[str, type[Strict]]:
    """Kinds that have this key where the job has another kind, or none."""
    parent = find_shape(path[:-1], merged.tree)
    is_there = find_key(path[:-1], merged.tree) is not None or node_at(path[:-1], merged.tree) is not None
    # An entry of a table of names that nobody set would have any shape.
    if parent is None or parent.family is None or not is_there:
        return {}
    return {kind: other for kind, other in kinds_of(parent.family).items() if path[-1] in keys_of(other)}


def _hint(text: str, path: KeyPath, merged: Merged) -> str:
    """Keys elsewhere of the same last name, else the nearest one."""
    known = [dotted(key) for key in job_keys(merged.tree)]
    same = list(_ending_in(path[-1], known))[:3] if path else []
    return f"; did you mean {' or '.join(same)}?" if same else did_you_mean(text, known)


def _ending_in(name: str, known: Sequence[str]) -> Iterator[str]:
    return (key for key in known if key.rpartition(".")[2] == name)
