"""A template's loops and macros, counted while it renders: whoever sends one that never ends is told so, instead of being waited for."""

from typing import Any, cast

from jinja2 import Environment, nodes, pass_context
from jinja2.runtime import Context, markup_join, str_join
from jinja2.visitor import NodeTransformer

from ml_playground.core.bounded_sizes import joined_size
from ml_playground.core.template_room import room

MOST_STEPS = 1_000_000
"""Of all loops and macros in one rendering: half a second. Five hundred messages with a loop over all of them for each take a quarter."""
IN_MACRO, IN_RECURSION = 10, 50
"""Steps that a call of a macro and a turn of a recursive loop count for: they take so much longer than the turn of a loop."""
STEPS = "\U000f0002steps"
"""The variable of a rendering that counts them; no template can name it."""
_NODES_OF_STEP = 200
"""Parts of a loop's body that take as long as a step; bodies of families have fewer."""
_STEP, _CONCATENATION, _NESTED = "\U000f0002step", "\U000f0002concatenation", "\U000f0002nested"


class TooManySteps(Exception):  # noqa: N818 - what happened, not whose fault it is
    """A template goes on for longer than any does that ends."""


class Steps:
    """How many are left."""

    def __init__(self) -> None:
        self.left = MOST_STEPS


def with_counted_steps(environment: Environment, text: str) -> nodes.Template:
    """The tree of a template in which each turn of a loop and each call of a macro counts; rendering it takes `STEPS`."""
    cast(dict[str, Any], environment.filters).update(
        {_STEP: _counted, _CONCATENATION: _concatenated, _NESTED: _checked_nested}
    )
    tree = _Checks().visit(environment.parse(text))
    for loop in tree.find_all(nodes.For):
        parts = sum(1 for statement in loop.body for _ in statement.find_all(nodes.Node)) // _NODES_OF_STEP
        loop.body.insert(0, _step(loop, parts + (IN_RECURSION if loop.recursive else 1)))
        if loop.test is not None:
            # What a loop passes over is a turn of it, too.
            loop.test = nodes.And(_step(loop, 1).node, loop.test, lineno=loop.lineno)
    for macro in tree.find_all((nodes.Macro, nodes.CallBlock)):
        macro.body.insert(0, _step(macro, IN_MACRO))
    return cast(nodes.Template, tree.set_environment(environment))


class _Checks(NodeTransformer):
    """Filters around what a template makes by its own signs: `a ~ b`, `[a, b]`, `(a, b)`, `{a: b}`."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - the name that jinja2 asks for
        """Of both sides, whose length is known before one text is made of them."""
        parts = nodes.List(cast(nodes.Concat, self.generic_visit(node)).nodes, lineno=node.lineno)
        return _filtered(_CONCATENATION, parts)

    def visit_List(self, node: nodes.List | nodes.Tuple | nodes.Dict) -> nodes.Node:  # noqa: N802 - as above
        """Around a container in which others may stand."""
        self.generic_visit(node)
        # To a tuple of names something is assigned.
        made = not isinstance(node, nodes.Tuple) or node.ctx == "load"
        plain = all(isinstance(part, nodes.Const | nodes.Pair) for part in node.iter_child_nodes())
        values = (pair.value for pair in node.find_all(nodes.Pair)) if isinstance(node, nodes.Dict) else ()
        plain = plain and all(isinstance(value, nodes.Const) for value in values)
        return _filtered(_NESTED, node) if made and not plain else node

    visit_Tuple = visit_Dict = visit_List  # noqa: N815 - as above


@pass_context
def _concatenated(context: Context, parts: list[Any]) -> str:
    found = room()
    found.check(joined_size("", parts, found.most))
    return found.made(markup_join(parts) if context.eval_ctx.autoescape else str_join(parts))


@pass_context
def _checked_nested(_context: Context, container: Any) -> Any:
    return room().check_nested(container)


def _filtered(name: str, value: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(value, name, [], [], None, None, lineno=value.lineno)


def _step(place: nodes.Node, steps: int) -> nodes.ExprStmt:
    return nodes.ExprStmt(_filtered(_STEP, nodes.Const(steps, lineno=place.lineno)), lineno=place.lineno)


# With the context, so that no value of it is computed while the template is compiled.
@pass_context
def _counted(context: Context, steps: int) -> bool:
    counter: Steps = context[STEPS]
    # A template can name a filter by a text, and give it what it likes.
    counter.left -= max(1, steps)
    if counter.left < 0:
        raise TooManySteps
    return True
