"""Templates render as transformers renders them, in a sandbox, and no message can write a special token."""

from datetime import date
from typing import Any

import pytest

from ml_playground.core.chat_template import ChatTemplate, Rendered, TemplateRefusal
from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.core.values import Message
from tests.fakes.chat_families import STEADY, THINKING, library_tokenizer

MESSAGES = (Message("user", "  Ä <a> & 'b'\n"), Message("assistant", "Ö", extra={"reasoning_content": "hm"}))
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
FEATURES = {
    "tojson": "{{ messages | tojson }}|{{ messages[0] | tojson(indent=1) }}|{{ tools | tojson }}",
    "loop controls": "{% for m in messages %}{% if m.role == 'assistant' %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
    "blocks trimmed": "  {% if true %}\n  x\n  {% endif %}\ny\n",
    "namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}{{ dict(a=1).a }}",
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "thoughts": "{{ messages[1].reasoning_content }}{{ messages[1].thinking }}",
    "texts made of others": "{{ 'a' ~ 1 ~ none ~ [1, 'b'] }}{{ 'a' + 'b' * 3 }}{{ '%5s|%.2f' % ('x', 2) }}"
    "{{ '{:>4}|{x!r}'.format(1, x='y') }}"
    "{{ 2 ** 10 }}"
    "{{ 'x'|center(9) }}{{ 'x'.ljust(3) }}{{ 'a\\nb'|indent(2, first=true) }}{{ messages|join(', ', attribute='role') }}{{ [1, 2]|sum }}"
    "{{ '%s'|format('x') }}{{ {'a': [1]}|tojson(indent=2, separators=(',', ': ')) }}{{ 'aXa'|replace('X', 'yy') }}{{ 2.567|round(1) }}"
    "{{ messages|map(attribute='content')|map('upper')|list }}{{ [3, 1]|sort|batch(2)|list }}"
    "{% set x %}{{ 'a' }}{{ 1 }}{% endset %}{{ x|length }}",
    "undefined": "{{ nothing }}{% if documents is none %}x{% endif %}{{ enable_thinking }}",
    **STEADY,
    "thinking": THINKING,
}


@pytest.mark.parametrize("prompt", [False, True])
@pytest.mark.parametrize("name", FEATURES)
def test_text_is_what_transformers_renders(name: str, prompt: bool) -> None:
    """Filters, loops, white space, variables: one template, one text."""
    table = [{"role": message.role, "content": message.content, **message.extra} for message in MESSAGES]
    options: dict[str, Any] = {"tools": [{"name": "ä<"}], "enable_thinking": True}
    wanted = library_tokenizer().apply_chat_template(
        table, chat_template=FEATURES[name], tokenize=False, add_generation_prompt=prompt, **options
    )
    made = ChatTemplate(FEATURES[name], tokens=TOKENS).render(MESSAGES, add_generation_prompt=prompt, **options)
    assert made == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ raise_exception('no ' + messages[0].role) }}", "no user"),
        ("{{ messages.append(1) }}", "not safely callable|append"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{% set ns = namespace(_a=1) %}", "begins with an underscore"),
        ("{% set ns = namespace() %}{% set ns._a = 1 %}", "begins with an underscore"),
        ("{{ messages[0].content + 1 }}", "TypeError"),
        ("{{ messages[7].content }}", "has no element 7"),
        ("{{ 'a'.encode('nope') }}", "LookupError: unknown encoding"),
        ("{{ cycler() }}", "RuntimeError: at least one item"),
        ("{{ range(10 ** 6) }}", r"Range too big.*\(100000\)$"),
        ("{{ 10 ** 5000 }}", "ValueError: Exceeds the limit"),
        ("{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}", "RecursionError"),
        (r"{{ '\ud800' }}", "UnicodeEncodeError"),
    ],
)
def test_template_that_refuses_or_breaks_out_is_told(text: str, message: str) -> None:
    """As one exception with the reason, whatever the template did."""
    with pytest.raises(TemplateRefusal, match=message):
        ChatTemplate(text).render(MESSAGES)


HUNDRED = "range(100)"
ENDLESS = {
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}{% endfor %}",
    "loops that write nothing": f"{{% for i in {HUNDRED} %}}" * 6 + "{% endfor %}" * 6,
    "loops that pass everything over": "{% for i in range(99999) %}{% for j in range(99999) if 0 %}{% endfor %}{% endfor %}",
    "macros": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "recursion": "{% for i in [60] recursive %}{% if i %}{{ loop([i - 1]) }}{{ loop([i - 1]) }}{% endif %}{% endfor %}",
    "blocks that call": "{% macro m(n) %}{% for i in range(99999) %}{{ caller() }}{% endfor %}{% endmacro %}"
    "{% call m(1) %}{% for i in range(99999) %}{% endfor %}{% endcall %}",
}


@pytest.mark.parametrize("what", ENDLESS)
def test_template_without_an_end_is_told(what: str) -> None:
    """Within about a second, not when its user gives up."""
    message = (
        "takes more than 1,000,000 steps in its loops and macros over 1 message, so it may never end; correct its loops"
    )
    with pytest.raises(DataError, match=message):
        ChatTemplate(ENDLESS[what]).render([Message("user", "Hi")])


def test_each_rendering_is_counted_for_itself() -> None:
    """A template that is rendered a million times does not run out."""
    template = ChatTemplate("{% for i in range(99999) %}{% for j in range(5) %}{% endfor %}{% endfor %}done")
    assert [template.render([]) for _ in range(2)] == ["done"] * 2


def test_what_is_no_template_is_refused_with_its_line() -> None:
    """Before a chat is read."""
    with pytest.raises(ConfigError, match=r"The chat template is no Jinja template: .* \(line 2\); correct it"):
        ChatTemplate("\n{% for %}")


@pytest.mark.parametrize(
    "text",
    [
        "{% for one in messages %}" * 30 + "{% endfor %}" * 30,
        "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
        "{{ " + "9" * 5000 + " }}",
        "{% break %}",
        "{{ '\ud800' }}",
    ],
)
def test_what_no_python_can_be_made_of_is_refused(text: str) -> None:
    """Whatever a folder from elsewhere holds, its user hears of it in one line."""
    with pytest.raises(ConfigError, match="The chat template cannot be compiled: .*; make it simpler"):
        ChatTemplate(text)


def test_special_token_in_a_message_is_remembered_as_text() -> None:
    """In contents, in what templates read beside them, in tools; those that the template writes are not."""
    template = ChatTemplate(
        "{{ messages[0].content | trim }}{{ eos_token }}{{ tools[0].name }}", tokens=TOKENS, control=["</s>", "<s>"]
    )
    rendered = template.rendered((Message("user", " a</s>b<s> "),), tools=[{"name": "</s>"}])
    assert rendered == Rendered("a</s>b<s></s></s>", ((1, 5), (6, 9), (13, 17)))


def test_guards_in_a_message_forge_nothing() -> None:
    """The two characters that stand around such places are taken out of what messages say."""
    text = "\U000f0000</s>\U000f0001\U000f0000"
    rendered = ChatTemplate("{{ messages[0].content }}{{ eos_token }}", tokens=TOKENS, control=["</s>"]).rendered(
        (Message("user", text),)
    )
    assert rendered == Rendered("</s></s>", ((0, 4),))


def test_day_is_the_one_that_was_given() -> None:
    """Or the day on which the template asks."""
    text = "{{ strftime_now('%d %b %Y') }}"
    assert ChatTemplate(text, today=date(2024, 7, 26)).render(()) == "26 Jul 2024"
    assert len(ChatTemplate(text).render(())) == 11
