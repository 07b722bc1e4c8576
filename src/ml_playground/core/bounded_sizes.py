"""How long a text becomes, before it is made: what a template asks for may be more than memory holds."""

import re
from collections.abc import Iterable
from typing import Any, cast

from jinja2.utils import Namespace

_EMPTY: dict[Any, Any] = {}
CONTAINERS: tuple[type[Any], ...] = (
    list,
    tuple,
    dict,
    set,
    frozenset,
    Namespace,
    *map(type, (_EMPTY.keys(), _EMPTY.values(), _EMPTY.items())),
)
"""What becomes a text of unknown length, for it may hold the same list many times."""
_SCALAR = 24
"""Characters of a number; more only for those that say so."""
_POINTER = 8
_REPLACED, _MOST_DIGITS = 2, 12
_CONVERSION = re.compile(r"%(?:\([^)]*\))?[-#0 +]*(\*|\d+)?(?:\.(\*|\d+))?")
_DIGITS = re.compile(r"\d+")
_PADDING = frozenset({"center", "ljust", "rjust", "zfill", "to_bytes"})


def written_size(value: Any, most: int) -> int:
    """Characters of a value that is written out; from `most` on any greater number will do."""
    total, waiting = 0, [value]
    while waiting and total <= most:
        one = waiting.pop()
        if isinstance(one, str | bytes):
            total += len(one)
        elif isinstance(one, int):
            total += _SCALAR + one.bit_length() // 3
        elif isinstance(one, Namespace):
            total += _SCALAR
            waiting.append(getattr(one, "_Namespace__attrs"))  # noqa: B009 - what its repr writes
        elif isinstance(one, CONTAINERS):
            items = cast(list[Any], one)
            total += 4 * len(items)
            waiting.extend(items)
            if isinstance(one, dict):
                waiting.extend(cast(dict[Any, Any], one).values())
        else:
            total += _SCALAR
    return total


def repeated_size(left: Any, right: Any) -> int:
    """Of a product: a text or a list many times."""
    if isinstance(left, int) and not isinstance(right, int):
        left, right = right, left
    if not isinstance(right, int):
        return 0
    if isinstance(left, str | bytes):
        return len(left) * right
    return _POINTER * len(cast(list[Any], left)) * right if isinstance(left, list | tuple) else 0


def bits(operator: str, left: Any, right: Any) -> int:
    """Of a product or a power of whole numbers."""
    if not isinstance(left, int) or not isinstance(right, int):
        return 0
    if operator == "*":
        return left.bit_length() + right.bit_length()
    return left.bit_length() * right if abs(left) > 1 else 0


def spec_size(spec: str) -> int:
    """Of a field, by the width and the digits that its format asks for."""
    return sum(_number(digits) for digits in _DIGITS.findall(spec))


def percent_size(form: Any, values: Any, most: int) -> int:
    """Of `form % values`."""
    text = form if isinstance(form, str) else bytes(form).decode("latin-1")
    given = [values] if not isinstance(values, tuple) else [*cast(tuple[Any, ...], values)]
    longest = max((written_size(one, most) for one in given), default=0)
    widest = max((abs(one) for one in given if isinstance(one, int)), default=0)
    total = len(text)
    for found in _CONVERSION.finditer(text):
        total += longest + sum(widest if part == "*" else _number(part) for part in found.groups() if part)
    return total


def joined_size(separator: str | bytes, parts: Iterable[Any], most: int) -> int:
    """Of parts with a text between them."""
    total = 0
    for part in parts:
        total += len(separator) + written_size(part, most)
        if total > most:
            break
    return total


def replaced_size(text: Any, old: Any, new: Any) -> int:
    """Of a text, or of bytes, in which one word stands for another."""
    return len(text) + text.count(old) * max(0, len(new) - len(old))


def method_size(name: str, owner: Any, given: list[Any], most: int) -> int:
    """Of what a method of a text, of bytes or of a number returns, where that may be far longer than what it is given."""
    widest = max((one for one in given if isinstance(one, int)), default=0)
    if name in _PADDING:
        return widest
    if name == "expandtabs":
        return len(owner) + _tabs(owner) * widest
    if name == "join" and given:
        return joined_size(owner, given[0], most)
    if name == "replace" and len(given) >= _REPLACED:
        return replaced_size(owner, given[0], given[1])
    if name == "translate" and given and isinstance(given[0], dict):
        values = cast(dict[Any, Any], given[0]).values()
        return len(owner) * max((len(value) for value in values if isinstance(value, str)), default=1)
    return 0


def json_size(value: Any, indent: Any, separators: Any, most: int) -> int:
    """Of JSON, with what stands before each value and after it."""
    before = len(indent) if isinstance(indent, str) else indent if isinstance(indent, int) else 0
    beside = 2 if separators is None else written_size(separators, most)
    total, waiting = 0, [(value, 0)]
    while waiting and total <= most:
        one, depth = waiting.pop()
        total += beside + before * depth
        if isinstance(one, dict | list | tuple):
            items = cast(list[Any], one)
            total += len(items)
            waiting.extend((item, depth + 1) for item in items)
            if isinstance(one, dict):
                # A value stands in the line of its key.
                waiting.extend((item, depth + 1) for item in cast(dict[Any, Any], one).values())
        else:
            total += written_size(one, most)
    return total


def _tabs(text: Any) -> int:
    return text.count("\t" if isinstance(text, str) else b"\t")


def _number(digits: str) -> int:
    return int(digits) if len(digits) < _MOST_DIGITS else 10**_MOST_DIGITS
