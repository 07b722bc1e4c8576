"""Rows of tokens on a screen or in a pipe: what is a target can be seen at once."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from ml_playground.core.humanise import plural, printable
from ml_playground.data_pipeline.shown_rows import ShownDocument, ShownRow, ShownToken

Style = dict[str, Any]
READ: Style = {"dim": True}
FINE, PLAIN = ("⟦", "⟧", "│", "↵"), ("[[", "]]", "|", "\\n")
"""Before and after targets, between tokens, before the end of a line."""


@dataclass(frozen=True, slots=True)
class Look:
    """How tokens are written."""

    colour: bool
    """Targets are coloured; else they stand in brackets."""
    borders: bool = False
    """Marks between tokens."""
    encoding: str = "utf-8"
    """Of the stream."""
    marks: tuple[str, str, str, str] = field(init=False)

    def __post_init__(self) -> None:
        known = "".join(FINE).encode(self.encoding, "replace").decode(self.encoding) == "".join(FINE)
        object.__setattr__(self, "marks", FINE if known else PLAIN)


def legend(look: Look) -> str:
    """What colours, or brackets, mean."""
    if not look.colour:
        before, after, *_ = look.marks
        return f"{before}...{after}: targets ({before}0.5: ...{after}: of that weight); all else is read, and never a target"
    meanings = {"target": 1.0, "of less weight": 0.5, "of more": 2.0, "read, never a target": 0.0}
    shown = [typer.style(meaning, **style_of(weight)) for meaning, weight in meanings.items()]
    return f"{', '.join(shown)}; {typer.style('special tokens', underline=True)}"


def style_of(weight: float) -> Style:
    """The colour of a weight."""
    if weight <= 0:
        return READ
    if weight == 1:
        return {"fg": "green"}
    return {"fg": "yellow" if weight < 1 else "magenta"}


def summary(rows: int, lengths: NDArray[np.int64], split: str, *, chats: bool) -> str:
    """How many there are, and how long they are."""
    if not rows:
        return f"{split}: no rows"
    least, median, most = (int(one) for one in np.quantile(lengths, (0, 0.5, 1), method="lower"))
    what = plural(len(lengths), "chat" if chats else "window")
    return f"{split}: {plural(rows, 'row')} of {what}, of {least:,} to {plural(most, 'token')}, half of them up to {median:,}"


def head_of(row: ShownRow, rows: int) -> str:
    """What a row is, in one line."""
    tokens = sum(len(document.tokens) for document in row.documents)
    parts = [f"row {row.number:,} of {rows:,}", plural(tokens, "token"), plural(row.targets, "target")]
    if len(row.documents) > 1:
        parts.append(plural(len(row.documents), "document"))
    if row.padding:
        parts.append(f"{row.padding:,} padding")
    return ", ".join(parts)


def name_of(document: ShownDocument) -> str:
    """What a document is called, and which part of it stands in the row where it is not the whole."""
    last = document.first_token + len(document.tokens)
    part = len(document.tokens) < document.whole
    where = f", tokens {document.first_token:,} to {last:,} of {document.whole:,}" if part else ""
    return printable(document.name) + where


def row_lines(row: ShownRow, rows: int, look: Look, *, ids: bool) -> Iterator[str]:
    """A row: its head, and each of its documents as a text, or as a table of its tokens."""
    head = f"--- {head_of(row, rows)}"
    yield typer.style(head, bold=True) if look.colour else head
    for document in row.documents:
        name = printable(f"[{name_of(document)}]", look.encoding)
        yield typer.style(name, fg="cyan") if look.colour else name
        if ids:
            yield from _table(document.tokens, look)
        else:
            yield _text(document.tokens, look)
    yield ""


def _text(tokens: Sequence[ShownToken], look: Look) -> str:
    """Tokens of one weight together."""
    stretches = groupby(tokens, key=lambda token: token.weight)
    return "".join(_stretch(weight, list(held), look) for weight, held in stretches)


def _stretch(weight: float, tokens: Sequence[ShownToken], look: Look) -> str:
    before, after, between, _ = look.marks
    border = between if look.borders else ""
    if look.colour:
        # With borders each token is styled alone; else those that look alike together.
        alike = ([token] for token in tokens) if border else (list(same) for _, same in groupby(tokens, _is_special))
        return "".join(_styled(same, style_of(weight), look) + _faint(border) for same in alike)
    text = border.join(_safe(token.text, look) for token in tokens)
    if weight <= 0:
        return text + border
    named = "" if weight == 1 else f"{weight:g}: "
    return f"{before}{named}{text}{after}"


def _is_special(token: ShownToken) -> bool:
    return token.special


def _faint(border: str) -> str:
    return typer.style(border, **READ) if border else ""


def _styled(tokens: Sequence[ShownToken], style: Style, look: Look) -> str:
    """Line by line, for pagers forget a colour at the end of a line."""
    style = style | ({"underline": True} if tokens[0].special else {})
    lines = _safe("".join(token.text for token in tokens), look).split("\n")
    return "\n".join(typer.style(line, **style) if line else "" for line in lines)


def _safe(text: str, look: Look) -> str:
    """What disturbs no terminal; ends of lines are seen, for they may be targets."""
    return printable(text, look.encoding).replace("\t", "\\t").replace("\n", f"{look.marks[3]}\n")


def _table(tokens: Iterable[ShownToken], look: Look) -> Iterator[str]:
    """A line for each token: its place, its id, its weight, its text in quotes."""
    for place, token in enumerate(tokens):
        text = printable(repr(token.text), look.encoding)
        line = f"{place:>6}  {token.id:>7}  {token.weight:>5g}  {text}"
        style = style_of(token.weight) | ({"underline": True} if token.special else {})
        yield typer.style(line, **style) if look.colour else line
