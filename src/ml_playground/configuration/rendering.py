"""A job as TOML that its user could have written, each line with where its value comes from."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

from ml_playground.configuration.loading import Loaded
from ml_playground.configuration.origins import WORD_FOR_NONE
from ml_playground.configuration.schema import BARE, KeyPath, dotted, find_shape

COMMENT_COLUMN = 44
"""Where the comments begin, unless a line is longer."""


def as_toml(loaded: Loaded) -> str:
    """Valid TOML; read again as a `--config` over the same experiment it gives the same job."""
    tree = loaded.job.model_dump(mode="json")
    return "\n".join(_table((), tree, loaded, tree)).strip() + "\n"


def toml_value(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, list):
        return f"[{', '.join(toml_value(entry) for entry in cast(list[Any], value))}]"
    # JSON's text, numbers and booleans are TOML's, but for the one control character that JSON leaves as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def toml_key(path: KeyPath) -> str:
    """A dotted key, its parts quoted where TOML wants it."""
    return ".".join(part if BARE.fullmatch(part) else toml_value(part) for part in path)


def _table(path: KeyPath, table: Mapping[str, Any], loaded: Loaded, tree: Mapping[str, Any]) -> Iterator[str]:
    values = {name: value for name, value in table.items() if not isinstance(value, Mapping)}
    if path and (values or not table):
        yield f"\n[{toml_key(path)}]"
    for name in sorted(values, key=lambda name: name != "kind"):
        yield _line((*path, name), values[name], loaded, tree)
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _table((*path, name), cast(Mapping[str, Any], value), loaded, tree)


def _line(path: KeyPath, value: Any, loaded: Loaded, tree: Mapping[str, Any]) -> str:
    text = f"{toml_key(path[-1:])} = {WORD_FOR_NONE if value is None else toml_value(value)}"
    shape = find_shape(path, tree)
    if value is None:
        # TOML has no null: the word stands for it, but where text is allowed it would be that text.
        text = f"# {text}" if shape is None or shape.text else f'{toml_key(path[-1:])} = "{WORD_FOR_NONE}"'
    return f"{text:<{COMMENT_COLUMN}} # {loaded.origins[dotted(path)][-1].where}"
