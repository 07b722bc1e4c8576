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
_STEP, _CONCATENATION = "\U000f0002step", "\U000f0002concatenation"


class TooManySteps(Exception):  # noqa: N818 - what happened, not whose fault it is
    """A template goes on for longer than any does that ends."""


class Steps:
    """How many are left."""

    def __init__(self) -> None:
        self.left = MOST_STEPS


def with_counted_steps(environment: Environment, text: str) -> nodes.Template:
    """The tree of a template in which each turn of a loop and each call of a macro counts; rendering it takes `STEPS`."""
    cast(dict[str, Any], environment.filters).update({_STEP: _counted, _CONCATENATION: _concatenated})
    tree = _Concatenations().visit(environment.parse(text))
    for loop in tree.find_all(nodes.For):
        parts = sum(1 for statement in loop.body for _ in statement.find_all(nodes.Node)) // _NODES_OF_STEP
        loop.body.insert(0, _step(loop, parts + (IN_RECURSION if loop.recursive else 1)))
        if loop.test is not None:
            # What a loop passes over is a turn of it, too.
            loop.test = nodes.And(_step(loop, 1).node, loop.test, lineno=loop.lineno)
    for macro in tree.find_all((nodes.Macro, nodes.CallBlock)):
        macro.body.insert(0, _step(macro, IN_MACRO))
    return cast(nodes.Template, tree.set_environment(environment))


class _Concatenations(NodeTransformer):
    """`a ~ b` as a filter of both, which knows how long they are before it makes one of them."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - the name that jinja2 asks for
        """The filter."""
        parts = nodes.List(cast(nodes.Concat, self.generic_visit(node)).nodes, lineno=node.lineno)
        return nodes.Filter(parts, _CONCATENATION, [], [], None, None, lineno=node.lineno)


@pass_context
def _concatenated(context: Context, parts: list[Any]) -> str:
    found = room()
    found.check(joined_size("", parts, found.most))
    return found.made(markup_join(parts) if context.eval_ctx.autoescape else str_join(parts))


def _step(place: nodes.Node, steps: int) -> nodes.ExprStmt:
    called = nodes.Filter(nodes.Const(steps), _STEP, [], [], None, None, lineno=place.lineno)
    return nodes.ExprStmt(called, lineno=place.lineno)


# With the context, so that no value of it is computed while the template is compiled.
@pass_context
def _counted(context: Context, steps: int) -> bool:
    counter: Steps = context[STEPS]
    # A template can name a filter by a text, and give it what it likes.
    counter.left -= max(1, steps)
    if counter.left < 0:
        raise TooManySteps
    return True
