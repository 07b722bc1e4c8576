"""Jinja's sandbox in which what a template makes is counted, and refused before it is made where memory would not hold it."""

from collections.abc import Callable, Iterable
from functools import update_wrapper
from string import Formatter
from typing import Any, cast

from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEscapeFormatter, SandboxedFormatter

from ml_playground.core.bounded_filters import bounded_filter
from ml_playground.core.bounded_sizes import bits, method_size, percent_size, repeated_size, spec_size
from ml_playground.core.template_room import COMPARED, MOST_BITS, TooLarge, room

_PLACE_BYTES = 8
"""For each place where a template writes nothing, or no text: such places are not counted by their characters."""


def concatenated(parts: Iterable[str]) -> str:
    """What a template writes, as one text."""
    found, size, written = room(), 0, list[str]()
    most = found.most
    for part in parts:
        size += len(part)
        if size > most:
            raise TooLarge
        written.append(part)
    return found.made("".join(written))


class BoundedSandbox(ImmutableSandboxedEnvironment):
    """An environment in which a template makes no more than a `Room`; the same text comes out."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})
    concat = staticmethod(concatenated)

    def __init__(self, **settings: Any) -> None:
        super().__init__(finalize=_written, **settings)
        # Words by chance, and marks of HTML, as many as are asked for: no chat is made of them.
        del self.globals["lipsum"], self.filters["urlize"]
        filters = cast(dict[str, Callable[..., Any]], self.filters)
        for name, function in [*filters.items()]:
            filters[name] = bounded_filter(self, name, function)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """A sum, a product, a power or a text with values in it."""
        found = room()
        if operator == "+":
            # No longer than both together, which were short enough.
            return found.made(left + right)
        if operator == "%":
            if isinstance(left, str | bytes):
                found.check(percent_size(left, right, found.most))
        elif bits(operator, left, right) > MOST_BITS:
            raise TooLarge
        elif operator == "*":
            found.check(repeated_size(left, right))
        return found.made(super().call_binop(context, operator, left, right))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - as jinja2 has it: a template may name its arguments as it likes
        """A method, a macro, a function."""
        found = room()
        for one in (*args, *kwargs.values()):
            # A macro has what it is given in a tuple, `dict` makes a table of it: in neither is it deeper by more than one.
            if isinstance(one, COMPARED):
                found.check_nested(one)
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(owner, str | bytes | int):
            if name == "join" and args and not isinstance(args[0], str | bytes):
                # What can be walked once alone is walked for its length here.
                args = (list(args[0]), *args[1:])
            found.check(method_size(name, owner, [*args, *kwargs.values()], found.most))
        made = super().call(__context, __obj, *args, **kwargs)
        return found.made(made) if owner is not None else made

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`format` of a text, field by field."""
        if super().wrap_str_format(value) is None:
            return None
        text: Any = value.__self__
        # A text of HTML escapes what is put into it.
        formatter = _EscapingFields(self, escape=text.escape) if hasattr(text, "__html__") else _Fields(self)

        def formatted(*args: Any, **kwargs: Any) -> str:
            if value.__name__ == "format_map":
                (kwargs,), args = args, ()
            return type(text)(formatter.vformat(text, args, kwargs))

        return update_wrapper(formatted, value)


class _Checked(Formatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        found = room()
        found.check(spec_size(format_spec))
        found.check_written(value)
        return found.made(super().format_field(value, format_spec))

    def convert_field(self, value: Any, conversion: Any) -> Any:
        room().check_written(value)
        return super().convert_field(value, conversion)


class _Fields(_Checked, SandboxedFormatter):
    pass


class _EscapingFields(_Checked, SandboxedEscapeFormatter):
    pass


def _written(value: Any) -> Any:
    """What a template writes, as it is."""
    if isinstance(value, str) and value:
        return value
    found = room()
    found.take(_PLACE_BYTES)
    found.check_written(value)
    return value
