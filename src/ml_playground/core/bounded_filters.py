"""Jinja's filters, of which each result is known to have room before it is made."""

from collections.abc import Callable, Iterable
from functools import update_wrapper
from typing import Any, cast

from jinja2 import Environment
from jinja2.filters import make_attrgetter

from ml_playground.core.bounded_sizes import joined_size, json_size, percent_size, replaced_size
from ml_playground.core.template_room import room

# Filters that return what they are given, or what is as large as that.
_PASSED_ON = frozenset(
    {
        *(
            "abs",
            "attr",
            "count",
            "d",
            "default",
            "first",
            "float",
            "int",
            "items",
            "last",
            "length",
            "map",
            "max",
            "min",
        ),
        *("random", "reject", "rejectattr", "select", "selectattr", "wordcount"),
    }
)
# Filters that make no text of a list: it may stay as it is.
_OF_LISTS = frozenset(
    ["batch", "dictsort", "groupby", "join", "list", "reverse", "slice", "sort", "sum", "tojson", "unique"]
)


class _Filters:
    """For some filters how long what they return is; each takes what its filter takes."""

    @staticmethod
    def center(value: Any, width: int = 80) -> int:
        return width

    @staticmethod
    def indent(s: str, width: int | str = 4, first: bool = False, blank: bool = False) -> int:
        return len(s) + (1 + len(s.splitlines())) * (len(width) if isinstance(width, str) else width)

    @staticmethod
    def replace(s: Any, old: Any, new: Any, count: int | None = None) -> int:
        return replaced_size(str(s), str(old), str(new))

    @staticmethod
    def join(value: Iterable[Any], d: Any) -> int:
        return joined_size(str(d), value, room().most)

    @staticmethod
    def sum(value: Iterable[Any], attribute: None, start: Any) -> int:
        return sum(len(cast(list[Any], one)) for one in value if isinstance(one, list | tuple))

    @staticmethod
    def round(value: Any, precision: int = 0, method: str = "common") -> int:
        # Three digits make a float infinite; the number that is made of them must end somewhere.
        return precision**4

    @staticmethod
    def batch(value: Any, linecount: int, fill_with: Any = None) -> int:
        return linecount

    @staticmethod
    def slice(value: Any, slices: int, fill_with: Any = None) -> int:
        return slices * 16

    @staticmethod
    def format(value: Any, *args: Any, **kwargs: Any) -> int:
        return percent_size(str(value), kwargs or args, room().most)

    @staticmethod
    def pprint(value: Any) -> int:
        return json_size(value, 1, None, room().most)

    @staticmethod
    def tojson(
        value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
    ) -> int:
        return json_size(value, indent, separators, room().most)

    @staticmethod
    def wordwrap(
        s: str,
        width: int = 79,
        break_long_words: bool = True,
        wrapstring: str | None = None,
        break_on_hyphens: bool = True,
    ) -> int:
        return len(s) * (1 + len(wrapstring or ""))


def _join_given(environment: Environment, value: Iterable[Any], d: Any = "", attribute: Any = None) -> tuple[Any, ...]:
    return _items(environment, value, attribute), d


def _sum_given(
    environment: Environment, iterable: Iterable[Any], attribute: Any = None, start: Any = 0
) -> tuple[Any, ...]:
    return _items(environment, iterable, attribute), None, start


def _items(environment: Environment, value: Iterable[Any], attribute: Any) -> list[Any]:
    """What may be walked but once is walked for its length, too."""
    return list(value if attribute is None else map(make_attrgetter(environment, attribute), value))


_WALKED: dict[str, Callable[..., tuple[Any, ...]]] = {"join": _join_given, "sum": _sum_given}


def bounded_filter(environment: Environment, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter whose result is known to have room before it is made."""
    first = 1 if hasattr(function, "jinja_pass_arg") else 0
    size_of = getattr(_Filters, name, None)
    as_text = name not in _PASSED_ON and name not in _OF_LISTS
    counted = name not in _PASSED_ON
    walked = _WALKED.get(name)

    def bounded(*args: Any, **kwargs: Any) -> Any:
        found = room()
        passed, given = args[:first], args[first:]
        if as_text:
            found.check_written(given[0])
        if walked is not None:
            given, kwargs = walked(environment, *given, **kwargs), {}
        if size_of is not None:
            found.check(size_of(*given, **kwargs))
        made = function(*passed, *given, **kwargs)
        return found.made(made) if counted else made

    return update_wrapper(bounded, function)
