"""What each key takes, read from the settings classes: for messages, `--set`, `explain` and the reference."""

import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

import annotated_types
from pydantic import StringConstraints
from pydantic.fields import FieldInfo

from ml_playground.configuration.base import (
    ByKind,
    PathMark,
    PluginMark,
    PromptMark,
    Strict,
    settings_of,
)
from ml_playground.configuration.families import FAMILIES
from ml_playground.configuration.models import JobConfig

BARE = re.compile(r"[A-Za-z0-9_-]+")
"""What TOML takes as a key without quotes."""

KINDS = "{kinds}"
"""Stands for the names of the kinds of a family."""

KeyPath = tuple[str, ...]
"""A key by its parts: ("train", "max_steps")."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a key takes."""

    words: str
    """What it takes; `KINDS` stands for the kinds of the family, which are listed only when somebody reads them."""
    text: bool = False
    """Any text, or a path."""
    other: bool = False
    """Something that is neither text nor none."""
    none: bool = False
    """May be none."""
    text_list: bool = False
    """A list of texts."""
    path: bool = False
    """Relative paths are made absolute by the loader."""
    prompt: bool = False
    """So are those behind `FILE:`."""
    plugin: bool = False
    """So are those that end in `.py`."""
    section: type[Strict] | None = None
    """A table with these settings."""
    family: str | None = None
    """A table with a kind of this family."""
    table_of: str | None = None
    """A table of components of this family, by name."""
    entries: "Shape | None" = None
    """A table of plain values, by name: what each of them takes."""

    @property
    def allowed(self) -> str:
        """What it takes, in words."""
        family = self.family or self.table_of
        return self.words.replace(KINDS, FAMILIES[family].listed()) if family else self.words

    @property
    def is_table(self) -> bool:
        """Whether keys lie below."""
        return bool(self.section or self.family or self.table_of or self.entries)


@dataclass(frozen=True, slots=True)
class Key:
    """One field of one settings class, at a place in the job."""

    path: KeyPath
    field: FieldInfo
    shape: Shape

    @property
    def default(self) -> Any:
        """The class default as it stands in JSON; `...` when the key must be set."""
        return default_of(self.field)


def dotted(path: KeyPath) -> str:
    """`train.max_steps`; parts that TOML would quote are quoted."""
    return ".".join(part if BARE.fullmatch(part) else repr(part) for part in path)


def default_of(field: FieldInfo) -> Any:
    """The default as it stands in JSON; `...` when there is none."""
    if field.is_required():
        return ...
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, Strict):
        return value.model_dump(mode="json")
    return list(cast(tuple[Any, ...], value)) if isinstance(value, tuple) else value


@cache
def keys_of(settings_class: type[Strict]) -> Mapping[str, Shape]:
    """Every key of a settings class and what it takes."""
    return {name: _shape(field.annotation, field.metadata) for name, field in settings_class.model_fields.items()}


def families_in_use() -> list[str]:
    """Families whose kinds a job file chooses, in the order of the sections."""
    used = _families_of(_sections())
    # A kind may be put together from kinds of another family, as a model is that has an adapter.
    used |= _families_of(settings_of(family, kind) for family in used for kind in FAMILIES[family].shipped)
    return [name for name in FAMILIES if name in used]


def _families_of(classes: Iterable[type[Strict]]) -> set[str]:
    shapes = [shape for found in classes for shape in keys_of(found).values()]
    return {family for shape in shapes for family in (shape.family, shape.table_of) if family is not None}


def sections() -> Mapping[str, type[Strict]]:
    """The sections whose settings are the same in every job."""
    return {name: shape.section for name, shape in keys_of(JobConfig).items() if shape.section}


def _sections() -> list[type[Strict]]:
    return [JobConfig, *sections().values()]


def class_of(shape: Shape, table: Any) -> type[Strict] | None:
    """The settings class that reads a table; None where its kind is missing or unknown."""
    if shape.section:
        return shape.section
    if shape.family and isinstance(table, Mapping):
        kind = cast(Mapping[str, Any], table).get("kind")
        return settings_of(shape.family, kind) if isinstance(kind, str) and kind in FAMILIES[shape.family] else None
    return None


def below(shape: Shape, table: Any, name: str) -> Shape | None:
    """What the key `name` of a table takes; None when there is no such key, or nobody can know."""
    if shape.table_of:
        return entry_shape(shape.table_of)
    if shape.entries:
        return shape.entries
    settings_class = class_of(shape, table)
    return keys_of(settings_class).get(name) if settings_class else None


ROOT = Shape("a job", section=JobConfig, other=True)


def entry_shape(family: str) -> Shape:
    """What an entry of a table of components takes."""
    return Shape(f"a table with a kind ({KINDS})", other=True, family=family)


def find_shape(path: KeyPath, tree: Mapping[str, Any]) -> Shape | None:
    """What the key at `path` takes, in a job whose kinds are those of `tree`."""
    shape: Shape | None = ROOT
    node: Any = tree
    for part in path:
        shape = below(shape, node, part) if shape else None
        node = cast(Mapping[str, Any], node).get(part) if isinstance(node, Mapping) else None
    return shape


def find_key(path: KeyPath, tree: Mapping[str, Any]) -> Key | None:
    """The field at `path`, in a job whose kinds are those of `tree`; None for components in tables by name too."""
    shape = find_shape(path, tree)
    parent = find_shape(path[:-1], tree)
    if not path or shape is None or parent is None:
        return None
    if parent.entries and (above := find_key(path[:-1], tree)):
        return Key(path, FieldInfo(description=above.field.description), shape)
    settings_class = class_of(parent, node_at(path[:-1], tree))
    return Key(path, settings_class.model_fields[path[-1]], shape) if settings_class else None


def node_at(path: KeyPath, tree: Any) -> Any:
    """What stands at `path`; None when nothing does."""
    for part in path:
        tree = cast(Mapping[str, Any], tree).get(part) if isinstance(tree, Mapping) else None
    return tree


def leaves(tree: Mapping[str, Any], path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Every value that is no table, with its path."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(cast(Mapping[str, Any], value), (*path, name))
        else:
            yield (*path, name), value


def _shape(annotation: Any, metadata: list[Any]) -> Shape:
    if typing.get_origin(annotation) is typing.Annotated:
        inner, *more = typing.get_args(annotation)
        return _shape(inner, [*metadata, *more])
    flat: list[Any] = []
    for item in metadata:
        flat.extend(item.metadata if isinstance(item, FieldInfo) else [item])
    family = next((item.family for item in flat if isinstance(item, ByKind)), None)
    if family:
        return entry_shape(family)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return _union([_shape(member, []) for member in typing.get_args(annotation)])
    if typing.get_origin(annotation) is Literal:
        return Shape("one of " * (len(typing.get_args(annotation)) > 1) + _choices(annotation), other=True)
    return _container(annotation, flat) or _plain(annotation, flat)


def _union(members: list[Shape]) -> Shape:
    """Any of them; none is named last."""
    some = [member for member in members if not (member.none and not member.text and not member.other)]
    none = len(some) < len(members)
    words = [member.words for member in some] + ["none"] * none
    return replace(
        some[0],
        words=", or ".join(words),
        text=any(member.text for member in some),
        other=any(member.other for member in some),
        none=none,
    )


def _choices(annotation: Any) -> str:
    return ", ".join(f'"{choice}"' for choice in typing.get_args(annotation))


def _container(annotation: Any, metadata: list[Any]) -> Shape | None:
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is tuple:
        entry = _shape(arguments[0], [])
        least = next((item.min_length for item in metadata if isinstance(item, annotated_types.MinLen)), 0)
        words = f"a list of at least {least}, each {entry.words}" if least else f"a list, each {entry.words}"
        return replace(entry, words=words, text=False, other=True, none=False, text_list=entry.text)
    if typing.get_origin(annotation) is dict:
        entry = _shape(arguments[1], [])
        plain = None if entry.family else entry
        return Shape(f"a table of names, each {entry.words}", other=True, table_of=entry.family, entries=plain)
    if isinstance(annotation, type) and issubclass(annotation, Strict):
        return Shape("a table", other=True, section=annotation)
    return None


def _plain(annotation: Any, metadata: list[Any]) -> Shape:
    if annotation is type(None):
        return Shape("none", none=True)
    if annotation is str:
        limits = next((item for item in metadata if isinstance(item, StringConstraints)), StringConstraints())
        words = f"text that matches {limits.pattern}" if limits.pattern else "text"
        words += " that is not empty" if limits.min_length else ""
        return Shape(
            words,
            text=True,
            prompt=any(isinstance(item, PromptMark) for item in metadata),
            plugin=any(isinstance(item, PluginMark) for item in metadata),
        )
    if annotation is Path:
        return Shape("a path", text=True, path=any(isinstance(item, PathMark) for item in metadata))
    words = {bool: "true or false", int: "a whole number", float: "a number"}
    if annotation not in words:
        raise TypeError(f"a setting of type {annotation!r} has no description; add one to configuration/schema.py")
    return Shape(" ".join([words[annotation], " and ".join(_bounds(metadata))]).strip(), other=True)


def _bounds(metadata: list[Any]) -> Iterator[str]:
    for item in metadata:
        match item:
            case annotated_types.Ge(ge=limit):
                yield f"of at least {limit}"
            case annotated_types.Gt(gt=limit):
                yield f"above {limit}"
            case annotated_types.Le(le=limit):
                yield f"of at most {limit}"
            case annotated_types.Lt(lt=limit):
                yield f"below {limit}"
            case _:
                pass
