r"""The grammar of symbolic answers: expressions, read with the place of each mistake and written in one canonical form.

    answer     = [ blanks ] expression [ blanks ] ;
    expression = number | symbol | call ;
    call       = "(" [ blanks ] symbol { blanks expression } [ blanks ] ")" ;
    number     = [ "-" ] digit { digit } [ "." digit { digit } ] ;
    symbol     = letter { letter | digit | "_" | "-" } ;
    letter     = "a" .. "z" | "A" .. "Z" ;
    digit      = "0" .. "9" ;
    blanks     = ( " " | "\t" | "\n" | "\r" ) { " " | "\t" | "\n" | "\r" } ;

The canonical form has one blank before each argument, none elsewhere, and numbers without needless zeros: `(add 1 (mul 2 3))`.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

MOST_NESTED = 64
"""Calls within calls; more is refused, so that nothing that walks over an expression runs out of stack."""
TOKEN = re.compile(
    r"(?P<blanks>[ \t\n\r]+)|(?P<number>-?[0-9]+(?:\.[0-9]+)?(?![A-Za-z0-9_.]))|(?P<symbol>[A-Za-z][A-Za-z0-9_-]*)|(?P<mark>[()])"
)


class GrammarError(ValueError):
    """A text is no expression; says where and why."""

    def __init__(self, problem: str, at: int) -> None:
        super().__init__(f"{problem}, at character {at + 1}")
        self.at = at
        """Where, counted from 0; the length of the text where something is missing at its end."""


@dataclass(frozen=True, slots=True)
class Number:
    """A decimal number of any size, exact; equal numbers are equal, however they were spelt."""

    text: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", _plain_number(self.text))


@dataclass(frozen=True, slots=True)
class Symbol:
    """A name, a truth value, a letter."""

    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """An operator with its arguments, of which there may be none."""

    operator: str
    arguments: tuple["Expression", ...] = ()


Expression = Number | Symbol | Call


class _Word(NamedTuple):
    """A part of a text that is more than blanks."""

    text: str
    kind: str
    at: int
    after_blank: bool


class _Open(NamedTuple):
    """A call that is being read."""

    at: int
    parts: list[Expression]
    """Its operator as a symbol, and its arguments."""


def parse(text: str) -> Expression:
    """The expression that a text is.

    Raises:
        GrammarError: It is none.
    """
    opened: list[_Open] = []
    done: Expression | None = None
    for word in _words(text):
        if done is not None:
            raise GrammarError(f"{word.text!r} stands after the end of the expression", word.at)
        _require_place(word, opened)
        if word.text == "(":
            opened.append(_Open(word.at, []))
            continue
        found = _value(word, opened)
        if opened:
            opened[-1].parts.append(found)
        else:
            done = found
    if opened:
        raise GrammarError(f"')' is missing for the '(' at character {opened[-1].at + 1}", len(text))
    if done is None:
        raise GrammarError("an expression is missing", len(text))
    return done


def _words(text: str) -> Iterator[_Word]:
    at, after_blank = 0, False
    while at < len(text):
        found = TOKEN.match(text, at)
        if found is None:
            raise GrammarError(f"{text[at]!r} begins neither number nor name nor call", at)
        if found.lastgroup != "blanks":
            yield _Word(found.group(), str(found.lastgroup), at, after_blank)
        at, after_blank = found.end(), found.lastgroup == "blanks"


def _require_place(word: _Word, opened: Sequence[_Open]) -> None:
    """Whether a word may stand where it does.

    Raises:
        GrammarError: It may not.
    """
    if opened and not opened[-1].parts and word.kind != "symbol":
        raise GrammarError(f"an operator's name must follow '(', got {word.text!r}", word.at)
    if word.text == ")" and not opened:
        raise GrammarError("')' closes nothing", word.at)
    if opened and opened[-1].parts and word.text != ")" and not word.after_blank:
        raise GrammarError(f"a blank is missing before {word.text!r}", word.at)
    if word.text == "(" and len(opened) == MOST_NESTED:
        raise GrammarError(f"more than {MOST_NESTED} calls within each other", word.at)


def _value(word: _Word, opened: list[_Open]) -> Expression:
    """What a word is, or the call that it closes."""
    if word.text == ")":
        operator, *arguments = opened.pop().parts
        return Call(written(operator), tuple(arguments))
    return Number(word.text) if word.kind == "number" else Symbol(word.text)


def written(expression: Expression) -> str:
    """An expression in canonical form; parsed, it is the same again."""
    match expression:
        case Number(text):
            return text
        case Symbol(name):
            return name
        case Call(operator, arguments):
            return f"({' '.join([operator, *map(written, arguments)])})"


def canonical(text: str) -> str:
    """The canonical form of a text.

    Raises:
        GrammarError: It is no expression.
    """
    return written(parse(text))


def same(one: Expression, other: Expression, commutative: Collection[str]) -> bool:
    """Whether two expressions are the same, the order of arguments aside where the operator is commutative."""
    return _ordered(one, commutative) == _ordered(other, commutative)


def _ordered(expression: Expression, commutative: Collection[str]) -> Expression:
    if not isinstance(expression, Call):
        return expression
    arguments = tuple(_ordered(argument, commutative) for argument in expression.arguments)
    if expression.operator in commutative:
        arguments = tuple(sorted(arguments, key=written))
    return Call(expression.operator, arguments)


def _plain_number(text: str) -> str:
    """A number without needless zeros; there is one zero."""
    whole, _, fraction = text.removeprefix("-").partition(".")
    plain = (whole.lstrip("0") or "0") + (f".{digits}" if (digits := fraction.rstrip("0")) else "")
    return f"-{plain}" if text.startswith("-") and plain != "0" else plain
