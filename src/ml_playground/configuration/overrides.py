"""The layers that have no file: `--set KEY=VALUE` and the environment."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from ml_playground.configuration.documents import DEEPEST, Document, parsed_toml, read_json, vetted
from ml_playground.configuration.origins import WORD_FOR_NONE, Layer
from ml_playground.configuration.schema import KeyPath, Shape, dotted, find_shape
from ml_playground.core.error_handling import ConfigError

VARIABLES: Mapping[str, KeyPath] = {
    "ML_PLAYGROUND_OVERRIDES": (),
    "ML_PLAYGROUND_TRAIN_OVERRIDES": ("train",),
    "ML_PLAYGROUND_SAMPLE_OVERRIDES": ("sample",),
}
"""Environment variable -> the table over which its JSON object is laid; later ones over earlier ones."""

# A key in quotes may hold `=`; the first one outside quotes ends the key.
ASSIGNMENT = re.compile(r"""^((?:"[^"]*"|'[^']*'|[^"'=])+)=(.*)$""", re.DOTALL)
OPENERS = ("{", "[", '"', "'")


def environment_layers(environ: Mapping[str, str], folder: Path) -> Iterator[Layer | str]:
    """A layer for each variable that is set, or what is wrong with it."""
    for variable, section in VARIABLES.items():
        text = environ.get(variable, "")
        if not text.strip():
            continue
        where = f"environment variable {variable}"
        try:
            table = read_json(text, where)
        except ConfigError as error:
            yield str(error)
            continue
        for part in reversed(section):
            table = {part: table}
        yield Layer(where, table, folder)


def set_layer(sets: Sequence[str], folder: Path, tree: Mapping[str, Any]) -> tuple[Layer, list[str]]:
    """All `--set` of a command as one layer, and what is wrong with them.

    Args:
        sets: `KEY=VALUE` each; later ones win.
        folder: Relative paths count from here.
        tree: A job of the same kinds: what a key takes decides how a bare word is read.
    """
    table: dict[str, Any] = {}
    problems: list[str] = []
    for given in sets:
        # Bytes of a command line that are not UTF-8 arrive as lone surrogates, which no terminal prints.
        text = given.encode(errors="backslashreplace").decode()
        try:
            path, raw = _split(text)
            _put(table, path, _value(raw, find_shape(path, tree), text), text)
        except ConfigError as error:
            problems.append(str(error))
    return Layer("--set", table, folder), problems


def _split(text: str) -> tuple[KeyPath, str]:
    match = ASSIGNMENT.match(text)
    if not match:
        raise ConfigError(f"--set {text}: must look like KEY=VALUE, for example train.max_steps=200")
    try:
        node: Any = parsed_toml(f"{match[1].strip()} = 0")
    except ValueError:
        node = None
    path: list[str] = []
    while isinstance(node, dict) and len(cast(dict[str, Any], node)) == 1:
        name, node = next(iter(cast(dict[str, Any], node).items()))
        path.append(name)
    if node != 0 or "\n" in match[1] or len(path) > DEEPEST:
        raise ConfigError(
            f"--set {text}: {match[1]!r} is no key; it is words joined by dots, for example train.max_steps"
        )
    return tuple(path), match[2].strip()


def _value(raw: str, shape: Shape | None, text: str) -> Any:
    """A TOML value; a bare word is text, and `none` is none where the key may be none."""
    if shape and shape.none and raw in (WORD_FOR_NONE, "null"):
        return None
    text_only = shape is not None and shape.text and not shape.other
    try:
        table = parsed_toml(f"v = {raw}")
        value: Any = table["v"] if len(table) == 1 else raw
    except ValueError as error:
        if raw.startswith(OPENERS) and not text_only:
            raise ConfigError(f"--set {text}: {raw!r} is not a valid TOML value: {error}") from error
        value = raw
    if text_only and not isinstance(value, str):
        return raw
    if shape and shape.text_list and not isinstance(value, list):
        value = [value if isinstance(value, str) else raw]
    return cast(object, value)


def _put(table: dict[str, Any], path: KeyPath, value: Any, text: str) -> None:
    vetted(Document({path[-1]: value}), f"--set {text}")
    for index, part in enumerate(path[:-1]):
        inner: Any = table.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ConfigError(
                f"--set {text}: another --set gives {dotted(path[: index + 1])} a value, so it has no keys"
            )
        table = cast(dict[str, Any], inner)
    old: Any = table.get(path[-1])
    if isinstance(old, dict) and isinstance(value, dict):
        for name, entry in cast(dict[str, Any], value).items():
            _put(cast(dict[str, Any], old), (name,), entry, text)
    else:
        table[path[-1]] = value
