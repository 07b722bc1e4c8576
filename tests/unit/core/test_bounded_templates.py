"""What a template makes is bounded by what it is given, whatever it asks for: it is refused before the memory is taken."""

import tracemalloc
from typing import Any

import pytest

from ml_playground.core.chat_template import ChatTemplate, TemplateRefusal
from ml_playground.core.error_handling import DataError
from ml_playground.core.values import Message

HI = Message("user", "Hi")
AGAIN = "{% set ns = namespace(x='ab') %}{% for i in range(60) %}"
DOUBLED = "{% set ns = namespace(x=[1]) %}{% for i in range(40) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}"
"""A list of two lists of two lists ...: forty short lists, and a text longer than any memory."""
MEGABYTE = "{% set x = 'x' * 10 ** 6 %}"
HUGE = [
    "{{ 'x'|center(10 ** 10) }}",
    "{{ ['x']|map('center', 10 ** 10)|list }}",
    "{% filter center(10 ** 10) %}x{% endfilter %}",
    "{{ messages[0].content * 10 ** 8 }}",
    "{{ 10 ** 8 * 'x' }}",
    "{{ range(99999)|list * 10 ** 5 }}",
    "{{ 'x'.ljust(10 ** 10) }}",
    "{{ '1'.zfill(10 ** 10) }}",
    "{{ 'x'|attr('rjust')(10 ** 10) }}",
    "{{ 'x'.encode().center(10 ** 10) }}",
    "{{ '\\t'.expandtabs(10 ** 10) }}",
    "{{ (1).to_bytes(10 ** 10, 'big') }}",
    "{{ '%10000000000d' % 1 }}",
    "{{ '%.*f' % (10 ** 9, 1) }}",
    "{{ '%(a)1000000000s'|format(a=1) }}",
    "{{ '{:>10000000000}'.format(1) }}",
    "{{ '{:>{w}}'.format(1, w=10 ** 10) }}",
    "{{ [1]|tojson(indent=10 ** 9) }}",
    "{{ [1, 2, 3]|tojson(separators=('x' * 10 ** 6, ':')) }}",
    "{{ ('x\\n' * 5 * 10 ** 5)|indent(1000) }}",
    "{{ ('x ' * 1000)|wordwrap(1, wrapstring='x' * 10 ** 5) }}",
    "{{ [1]|batch(10 ** 10, 0)|list }}",
    "{{ [1]|slice(10 ** 10)|list }}",
    "{{ 1.5|round(10 ** 9, 'ceil') }}",
    "{{ (2 ** 10000) ** 10000 }}",
    "{{ (2 ** 60000) * (2 ** 60000) }}",
    "{{ ([range(99999)|list] * 9999)|sum(start=[])|length }}",
    "{{ ([namespace(a='x' * 10 ** 5)] * 9999)|join(attribute='a') }}",
    MEGABYTE + "{{ " + "~".join("x" * 999) + " }}",
    MEGABYTE + "{{ x }}" * 999,
    MEGABYTE + "{% set ns = namespace(l=[]) %}{% for i in range(9999) %}{% set ns.l = ns.l + [x ~ i] %}{% endfor %}",
    *(
        AGAIN + f"{{% set ns.x = {longer} %}}{{% endfor %}}"
        for longer in (
            "ns.x ~ ns.x",
            "ns.x + ns.x",
            "ns.x|list + ns.x|list",
            "ns.x.replace('a', ns.x)",
            "ns.x|replace('a', ns.x)",
            "[ns.x, ns.x]|join",
            "ns.x.join([ns.x, ns.x])",
            "'%s%s' % (ns.x, ns.x)",
            "'{}{}'.format(ns.x, ns.x)",
            "'{a}{a}'.format_map({'a': ns.x})",
            "ns.x.translate({97: ns.x})",
        )
    ),
    AGAIN + "{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}",
    "{% macro m() %}{{ ns.x }}{{ ns.x }}{% endmacro %}" + AGAIN + "{% set ns.x = m() ~ m() %}{% endfor %}",
    *(
        DOUBLED + f"{{{{ {text} }}}}"
        for text in (
            "ns.x",
            "ns",
            "ns.x|tojson",
            "ns.x ~ ''",
            "'%s' % ns.x",
            "'{!r}'.format(ns.x)",
            "ns.x|pprint",
            "ns.x|upper",
            "{1: ns.x}.items()",
        )
    ),
]


@pytest.mark.parametrize("text", HUGE)
def test_template_that_makes_too_much_is_told_before_the_memory_is_taken(text: str) -> None:
    """By widths, products, texts that double, or lists that stand in themselves; also where Jinja would compute it while compiling."""
    tracemalloc.start()
    try:
        with pytest.raises(
            DataError,
            match=r"makes more than 1,0\d\d,\d{3} characters of 1 message \(in all \d+ characters\), .* correct it",
        ):
            ChatTemplate(text.replace("{% macro", "{% set ns = namespace(x='ab') %}{% macro", 1)).render([HI])
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 64 << 20


TWICE = (
    "{{% set ns = namespace(x={first}, y={first}) %}}"
    "{{% for i in range(40) %}}{{% set ns.x = {x} %}}{{% set ns.y = {y} %}}{{% endfor %}}"
)
SHARED = {
    "lists": ("[1]", "[{}, {}]"),
    "tuples": ("(1,)", "({}, {})"),
    "tables": ("{{1: 1}}", "{{1: {}, 2: {}}}"),
    "products": ("[1]", "[{}] * 2"),
    "sums": ("[1]", "[{}] + [{}]"),
    "functions": ("[1]", "dict(a={}, b={})"),
    "filters": ("[1]", "[{}]|batch(2, {})|list"),
    "slices": ("[1]", "[{}, {}][:]"),
    "methods": ("[1]", "[{}, {}].copy()"),
}


@pytest.mark.parametrize(
    "asked",
    ["ns.x == ns.y", "ns.x in [ns.y]", "[ns.y].index(ns.x)", "[ns.x]|select('eq', ns.y)|list", "[ns.x, ns.y]|sort"],
)
@pytest.mark.parametrize("how", SHARED)
def test_lists_that_share_lists_are_refused_before_comparing_them_takes_for_ever(how: str, asked: str) -> None:
    """Two lists of forty lists, of which each stands twice in the next: made in no time, compared in 2 to the 40 steps."""
    first, longer = SHARED[how]
    made = TWICE.format(first=first.format(), x=longer.format("ns.x", "ns.x"), y=longer.format("ns.y", "ns.y"))
    with pytest.raises(DataError, match="makes more than .* characters of 1 message"):
        ChatTemplate(f"{made}{{{{ {asked} }}}}").render([HI])


def test_a_macro_that_passes_its_arguments_on_twice_is_refused_before_they_are_hashed() -> None:
    """A tuple of forty tuples as a key takes as long as two lists that are compared."""
    text = "{% macro f(n) %}{% if n %}{{ f(n - 1, varargs, varargs) }}{% else %}{{ {varargs: 1} }}{% endif %}{% endmacro %}{{ f(40) }}"
    with pytest.raises(DataError, match="makes more than .* characters of 1 message"):
        ChatTemplate(text).render([HI])


def test_lists_in_lists_come_out_as_they_are() -> None:
    """What is counted is not changed: names on the left of a set and of a loop, lists, tuples and tables on its right."""
    text = (
        "{% for a, b in [(1, 2)] %}{{ a }}{{ b }}{% endfor %}{% set q, w = 3, [4] %}{{ q }}{{ (w, [w])[1] }}"
        "{{ {'a': [w, messages[0].content]} }}{{ [q, w, messages] == [3, [4], messages] }}{{ ['x', 'y'] }}{{ () }}"
    )
    assert ChatTemplate(text).render([HI]) == "123[[4]]{'a': [[4], 'Hi']}True['x', 'y']()"


def test_room_grows_with_the_messages() -> None:
    """A long document is no attack, nor is what escapes it or adds its messages one by one."""
    messages = [Message("user", "<Ä>" * 10_000) for _ in range(60)]
    added = "{% set ns = namespace(t='') %}{% for m in messages %}{% set ns.t = ns.t ~ m.content|e %}{% endfor %}"
    assert int(ChatTemplate(added + "{{ ns.t|tojson|length }}").render(messages)) == 60 * 90_000 + 2


ENDLESS = "{% for i in range(99999) %}{% for j in range(99) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    "text",
    [
        "{% if [-10 ** 9]|map('\U000f0002step')|list %}{% endif %}" + ENDLESS,
        "{% for i in range(99999) %}{% if none %}" + "{% if i %}{% endif %}" * 3000 + "{% endif %}{% endfor %}",
    ],
)
def test_steps_are_never_given_back_and_more_for_long_bodies(text: str) -> None:
    """A template can name the filter that counts them by a text; and one turn can take as long as a thousand."""
    with pytest.raises(DataError, match="takes more than 1,000,000 steps"):
        ChatTemplate(text).render([HI])


class NoRoom:
    """A value whose text the machine has no memory for."""

    def __str__(self) -> str:
        raise MemoryError


def test_lack_of_memory_is_a_sentence() -> None:
    """Python's own error has no words."""
    more: dict[str, Any] = {"value": NoRoom()}
    with pytest.raises(TemplateRefusal, match=r"^it takes more memory than there is$"):
        ChatTemplate("{{ value }}").render([HI], **more)


@pytest.mark.parametrize("text", ["{{ range(10 ** 6) }}", "{{ raise_exception('No.') }}"])
def test_refusal_has_no_full_stop(text: str) -> None:
    """Whoever says it ends the sentence."""
    with pytest.raises(TemplateRefusal, match=r"[^.]$"):
        ChatTemplate(text).render([HI])
