"""What a row becomes: a text with braces that the row fills; lines for which it has nothing are left out. Pure."""

import re
from collections.abc import Mapping
from typing import NamedTuple

_TOKEN = re.compile(r"(?P<doubled>\{\{|\}\})|\{(?P<name>[^{}]+)\}|(?P<alone>[{}])")


class Line(NamedTuple):
    """A line of a template."""

    texts: tuple[str, ...]
    """Around the names: one more than there are names."""
    names: tuple[str, ...]


class Template:
    """A template, taken apart once."""

    def __init__(self, text: str) -> None:
        """Take a template apart.

        Raises:
            ValueError: A brace stands alone.
        """
        self._lines = tuple(_line(line) for line in text.splitlines(keepends=True))
        self.names = tuple(dict.fromkeys(name for line in self._lines for name in line.names))
        """What stands in braces, each once, in order."""

    def filled(self, values: Mapping[str, str]) -> str:
        """The template with a value for each of its names.

        A line with names, all of whose values are empty, is left out with its end.
        """
        return "".join(_filled(line, values) for line in self._lines)


def _line(text: str) -> Line:
    texts, names = [""], list[str]()
    end = 0
    for token in _TOKEN.finditer(text):
        if token["alone"]:
            raise ValueError(
                f"a brace stands alone in {text.strip()!r}; names stand in two, like {{content}}, and a brace that is text "
                "is doubled"
            )
        texts[-1] += text[end : token.start()]
        end = token.end()
        if token["doubled"]:
            texts[-1] += token["doubled"][0]
        else:
            names.append(token["name"])
            texts.append("")
    texts[-1] += text[end:]
    return Line(tuple(texts), tuple(names))


def _filled(line: Line, values: Mapping[str, str]) -> str:
    if not line.names:
        return line.texts[0]
    got = [values[name] for name in line.names]
    if not any(got):
        return ""
    return line.texts[0] + "".join(value + text for value, text in zip(got, line.texts[1:], strict=True))
