"""YAML by the rules of version 1.2, into plain tables and the line of every key."""

import re
from collections.abc import Iterator
from typing import Any, cast

import yaml

from ml_playground.configuration.documents import MOST_VALUES, Document, as_word
from ml_playground.configuration.schema import KeyPath
from ml_playground.core.error_handling import ConfigError

TAGS = "tag:yaml.org,2002:"


class _CoreLoader(yaml.SafeLoader):
    """YAML 1.2's core rules: `1e-3` is a number, `yes`, `on` and dates are text; no aliases, which can explode.

    It counts as it reads: a megabyte of `- a` takes this parser half a minute.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own table, by class

    nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse aliases, and more values and keys than a configuration has; else as usual."""
        self.nodes += 1
        if self.nodes > 2 * MOST_VALUES:
            mark = cast(yaml.Mark, self.peek_event().start_mark)  # pyright: ignore[reportUnknownMemberType]
            raise yaml.MarkedYAMLError(problem=f"it holds more than {MOST_VALUES} values", problem_mark=mark)
        if self.check_event(yaml.AliasEvent):
            mark = cast(yaml.Mark, self.peek_event().start_mark)  # pyright: ignore[reportUnknownMemberType]
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not read here; write it out", problem_mark=mark)
        return super().compose_node(parent, index)


def _resolvers() -> Iterator[tuple[str, str, str]]:
    yield "null", r"^(?:~|null|Null|NULL|)$", "~nN\0"
    yield "bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"
    yield "int", r"^[-+]?[0-9]+$", "-+0123456789"
    yield "float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"
    yield "float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", "-+."


for _tag, _pattern, _first in _resolvers():
    _CoreLoader.add_implicit_resolver(  # pyright: ignore[reportUnknownMemberType] - untyped in PyYAML's stubs
        f"{TAGS}{_tag}", re.compile(_pattern), ["" if letter == "\0" else letter for letter in _first]
    )


def read_yaml(text: str, where: str) -> Document:
    """The table in a YAML text.

    Raises:
        ConfigError: Bad syntax, what is not read here, or no table.
    """
    lines: dict[KeyPath, int] = {}
    try:
        node = yaml.compose(text, Loader=_CoreLoader)  # pyright: ignore[reportUnknownMemberType]
        table: Any = _value_of(node, (), lines) if node else {}
    except RecursionError:
        raise ConfigError(f"{where}: is nested too deeply") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{where}{line}: is not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # An escape beyond Unicode is a ValueError, one beyond 31 bits an OverflowError.
        raise ConfigError(f"{where}: is not valid YAML: {error}") from error
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: must be a YAML mapping of sections; got {as_word(table)}")
    return Document(cast(dict[str, Any], table), lines)


def _value_of(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int]) -> Any:
    """The plain value of a node; notes the lines of keys on the way."""
    if node.tag.removeprefix(TAGS) not in ("map", "seq", "str", "int", "float", "bool", "null"):
        raise yaml.MarkedYAMLError(problem=f"the tag {node.tag} is not read here", problem_mark=node.start_mark)
    if isinstance(node, yaml.MappingNode):
        table: dict[str, Any] = {}
        for key, entry in cast(list[tuple[yaml.Node, yaml.Node]], node.value):
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be a plain word", problem_mark=key.start_mark)
            name = str(cast(object, key.value))
            if name in table:
                raise yaml.MarkedYAMLError(problem=f"the key {name!r} stands twice", problem_mark=key.start_mark)
            lines[*path, name] = key.start_mark.line + 1
            table[name] = _value_of(entry, (*path, name), lines)
        return table
    if isinstance(node, yaml.SequenceNode):
        entries = cast(list[yaml.Node], node.value)
        return [_value_of(entry, (*path, str(index)), lines) for index, entry in enumerate(entries)]
    return _scalar(node, str(cast(object, node.value)))


def _scalar(node: yaml.Node, text: str) -> str | int | float | bool | None:
    match node.tag.removeprefix(TAGS):
        case "int":
            return int(text)
        case "float":
            return float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
        case "bool":
            return text.lower() == "true"
        case "null":
            return None
        case _:
            return text
