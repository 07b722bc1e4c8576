"""Layers laid over each other; who set, cleared or dropped each key on the way."""

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from ml_playground.configuration.base import FILE_MARK, PLUGIN_FILE
from ml_playground.configuration.schema import (
    ROOT,
    Key,
    KeyPath,
    Shape,
    below,
    class_of,
    dotted,
    find_key,
    find_shape,
    leaves,
)
from ml_playground.core.hub_cache import HUB_MARK, snapshot


@dataclass(frozen=True, slots=True)
class Layer:
    """Settings from one place."""

    name: str
    """`experiment`, `group model/tiny`, `--set`, ..."""
    table: Mapping[str, Any]
    folder: Path
    """Relative paths in it count from here."""
    file: Path | None = None
    lines: Mapping[KeyPath, int] = field(default_factory=dict[KeyPath, int])


@dataclass(frozen=True, slots=True)
class Origin:
    """One thing that happened to a key."""

    layer: str
    file: Path | None
    line: int | None
    value: Any
    """As written; paths are not yet absolute."""
    action: Literal["default", "set", "cleared", "dropped"] = "set"
    """`cleared`: the layer chose an alternative to this key. `dropped`: it chose another kind for the table around it."""

    @property
    def where(self) -> str:
        """`experiment demo/config.toml, line 4`."""
        if self.file is None:
            return self.layer
        return f"{self.layer} {shown(self.file)}" + (f", line {self.line}" if self.line else "")


DEFAULT = "class default"
FOLLOWS = "read from what another key names"
PACKAGE = Path(__file__).parents[2]
WORD_FOR_NONE = "none"
"""TOML has no null: this text stands for it in every layer, where a key may be none and takes no text."""


def shown(file: Path) -> str:
    """A path as short as it can be read: from the package's name on, or relative to the working directory."""
    for folder in (PACKAGE, Path.cwd()):
        if file.is_relative_to(folder):
            return str(file.relative_to(folder))
    return str(file)


@dataclass(slots=True)
class Merged:
    """The layers as one table, not yet validated, and the history of each key."""

    tree: dict[str, Any] = field(default_factory=dict[str, Any])
    chains: dict[KeyPath, list[Origin]] = field(default_factory=dict[KeyPath, list[Origin]])
    folders: dict[KeyPath, Path] = field(default_factory=dict[KeyPath, Path])
    """From where a relative path counts that was set last at this key."""
    problems: list[str] = field(default_factory=list[str])
    """What is no path although a path is wanted."""

    def origin(self, path: KeyPath) -> Origin | None:
        """Who set a key, or the first key below it, last."""
        if path in self.chains:
            return self.chains[path][-1]
        under = (chain[-1] for key, chain in self.chains.items() if key[: len(path)] == path)
        return next((origin for origin in under if origin.action == "set"), None)


def merge(layers: Iterable[Layer], chosen: Sequence[Layer] = ()) -> Merged:
    """Lay each over the ones before: tables merge, everything else is replaced, another kind replaces its whole table.

    `chosen` are those of them that were asked for by name: one whose every key is decided above them is a problem.
    """
    merged = Merged()
    for layer in layers:
        _lay(merged, layer, merged.tree, layer.table, (), ROOT)
    for path, value in list(leaves(merged.tree)):
        _settle(merged, path, value)
    names = {"--set", *(layer.name for layer in chosen)}
    merged.problems += [problem for layer in chosen for problem in _without_effect(merged, layer, names)]
    return merged


def _without_effect(merged: Merged, layer: Layer, names: Collection[str]) -> Iterable[str]:
    """What to say where layers of no such name, whose author had no thought of this one, decide all that it sets."""
    chains = {path: merged.chains.get(path, ()) for path, _ in leaves(layer.table)}
    if any(chain and chain[-1].layer in names for chain in chains.values()):
        return
    above = {chain[-1].where: dotted(path) for path, chain in chains.items() if chain}
    said = "; ".join(f"{key} comes from {where}" for where, key in list(above.items())[:3])
    yield f"use: the {layer.name} would change nothing here, for what lies above it sets all that it sets ({said}); take it out there"


def _lay(
    merged: Merged, layer: Layer, lower: dict[str, Any], upper: Mapping[str, Any], path: KeyPath, shape: Shape | None
) -> None:
    if "kind" in lower and "kind" in upper and lower["kind"] != upper["kind"]:
        for name in [name for name in lower if name != "kind"]:
            _forget(merged, layer, lower, (*path, name), (*path, "kind"), "dropped")
            del lower[name]
    for name, value in upper.items():
        here = (*path, name)
        if isinstance(value, Mapping):
            if not isinstance(lower.get(name), dict):
                merged.chains.pop(here, None)
                lower[name] = {}
            known = below(shape, {**lower, **upper}, name) if shape else None
            _lay(merged, layer, lower[name], cast(Mapping[str, Any], value), here, known)
            continue
        if isinstance(lower.get(name), dict):
            for key in [key for key in merged.chains if key[: len(here)] == here]:
                del merged.chains[key]
        lower[name] = value
        merged.chains.setdefault(here, []).append(Origin(layer.name, layer.file, layer.lines.get(here), value))
        merged.folders[here] = layer.folder
    _clear_alternatives(merged, layer, lower, upper, path, shape)


def _clear_alternatives(
    merged: Merged, layer: Layer, lower: dict[str, Any], upper: Mapping[str, Any], path: KeyPath, shape: Shape | None
) -> None:
    """Of keys of which one at most may be set, a layer that sets one takes back what lower layers set in the others."""
    settings_class = class_of(shape, lower) if shape else None
    for group in settings_class.alternatives if settings_class else ():
        chosen = next((name for name in group if upper.get(name) not in (None, WORD_FOR_NONE)), None)
        for name in group if chosen else ():
            if name not in upper and lower.get(name) is not None:
                _forget(merged, layer, lower, (*path, name), (*path, str(chosen)), "cleared")
                lower[name] = None


def _forget(
    merged: Merged,
    layer: Layer,
    lower: Mapping[str, Any],
    path: KeyPath,
    cause: KeyPath,
    action: Literal["cleared", "dropped"],
) -> None:
    """Note in the histories of a key, or of all below it, that `cause` took them back."""
    inner: Any = lower[path[-1]]
    keys = [key for key, _ in leaves(cast(Mapping[str, Any], inner), path)] if isinstance(inner, Mapping) else [path]
    for key in keys:
        origin = Origin(layer.name, layer.file, layer.lines.get(cause), None, action)
        merged.chains.setdefault(key, []).append(origin)


def _settle(merged: Merged, path: KeyPath, value: Any) -> None:
    """Read the word for none, make paths absolute."""
    shape = find_shape(path, merged.tree)
    if shape is None or value is None:
        return
    table = merged.tree
    for part in path[:-1]:
        table = table[part]
    if value == WORD_FOR_NONE and shape.none and not shape.text:
        table[path[-1]] = None
    elif shape.path or shape.prompt or shape.plugin:
        settle = absolute if shape.path else absolute_prompt if shape.prompt else absolute_plugin
        try:
            table[path[-1]] = _absolute_all(value, merged.folders[path], settle)
        except ValueError as error:
            where = merged.chains[path][-1].where
            merged.problems.append(f"{where}: {dotted(path)} = {value!r} is no path: {error}")


def _absolute_all(value: Any, folder: Path, settle: Callable[[str, Path], str]) -> Any:
    """Each text in it made an absolute path; what is no text is left for the validation to refuse."""
    if isinstance(value, list):
        return [_absolute_all(entry, folder, settle) for entry in cast(list[Any], value)]
    return settle(value, folder) if isinstance(value, str) else value


def absolute_prompt(text: str, folder: Path) -> str:
    """A prompt, its path made absolute when it is `FILE:path`.

    Raises:
        ValueError: The path is empty, or with a NUL in it.
    """
    return FILE_MARK + absolute(text.removeprefix(FILE_MARK), folder) if text.startswith(FILE_MARK) else text


def absolute_plugin(text: str, folder: Path) -> str:
    """A plugin, its path made absolute when it is a file.

    Raises:
        ValueError: The path is with a NUL in it.
    """
    return absolute(text, folder) if text.endswith(PLUGIN_FILE) else text


def absolute(text: str, folder: Path) -> str:
    """A path as a user writes it, made absolute: `~` and `~user` are home folders, a relative one counts from `folder`.

    `hub:ORG/NAME` is where that model of the Hugging Face hub lies on this machine.

    Raises:
        ValueError: Empty, with a NUL in it, in the home folder of nobody, or a model that was not fetched.
    """
    if not text or "\0" in text:
        raise ValueError("it is empty" if not text else "it holds a NUL character")
    if text.startswith(HUB_MARK):
        return str(snapshot(text.removeprefix(HUB_MARK)))
    try:
        # Path("./~a") is Path("~a"), which would be expanded too.
        path = Path(text).expanduser() if text.startswith("~") else Path(text)
    except RuntimeError as error:
        user = Path(text).parts[0][1:]
        raise ValueError(f"this machine has no user {user!r}; for a file of that name write ./{text}") from error
    return os.path.normpath(folder / path)


def histories(merged: Merged, tree: Mapping[str, Any]) -> dict[str, tuple[Origin, ...]]:
    """Dotted key -> everything that happened to it, the class default among it, the one that decided last."""
    found: dict[str, tuple[Origin, ...]] = {}
    for path, value in leaves(tree):
        chain = history(merged, path, find_key(path, tree))
        if len(chain) == 1 and chain[0].action == "default" and chain[0].value != value:
            chain = (*chain, Origin(FOLLOWS, None, None, value))
        found[dotted(path)] = chain
    return found


def history(merged: Merged, path: KeyPath, key: Key | None) -> tuple[Origin, ...]:
    """Everything that happened to one key; a class default counts from where another kind began."""
    chain = merged.chains.get(path, [])
    if key is None or key.default is ...:
        return tuple(chain)
    dropped = [index for index, origin in enumerate(chain) if origin.action == "dropped"]
    cut = dropped[-1] + 1 if dropped else 0
    return (*chain[:cut], Origin(DEFAULT, None, None, key.default, "default"), *chain[cut:])
