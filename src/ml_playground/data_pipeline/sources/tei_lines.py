"""TEI as a stream of tagged lines: the parser calls, nothing is built, and no entity is ever expanded.

| element | line |
|---|---|
| `teiHeader` with title, legislativePeriod, sessionNo, date | `<document> Plenarprotokoll 13/1, 1994-11-10` |
| `div` with type, n, desc or what; `head` in it | `<division> agenda_item 1: Eröffnung` |
| `sp` with who or name, parliamentary_group or party; `speaker` in it | `<speaker> Rita Süssmuth (CDU/CSU)` |
| `p`, and text that stands outside of any | `<paragraph> Meine Damen und Herren!` |
| `stage` | `<stage> (Beifall bei der SPD)` |
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, NoReturn
from xml.parsers import expat

from ml_playground.core.error_handling import DataError
from ml_playground.data_pipeline.sources.settings import Tag

MOST_CHARACTERS = 1 << 24
"""Of one paragraph, and of what stands between two angle brackets: the parser holds it whole."""
MOST_DEPTH = 200
"""Elements inside each other: minutes need ten; each open one is remembered."""

_HEADER = {"title": "title", "legislativePeriod": "period", "sessionNo": "session", "date": "date"}
_OWN_TEXT: Mapping[str, Tag] = {"stage": "stage", "head": "division", "speaker": "speaker"}
"""Elements whose text is no paragraph."""
_BREAKS = frozenset({"div", "sp", "u", "p", "l", "ab", "lg", "body", "front", "back", "text", *_OWN_TEXT})
"""Where one of these begins or ends, a paragraph ends."""
_MARKS = frozenset({"lb", "cb", "pb", "gb", "milestone"})
"""Where one of these stands a word ends, whether or not there is a blank, unless it says `break="no"`."""
_APART = frozenset({"item", "label", "row", "cell", "note"})
"""Where one of these begins or ends, a word ends."""
_NOTHING = frozenset({"", "NA", "None", "none", "NULL"})


class TaggedLine(NamedTuple):
    """A line of text, or a place where one document may end."""

    tag: Tag
    text: str
    begins: bool = False
    """Whether a sitting, a division of the first level, or a speech begins here."""
    ends: bool = False
    """Whether a speech ends here; there is no text."""


def tagged_lines(path: Path, blocks: Iterable[bytes]) -> Iterator[TaggedLine]:
    """The lines of one file.

    Raises:
        DataError: It is no well-formed XML, declares an entity, or holds what no minutes do; names the line.
    """
    reader = _Reader(path)
    for block in blocks:
        yield from reader.fed(block)
    yield from reader.closed()


class _Reader:
    """What the parser has met so far, and the lines that came of it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[TaggedLine] = []
        self._open: list[str] = []
        self._texts: list[str] = []
        self._characters = 0
        self._header: dict[str, str] = {}
        self._speaker = ""
        self._party = ""
        self._in_text = False
        self._fed_bytes = 0
        self._parser = expat.ParserCreate()
        read_by_the_parser = {
            "buffer_text": True,
            "StartElementHandler": self._start,
            "EndElementHandler": self._end,
            "CharacterDataHandler": self._text,
            "EntityDeclHandler": self._entity,
            "SkippedEntityHandler": self._entity,
        }
        for name, value in read_by_the_parser.items():
            setattr(self._parser, name, value)

    def fed(self, block: bytes) -> list[TaggedLine]:
        """The lines that are whole with this block."""
        self._parse(block, last=False)
        self._fed_bytes += len(block)
        if self._fed_bytes - self._parser.CurrentByteIndex > MOST_CHARACTERS:
            self._refuse(f"more than {MOST_CHARACTERS:,} bytes stand between two angle brackets")
        return self._taken()

    def closed(self) -> list[TaggedLine]:
        """The last lines, once all was fed; an empty file has none."""
        if self._fed_bytes:
            self._parse(b"", last=True)
        return self._taken()

    def _taken(self) -> list[TaggedLine]:
        taken, self._lines = self._lines, []
        return taken

    def _parse(self, block: bytes, *, last: bool) -> None:
        try:
            self._parser.Parse(block, last)
        except expat.ExpatError as error:
            raise DataError(
                f"{self._path}:{error.lineno}: this is no well-formed XML: {expat.ErrorString(error.code)} (column "
                f"{error.offset + 1}). Mend it there, or fetch the file again."
            ) from error
        except (LookupError, ValueError) as error:
            # What Python raises where the parser asks it about an encoding; nothing of ours in the parser's calls raises these.
            raise DataError(
                f"{self._path}:1: the encoding that this XML declares cannot be read ({error}). Write the file anew in UTF-8, "
                "and its declaration with it."
            ) from error

    def _refuse(self, reason: str) -> NoReturn:
        raise DataError(
            f"{self._path}:{self._parser.CurrentLineNumber}: {reason}; no minutes in TEI do, so the file is refused. "
            "Name another one in prepare.source."
        )

    def _entity(self, name: str, *rest: object) -> None:
        del rest
        self._refuse(f"it declares or needs the entity {name!r}, and entities are neither expanded nor fetched")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        name = name.rpartition(":")[2]
        if name in _BREAKS:
            self._flush()
        elif name in _APART or (name in _MARKS and attributes.get("break") != "no"):
            self._text(" ")
        self._open.append(name)
        if len(self._open) > MOST_DEPTH:
            self._refuse(f"more than {MOST_DEPTH} elements stand inside each other")
        if name == "teiHeader":
            self._header.clear()
        elif name == "text":
            self._in_text = True
            self._lines.append(TaggedLine("document", self._title(), begins=True))
        elif name == "date" and not self._in_text and "when" in attributes:
            self._header.setdefault("date", attributes["when"])
        elif name == "div":
            self._lines.append(TaggedLine("division", _division(attributes), begins=self._open.count("div") == 1))
        elif name == "sp":
            # A who with `#` points to a list of persons that lies elsewhere.
            named = {key: value for key, value in attributes.items() if not value.startswith("#")}
            self._speaker = _first(named, "who", "name", "who_original")
            self._party = _first(attributes, "parliamentary_group", "party")
            self._lines.append(TaggedLine("speaker", self._speaker and self._full_name(), begins=True))

    def _end(self, name: str) -> None:
        name = name.rpartition(":")[2]
        if name in _BREAKS or (name in _HEADER and not self._in_text):
            self._flush()
        self._open.pop()
        if name in _APART:
            self._text(" ")
        if name == "text":
            self._in_text = "text" in self._open
        elif name == "sp":
            self._lines.append(TaggedLine("speaker", "", ends=True))

    def _text(self, text: str) -> None:
        self._characters += len(text)
        if self._characters > MOST_CHARACTERS:
            self._refuse(f"a paragraph has more than {MOST_CHARACTERS:,} characters")
        if self._in_text or (self._open and self._open[-1] in _HEADER):
            self._texts.append(text)
        else:
            self._characters = 0

    def _flush(self) -> None:
        """End a paragraph, or whatever the text since the last break was."""
        text = " ".join("".join(self._texts).split())
        self._texts.clear()
        self._characters = 0
        if not text:
            return
        if not self._in_text:
            self._header.setdefault(_HEADER[self._open[-1]], text)
            return
        own: list[Tag] = [_OWN_TEXT[name] for name in self._open if name in _OWN_TEXT]
        tag: Tag = own[-1] if own else "paragraph"
        if tag != "speaker":
            self._lines.append(TaggedLine(tag, text))
        elif not self._speaker:
            self._speaker = text.rstrip(" :")
            self._lines.append(TaggedLine("speaker", self._full_name()))

    def _full_name(self) -> str:
        return f"{self._speaker} ({self._party})" if self._party else self._speaker

    def _title(self) -> str:
        """`Plenarprotokoll 13/1, 1994-11-10`, as far as the header says so."""
        number = "/".join(self._header[key] for key in ("period", "session") if key in self._header)
        name = " ".join(part for part in (self._header.get("title", ""), number) if part)
        return ", ".join(part for part in (name, self._header.get("date", "")) if part)


def _division(attributes: Mapping[str, str]) -> str:
    """`agenda_item 1: Eröffnung`, as far as the attributes say so."""
    name = " ".join(value for key in ("type", "n") if (value := _first(attributes, key)))
    return ": ".join(part for part in (name, _first(attributes, "desc", "what")) if part)


def _first(attributes: Mapping[str, str], *keys: str) -> str:
    """The first of these that says something, on one line."""
    values = (" ".join(attributes.get(key, "").split()) for key in keys)
    return next((value for value in values if value not in _NOTHING), "")
