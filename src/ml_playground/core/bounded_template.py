"""A template's loops and macros, counted while it renders: whoever sends one that never ends is told so, instead of being waited for."""

from typing import Any, cast

from jinja2 import Environment, nodes, pass_context
from jinja2.runtime import Context

MOST_STEPS = 1_000_000
"""Of all loops and macros in one rendering: half a second. Five hundred messages with a loop over all of them for each take a quarter."""
IN_MACRO, IN_RECURSION = 10, 50
"""Steps that a call of a macro and a turn of a recursive loop count for: they take so much longer than the turn of a loop."""
STEPS = "\U000f0002steps"
"""The variable of a rendering that counts them; no template can name it."""
_FILTER = "counted_step"


class TooManySteps(Exception):  # noqa: N818 - what happened, not whose fault it is
    """A template goes on for longer than any does that ends."""


class Steps:
    """How many are left."""

    def __init__(self) -> None:
        self.left = MOST_STEPS


def with_counted_steps(environment: Environment, text: str) -> nodes.Template:
    """The tree of a template in which each turn of a loop and each call of a macro counts; rendering it takes `STEPS`."""
    cast(dict[str, Any], environment.filters)[_FILTER] = _counted
    tree = environment.parse(text)
    for loop in tree.find_all(nodes.For):
        loop.body.insert(0, _step(loop, IN_RECURSION if loop.recursive else 1))
        if loop.test is not None:
            # What a loop passes over is a turn of it, too.
            loop.test = nodes.And(_step(loop, 1).node, loop.test, lineno=loop.lineno)
    for macro in tree.find_all((nodes.Macro, nodes.CallBlock)):
        macro.body.insert(0, _step(macro, IN_MACRO))
    return cast(nodes.Template, tree.set_environment(environment))


def _step(place: nodes.Node, steps: int) -> nodes.ExprStmt:
    called = nodes.Filter(nodes.Const(steps), _FILTER, [], [], None, None, lineno=place.lineno)
    return nodes.ExprStmt(called, lineno=place.lineno)


# With the context, so that no value of it is computed while the template is compiled.
@pass_context
def _counted(context: Context, steps: int) -> bool:
    counter: Steps = context[STEPS]
    counter.left -= steps
    if counter.left < 0:
        raise TooManySteps
    return True
