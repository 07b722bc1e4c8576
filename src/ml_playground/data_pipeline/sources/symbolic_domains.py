"""The domains of symbolic problems: each draws one of a level, in words and as an expression with its steps."""

import operator
import random
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

Expression = int | str | tuple["Expression", ...]
"""A number, a name, or a call: its operator and its arguments."""


class Problem(NamedTuple):
    """A question and how it is answered."""

    question: str
    """In words."""
    form: Expression
    """The same as an expression, with all that is given: it tells problems apart."""
    asked: Expression
    """What of it the answer says again."""
    steps: tuple[Expression, ...]
    """Between the form and the result."""
    result: Expression


def written(expression: Expression) -> str:
    """As the grammar of answers writes it: `(add 1 (mul 2 3))`."""
    return f"({' '.join(map(written, expression))})" if isinstance(expression, tuple) else str(expression)


def arithmetic(level: int, dice: random.Random) -> Problem:
    """Digits, added from left to right; from level 2 on subtracted too, from level 4 on multiplied."""
    known = ["add", "sub", "mul"][: 1 if level == 1 else 2 if level < 4 else 3]  # noqa: PLR2004
    numbers = [dice.randrange(10) for _ in range(dice.randint(level + 2, level + 3) if level == 1 else level + 2)]
    operators = [dice.choice(known) for _ in numbers[1:]]
    words = _interleaved(numbers, [_ARITHMETIC_WORDS[name] for name in operators])
    question = dice.choice(("What is {}?", "Work out {}.", "How much is {}?")).format(words)
    form, steps, result = _from_left(numbers, operators, _ARITHMETIC)
    # The first step would only say again what stands in the middle of the form.
    return Problem(question if level < 4 else f"{question} Go from left to right.", form, form, steps[1:], result)  # noqa: PLR2004


def logic(level: int, dice: random.Random) -> Problem:
    """Truth values, some of them denied, joined from left to right."""
    known = ["and", "or", "xor"][: 2 if level == 1 else 3]
    count = dice.randint(3, 5) if level == 1 else level + 2
    values = [(dice.random() < 1 / 3, dice.choice(("true", "false"))) for _ in range(count)]
    operators = [dice.choice(known) for _ in values[1:]]
    words = _interleaved([f"not {value}" if denied else value for denied, value in values], operators)
    question = dice.choice(("What is {}, from left to right?", "Say, from left to right, what {} is.")).format(words)
    denials: list[Expression] = [("not", value) if denied else value for denied, value in values]
    form = _joined(denials[0], operators, denials[1:])
    _, steps, result = _from_left(
        [_OPPOSITE[value] if denied else value for denied, value in values], operators, _LOGIC
    )
    return Problem(question, form, form, steps, result)


def lists(level: int, dice: random.Random) -> Problem:
    """Digits in a row: turned round, sorted, the first, the last; from level 3 on one after the other."""
    length = dice.randint(3, 4) if level == 1 else dice.randint(4, 3 + level)
    items = tuple(dice.randrange(10) for _ in range(length))
    changes = [dice.choice(("reverse", "sort")) for _ in range(max(0, level - 2))]
    first_level = ("reverse", "first", "last")
    last = dice.choice(first_level if level == 1 else (*first_level, "sort", "max", "min", "length"))
    names = [*changes, last]
    words = [_LIST_WORDS[name] for name in names]
    shown = " ".join(map(str, items))
    question = f"Take the list {shown}. {words[0]}" + "".join(f" Then: {word}" for word in words[1:])
    current: Expression = ("list", *items)
    values: list[Expression] = [current]
    for name in names:
        current = _LISTS[name](values[-1][1:]) if isinstance(values[-1], tuple) else values[-1]
        values.append(current)
    stages = [_applied(names[done:], value) for done, value in enumerate(values)]
    return Problem(question, stages[0], stages[0], tuple(stages[1:-1]), stages[-1])


def syllogisms(level: int, dice: random.Random) -> Problem:
    """Every a is a b, every b is a c: is every a a c? The step is as far as the premises lead."""
    names = dice.sample(NOUNS, level + 2)
    premises = list(pairwise(names))
    shuffled = premises[:]
    if level > 1:
        dice.shuffle(shuffled)
    start, end = sorted(dice.sample(range(len(names)), 2)) if level > 1 else (0, len(names) - 1)
    follows = dice.random() < 1 / 2
    subject, wanted = (names[start], names[end]) if follows else (names[end], names[start])
    said = " ".join(f"Every {one} is a {other}." for one, other in shuffled)
    path = names[names.index(subject) :]
    asked = ("all", subject, wanted)
    form = ("given", *(("all", *premise) for premise in shuffled), asked)
    result = "true" if follows else "false"
    return Problem(f"{said} Is every {subject} a {wanted}?", form, asked, (("path", *path),), result)


DOMAINS: Mapping[str, Callable[[int, random.Random], Problem]] = {
    "arithmetic": arithmetic,
    "lists": lists,
    "logic": logic,
    "syllogisms": syllogisms,
}

# Each one syllable and unlike the others in its first letters, so that a small vocabulary can hold them as one token each.
NOUNS = (
    *("bal", "cug", "dem", "fip", "gom", "hax", "jol", "kef", "lir", "mup", "nov", "pud"),
    *("quil", "rof", "siv", "tam", "nerp", "vex", "wug", "yad", "zib", "blen", "crot", "drim"),
)

_ARITHMETIC: Mapping[str, Callable[[int, int], int]] = {"add": operator.add, "sub": operator.sub, "mul": operator.mul}
_ARITHMETIC_WORDS = {"add": "plus", "sub": "minus", "mul": "times"}
_OPPOSITE = {"true": "false", "false": "true"}
_LOGIC: Mapping[str, Callable[[str, str], str]] = {
    "and": lambda one, other: "true" if one == other == "true" else "false",
    "or": lambda one, other: "true" if "true" in (one, other) else "false",
    "xor": lambda one, other: "true" if one != other else "false",
}
_LISTS: Mapping[str, Callable[[tuple[Expression, ...]], Expression]] = {
    "reverse": lambda items: ("list", *reversed(items)),
    "sort": lambda items: ("list", *sorted(items, key=_number)),
    "first": lambda items: items[0],
    "last": lambda items: items[-1],
    "max": lambda items: max(items, key=_number),
    "min": lambda items: min(items, key=_number),
    "length": len,
}
_LIST_WORDS = {
    "reverse": "Turn it round.",
    "sort": "Sort it.",
    "first": "What comes first?",
    "last": "What comes last?",
    "max": "What is the largest?",
    "min": "What is the smallest?",
    "length": "How long is it?",
}


def _number(item: Expression) -> int:
    return item if isinstance(item, int) else 0


def _interleaved(values: Sequence[object], words: Sequence[str]) -> str:
    """`3 plus 4 minus 2`."""
    return " ".join([str(values[0]), *(f"{word} {value}" for word, value in zip(words, values[1:], strict=True))])


def _from_left(
    values: Sequence[Expression], operators: Sequence[str], table: Mapping[str, Callable[..., Expression]]
) -> tuple[Expression, tuple[Expression, ...], Expression]:
    """Values joined from left to right: the whole, each single step with its values, and the result."""
    current = values[0]
    steps: list[Expression] = []
    for name, value in zip(operators, values[1:], strict=True):
        steps.append((name, current, value))
        current = table[name](current, value)
    return _joined(values[0], operators, values[1:]), tuple(steps), current


def _joined(first: Expression, operators: Sequence[str], others: Sequence[Expression]) -> Expression:
    for name, other in zip(operators, others, strict=True):
        first = (name, first, other)
    return first


def _applied(names: Sequence[str], value: Expression) -> Expression:
    for name in names:
        value = (name, value)
    return value
