"""What chat templates are given beside their messages: the filters, functions and marks that transformers gives them."""

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.utils import Namespace

from ml_playground.core.bounded_filters import bounded_filter
from ml_playground.core.bounded_sandbox import BoundedSandbox


class _Generation(Extension):
    """`{% generation %}`, by which some templates mark answers: what stands in it is rendered, the mark means nothing here."""

    tags = {"generation"}  # noqa: RUF012 - so it is declared by jinja2

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The body alone."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Dictionary:
    """`dict` of templates, without the attributes of a class."""

    def __call__(self, *args: Any, **named: Any) -> dict[Any, Any]:
        return dict(*args, **named)


class _PlainNamespace(Namespace):
    """`namespace` of templates, which cannot hold what begins with an underscore."""

    def __init__(*args: Any, **named: Any) -> None:
        self, rest = args[0], args[1:]
        values = dict(*rest, **named)
        for name in values:
            _PlainNamespace._check(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        # Namespace takes each attribute of an instance for one of its values.
        _PlainNamespace._check(name)
        super().__setitem__(name, value)

    @staticmethod
    def _check(name: str) -> None:
        if name.startswith("_"):
            raise TemplateError(f"a namespace cannot hold {name!r}, which begins with an underscore")


def chat_environment(now: Callable[[], datetime]) -> BoundedSandbox:
    """Jinja as transformers sets it up for chat templates, and bounded."""
    made = BoundedSandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    made.filters["tojson"] = bounded_filter(made, "tojson", _to_json)

    def strftime_now(form: str) -> str:
        return now().strftime(form)

    variables: dict[str, Any] = {
        "raise_exception": _raise_exception,
        "strftime_now": strftime_now,
        "dict": _Dictionary(),
        "namespace": _PlainNamespace,
    }
    made.globals.update(variables)
    return made


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """JSON as it is; jinja2's own filter escapes what HTML needs."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
