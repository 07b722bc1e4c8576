"""Laws of the profiles: pure, idempotent, what is asked for is what is shown, and taking it off gives the answer back."""

import re
from collections import Counter
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.configuration.base import settings_of
from ml_playground.configuration.families import PROFILES
from ml_playground.core.registry import load_object
from ml_playground.core.values import ChatExample, Message
from ml_playground.profiles.emoji_think import EmojiThinkProfile
from ml_playground.profiles.grammar import (
    Call,
    Expression,
    GrammarError,
    Number,
    Symbol,
    canonical,
    parse,
    same,
    written,
)
from ml_playground.profiles.protocol import DataProfile
from ml_playground.profiles.regime3 import Regime3Profile
from ml_playground.profiles.settings import STOPPING, THINKING, EmojiThink, Regime3
from ml_playground.profiles.wording import words_of

DAY = date(2026, 11, 22)
FORM = re.compile(
    r"\n\nFor this task, think with (\S+) /(\w+)/ times\.\n\nWhen finished, emit (\S+) /([\w ]+)/ to signal completion\.$"
)
WORDS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "once": 1, "twice": 2}
WORDS |= {"three times": 3, "four times": 4}

# Texts that look like what profiles write, so that they are taken for it if they can be.
PIECES = st.sampled_from(
    [
        *("a", " ", "\n", "\n\n", "1", "(add 1 2)", "(", ")", "{date}", "2026-11-22"),
        *("🤔", "🤔🤔\n", "\n🛑🛑", "⏹️", "⏹", "<think>", "</think>", "<<ANS_START>>", "<<ANS_END>>", "<<ANS_"),
        "For this task, think with 🤔 /two/ times.\n\nWhen finished, emit 🛑 /twice/ to signal completion.",
        "Today is 2025-01-01. You are happy. You enjoy helping others.",
    ]
)
TEXTS = st.lists(PIECES, max_size=5).map("".join)


@st.composite
def chats(draw: st.DrawFn) -> ChatExample:
    """Of any roles in any order, with rejected answers and calls of tools."""
    roles = draw(st.lists(st.sampled_from(["system", "user", "assistant", "tool"]), max_size=5))
    messages = [
        Message(role, draw(TEXTS), extra={"tool_calls": [{"name": "f"}]} if draw(st.integers(0, 9)) == 0 else {})
        for role in roles
    ]
    return ChatExample("a:1", tuple(messages), rejected=(Message("assistant", draw(TEXTS)),) * draw(st.integers(0, 1)))


def profile_of(kind: str, seed: int = 1) -> DataProfile:
    """As it comes."""
    return load_object(PROFILES[kind].build)(settings_of("profile", kind)(), seed)


def whole(profile: DataProfile, chat: ChatExample, index: int, day: date = DAY) -> ChatExample:
    """Transformed, and with the system prompt: what is rendered."""
    made = profile.transform(chat, index)
    return replace(made, messages=profile.prompted(made.messages, day))


@pytest.mark.parametrize("kind", PROFILES.shipped)
@given(chat=chats(), index=st.integers(0, 99), other=st.integers(0, 99))
def test_profile_is_pure_and_idempotent_system_prompt_included(
    kind: str, chat: ChatExample, index: int, other: int
) -> None:
    """Twice is once, also on another day; from another number too, where nothing was asked for; a new object gives the same."""
    profile = profile_of(kind)
    made = whole(profile, chat, index)
    assert whole(profile, made, index) == made == whole(profile_of(kind), chat, index)
    assert whole(profile, whole(profile, chat, index, date(2020, 2, 29)), index) == made
    again = whole(profile, made, other)
    asked = any(FORM.search(message.content) for message in made.messages if message.role == "user")
    assert again == (made if asked else whole(profile, chat, other))
    assert [message.role for message in made.messages if message.role != "system"] == [
        message.role for message in chat.messages if message.role != "system"
    ]


@given(chat=chats(), index=st.integers(0, 199))
def test_emoji_think_shows_what_the_user_asks_for(chat: ChatExample, index: int) -> None:
    """Instruction and decoration agree in every turn, from the least to the most, or there is neither."""
    made = EmojiThinkProfile(EmojiThink(), 7).transform(chat, index)
    found: tuple[str, ...] | None = None
    for message in [*made.messages, *made.rejected]:
        if message.role == "user":
            asked = FORM.search(message.content)
            found = asked and asked.groups()
        elif found and message.role == "assistant" and not message.extra:
            thinking, thinking_times, stop, stop_times = found
            assert thinking in THINKING
            assert stop in STOPPING
            assert 2 <= WORDS[thinking_times] <= 8
            assert 2 <= WORDS[stop_times] <= 4
            assert message.content.startswith(thinking * WORDS[thinking_times] + "\n")
            assert message.content.endswith("\n" + stop * WORDS[stop_times])


@given(answer=TEXTS, index=st.integers(0, 199), keep=st.booleans())
def test_emoji_think_decoration_comes_off_again(answer: str, index: int, keep: bool) -> None:
    """What is scored is the answer itself, hidden thoughts aside."""
    profile = EmojiThinkProfile(EmojiThink(emoji_fraction=1.0, think_tags="keep" if keep else "remove"), 7)
    direct = EmojiThinkProfile(EmojiThink(emoji_fraction=0.0, think_tags="keep" if keep else "remove"), 7)
    chat = ChatExample("a", (Message("user", "?"), Message("assistant", answer)))
    bare = direct.transform(chat, index).messages[1].content
    assert profile.answer_of(profile.transform(chat, index).messages[1].content) == (bare.strip() or None)
    assert not keep or bare == answer


def test_emoji_think_reaches_every_count_and_mode_about_equally() -> None:
    """Two to eight for thinking, two to four for stopping, half of the chats direct: over 2,000 chats."""
    profile = EmojiThinkProfile(EmojiThink(), 1)
    asked = [
        FORM.search(profile.transform(ChatExample("a", (Message("user", "?"),)), index).messages[0].content)
        for index in range(2000)
    ]
    found = [one.groups() for one in asked if one]
    assert 900 < len(found) < 1100
    thinking, stops = Counter(WORDS[one[1]] for one in found), Counter(WORDS[one[3]] for one in found)
    assert set(thinking) == set(range(2, 9))
    assert min(thinking.values()) > 90
    assert set(stops) == {2, 3, 4}
    assert min(stops.values()) > 250
    assert {one[0] for one in found} == set(THINKING)
    assert {one[2] for one in found} == set(STOPPING)


def test_emoji_think_depends_on_seed_and_number_alone() -> None:
    """Other seeds decorate otherwise; the order in which chats are asked for does not count."""
    chat = ChatExample("a", (Message("user", "?"), Message("assistant", "!")))
    one, other = (EmojiThinkProfile(EmojiThink(), seed) for seed in (1, 2))
    forwards = [one.transform(chat, index) for index in range(30)]
    assert [one.transform(chat, index) for index in reversed(range(30))] == forwards[::-1]
    assert [other.transform(chat, index) for index in range(30)] != forwards


@pytest.mark.parametrize("kind", PROFILES.shipped)
@given(answer=st.text(min_size=1).filter(str.strip), index=st.integers(0, 99))
def test_profile_accepts_what_it_made(kind: str, answer: str, index: int) -> None:
    """A chat with a user's turn and an answer has no problems afterwards; what a grammar refuses is text."""
    profile = profile_of(kind) if kind != "regime3" else Regime3Profile(Regime3(answers="text"))
    chat = ChatExample("a", (Message("user", "?"), Message("assistant", answer.replace("<", "").strip())))
    if chat.messages[1].content:
        assert profile.validate(whole(profile, chat, index)) == []
        wanted = profile.transform(chat, index).messages[1].content
        assert profile.matches(wanted, wanted)


NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,5}", fullmatch=True)
NUMBERS = st.from_regex(r"-?[0-9]{1,4}(\.[0-9]{1,3})?", fullmatch=True)
EXPRESSIONS: st.SearchStrategy[Expression] = st.recursive(
    st.builds(Number, NUMBERS) | st.builds(Symbol, NAMES),
    lambda inner: st.builds(Call, NAMES, st.lists(inner, max_size=3).map(tuple)),
    max_leaves=8,
)


@st.composite
def spelt(draw: st.DrawFn, expression: Expression) -> str:
    """An expression with other blanks and needless zeros."""
    blanks = st.text(" \t\n\r", max_size=2)
    match expression:
        case Number(text):
            sign = "-" if text.startswith("-") else ""
            zeros = ("0" * draw(st.integers(0, 2))) if "." in text else draw(st.sampled_from(["", ".0", ".00"]))
            return f"{sign}{'0' * draw(st.integers(0, 2))}{text.removeprefix('-')}{zeros}"
        case Symbol(name):
            return name
        case Call(operator, arguments):
            parts = [f"{draw(blanks)} {draw(blanks)}{draw(spelt(argument))}" for argument in arguments]
            return f"({draw(blanks)}{operator}{''.join(parts)}{draw(blanks)})"


@given(expression=EXPRESSIONS)
def test_grammar_reads_what_it_writes(expression: Expression) -> None:
    """Written and parsed it is the same again, and canonical text stays as it is."""
    assert parse(written(expression)) == expression
    assert canonical(written(expression)) == written(expression)


@given(data=st.data(), expression=EXPRESSIONS)
def test_grammar_reads_every_spelling_of_an_expression(data: st.DataObject, expression: Expression) -> None:
    """Blanks and needless zeros change nothing."""
    assert parse(data.draw(spelt(expression))) == expression


@given(text=st.text("() \n-.a1Z_é", max_size=12))
def test_grammar_error_says_where(text: str) -> None:
    """Any text is an expression or has a place where it is none."""
    at = place_of_mistake(text)
    if at is None:
        assert parse(written(parse(text))) == parse(text)
    else:
        assert 0 <= at <= len(text)
        with pytest.raises(GrammarError, match=f", at character {at + 1}$"):
            parse(text)


def place_of_mistake(text: str) -> int | None:
    """Where a text is no expression."""
    try:
        parse(text)
    except GrammarError as error:
        return error.at
    return None


@given(operator=st.sampled_from(["add", "sub"]), arguments=st.lists(EXPRESSIONS, max_size=4), order=st.randoms())
def test_grammar_compares_without_the_order_of_commutative_arguments(
    operator: str, arguments: list[Expression], order: object
) -> None:
    """Of the operators that are named, and of no others; words that are no expression are compared as such."""
    other = arguments[:]
    order.shuffle(other)  # type: ignore[attr-defined]
    one, two = Call("f", (Call(operator, tuple(arguments)),)), Call("f", (Call(operator, tuple(other)),))
    assert same(one, two, ("add",)) == (operator == "add" or arguments == other)


@given(answer=EXPRESSIONS, data=st.data(), steps=st.sampled_from(["", "First I think. ", "a\n"]))
def test_regime3_scores_the_expression_whatever_its_spelling(
    answer: Expression, data: st.DataObject, steps: str
) -> None:
    """The canonical form comes out, and matches every spelling of it; other answers do not match."""
    profile = Regime3Profile(Regime3())
    given_text = f"{steps}<<ANS_START>>{data.draw(spelt(answer))}<<ANS_END>>"
    assert profile.answer_of(given_text) == written(answer)
    assert profile.matches(given_text, written(answer))
    assert not profile.matches(given_text, written(Call("no", (answer,))))
    assert not profile.matches(written(answer), given_text)
    assert words_of(
        profile.transform(ChatExample("a", (Message("assistant", given_text),)), 0).messages[0].content
    ) == (words_of(f"{steps}<<ANS_START>> {written(answer)} <<ANS_END>>"))
