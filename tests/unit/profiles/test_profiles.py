"""The kinds of profile by example: system prompts, marks, what is wrong with a chat, what is scored."""

from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from ml_playground.core.values import ChatExample, Message
from ml_playground.profiles.emoji_think import EmojiThinkProfile
from ml_playground.profiles.none import NoProfile
from ml_playground.profiles.plain_sft import PlainSftProfile
from ml_playground.profiles.regime3 import Regime3Profile
from ml_playground.profiles.settings import EmojiThink, PlainSft, Regime3
from tests.fakes.small_chats import chat

DAY = date(2026, 11, 22)
ASKED = Message("user", "2 + 2?")
INSTRUCTION = "For this task, think with 🤔 /two/ times.\n\nWhen finished, emit 🛑 /three times/ to signal completion."


def system_of(given: str | None, **settings: Any) -> str:
    """The system prompt of a chat that brings this one, or none."""
    profile = PlainSftProfile(PlainSft(**{"system_prompt": "It is {date}. Help.", **settings}))
    messages = [ASKED] if given is None else [Message("system", given), ASKED]
    made = profile.prompted(messages, DAY)
    assert made[-1] == ASKED
    assert made == profile.prompted(made, DAY)
    return made[0].content


@pytest.mark.parametrize(
    ("given", "what", "found"),
    [
        (None, "keep", "It is 2026-11-22. Help."),
        ("Be brief.", "keep", "Be brief."),
        ("It is 2020-01-01. Help.", "keep", "It is 2026-11-22. Help."),
        ("Be brief.", "replace", "It is 2026-11-22. Help."),
        ("Be brief.", "precede", "Be brief.\n\nIt is 2026-11-22. Help."),
        ("Be brief.\n\nIt is 2020-01-01. Help.", "precede", "Be brief.\n\nIt is 2026-11-22. Help."),
        ("Be brief.\n\nIt is 2020-01-01. Help.", "keep", "Be brief.\n\nIt is 2020-01-01. Help."),
    ],
)
def test_system_prompt_stands_where_the_settings_say(given: str | None, what: str, found: str) -> None:
    """Of the data, ours, or both in one message; ours of another day is renewed."""
    assert system_of(given, data_system_prompt=what) == found


def test_system_prompt_of_a_set_day_does_not_change() -> None:
    """The settings' date wins over the day on which the profile is asked."""
    assert system_of(None, date="2020-02-29") == "It is 2020-02-29. Help."


def test_system_prompt_that_is_empty_leaves_messages_alone() -> None:
    """No message is put in, and that of the data stays."""
    profile = PlainSftProfile(PlainSft(system_prompt="", data_system_prompt="replace"))
    assert profile.prompted([ASKED], DAY) == (ASKED,)
    assert profile.prompted([Message("system", "Be brief."), ASKED], DAY)[0].content == "Be brief."


def test_system_prompt_keeps_weight_and_extras_of_the_data() -> None:
    """Only the text of a system message changes."""
    theirs = Message("system", "Be brief.", 0.5, {"name": "a"})
    made = PlainSftProfile(PlainSft(data_system_prompt="precede")).prompted([theirs, ASKED], DAY)
    assert made[0] == replace(theirs, content="Be brief.\n\nYou are a helpful assistant.")


def test_regime3_system_prompt_names_its_marks() -> None:
    """A model is told the marks that it is trained on, and braces that mean nothing stay."""
    profile = Regime3Profile(Regime3(start_mark="[[", end_mark="]]", system_prompt="{start} x {end} {other}"))
    assert profile.prompted([ASKED], DAY)[0].content == "[[ x ]] {other}"


@pytest.mark.parametrize(
    ("answer", "marked"),
    [
        ("4", "<<ANS_START>> 4 <<ANS_END>>"),
        ("  (add  2 2)\n", "<<ANS_START>> (add 2 2) <<ANS_END>>"),
        ("I add.\n(add 2 2)", "I add.\n<<ANS_START>> (add 2 2) <<ANS_END>>"),
        ("(add\n2)", "<<ANS_START>> (add 2) <<ANS_END>>"),
        ("I add.\nfour!", "<<ANS_START>> I add.\nfour! <<ANS_END>>"),
        ("So: <<ANS_START>> 04", "So: <<ANS_START>> 4 <<ANS_END>>"),
        ("4.0 <<ANS_END>> Done.", "<<ANS_START>> 4 <<ANS_END>> Done."),
        ("<<ANS_START>>4<<ANS_END>>", "<<ANS_START>> 4 <<ANS_END>>"),
        ("<<ANS_END>> 4 <<ANS_START>>", "<<ANS_END>> 4 <<ANS_START>>"),
    ],
)
def test_regime3_marks_answers(answer: str, marked: str) -> None:
    """Whole answers, last lines in the grammar, or only the mark that is missing; both in the wrong order stay, to be refused."""
    made = Regime3Profile(Regime3()).transform(chat(("user", "2 + 2?"), ("assistant", answer)), 0)
    assert made.messages[1].content == marked


def test_regime3_text_answers_stay_as_they_are_between_the_marks() -> None:
    """With answers = "text" nothing is parsed, and words are compared."""
    profile = Regime3Profile(Regime3(answers="text"))
    made = profile.transform(chat(("user", "?"), ("assistant", "(add  2 2)\nyes")), 0)
    assert made.messages[1].content == "<<ANS_START>> (add  2 2)\nyes <<ANS_END>>"
    assert profile.validate(made) == []
    assert profile.matches("<<ANS_START>> a  b <<ANS_END>>", "a b")
    assert not profile.matches("<<ANS_START>> (add 1 2) <<ANS_END>>", "(add 2 1)")


@pytest.mark.parametrize(
    ("turns", "problem"),
    [
        ([("assistant", "<<ANS_START>> 4 <<ANS_END>>")], "no message is the user's; there is nothing to answer"),
        (
            [("user", "?"), ("assistant", " ")],
            "message 2 (assistant) is empty; write an answer, or give it the weight 0",
        ),
        (
            [("user", "?"), ("assistant", "4")],
            "message 2 (assistant): it has 0 x <<ANS_START>> and 0 x <<ANS_END>>; it takes one of each, the answer between them",
        ),
        (
            [("user", "?"), ("assistant", "<<ANS_END>> 4 <<ANS_START>>")],
            "message 2 (assistant): it has 1 x <<ANS_START>> and 1 x <<ANS_END>>; it takes one of each, the answer between them",
        ),
        (
            [("user", "?"), ("assistant", "<<ANS_START>> <<ANS_END>>")],
            "message 2 (assistant): nothing stands between its marks",
        ),
        (
            [("user", "?"), ("assistant", "<<ANS_START>> (add 2 <<ANS_END>>")],
            (
                "message 2 (assistant): its answer '(add 2' is not in the grammar: "
                "')' is missing for the '(' at character 1, at character 7"
            ),
        ),
    ],
)
def test_regime3_says_what_is_wrong(turns: list[tuple[str, str]], problem: str) -> None:
    """With the number of the message, and the place in its answer."""
    assert problem in Regime3Profile(Regime3()).validate(chat(*turns))


@pytest.mark.parametrize(
    ("given", "wanted", "same"),
    [
        ("<<ANS_START>> (add 2 (mul 3 4)) <<ANS_END>>", "<<ANS_START>> (add (mul 4 3) 02.0) <<ANS_END>>", True),
        ("<<ANS_START>> (sub 1 2) <<ANS_END>>", "(sub 2 1)", False),
        ("<<ANS_START>> 1 <<ANS_END>> or <<ANS_START>> 2 <<ANS_END>>", "2", True),
        ("2", "2", False),
        ("<<ANS_START>> 2", "2", False),
        ("<<ANS_START>> four  apples! <<ANS_END>>", "four apples!", True),
    ],
)
def test_regime3_compares_answers(given: str, wanted: str, same: bool) -> None:
    """As expressions; the last pair of marks counts, and an answer without marks is none."""
    assert Regime3Profile(Regime3()).matches(given, wanted) == same


def test_emoji_think_says_what_does_not_agree() -> None:
    """Too few, too many, another one."""
    profile = EmojiThinkProfile(EmojiThink(), 1)
    asked = f"2 + 2?\n\n{INSTRUCTION}"
    right = "🤔🤔\n4\n🛑🛑🛑"
    assert profile.validate(chat(("user", asked), ("assistant", right))) == []
    begins = "message 2 (assistant) does not begin with 2 x 🤔 and a new line, as asked for"
    ends = "message 2 (assistant) does not end with a new line and 3 x 🛑, as asked for"
    for wrong, problems in {
        "🤔🤔🤔\n4\n🛑🛑🛑": [begins],
        "🤔🤔\n4\n🛑🛑🛑🛑": [ends],
        "💡💡\n4\n🛑🛑 🛑": [begins, ends],
        "4": [begins, ends],
    }.items():
        assert profile.validate(chat(("user", asked), ("assistant", wrong))) == problems


def test_emoji_think_takes_users_at_their_word() -> None:
    """Who asks in the words of an instruction gets that, in direct mode too, once; other turns of the chat follow."""
    direct = EmojiThinkProfile(EmojiThink(emoji_fraction=0.0), 1)
    asked, shown = f"2 + 2?\n\n{INSTRUCTION}", "🤔🤔\n4\n🛑🛑🛑"
    decorated = chat(("user", asked), ("assistant", shown))
    assert direct.transform(decorated, 0) == decorated
    assert direct.transform(chat(("user", asked), ("assistant", "4")), 0) == decorated
    more = chat(("user", asked), ("assistant", "4"), ("user", "2 + 2?"), ("assistant", "4"))
    assert direct.transform(more, 0).messages == decorated.messages * 2
    others = asked.replace("🤔", "💡").replace("two", "three")
    two = chat(("user", asked), ("assistant", "4"), ("user", others), ("assistant", "4"))
    made = EmojiThinkProfile(EmojiThink(emoji_fraction=1.0), 1).transform(two, 0)
    assert [message.content for message in made.messages] == [asked, shown, others, "💡💡💡\n4\n🛑🛑🛑"]


def test_emoji_think_leaves_emojis_that_nobody_asked_for() -> None:
    """They belong to the answer."""
    own = chat(("user", "Ideas?"), ("assistant", "💡💡\nGo out.\n🛑🛑"))
    assert EmojiThinkProfile(EmojiThink(emoji_fraction=0.0), 1).transform(own, 0) == own
    made = EmojiThinkProfile(EmojiThink(emoji_fraction=1.0), 1).transform(own, 0)
    assert own.messages[1].content in made.messages[1].content


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("<think>a</think>\n\n4", "4"),
        ("a</think>\n4", "4"),
        ("4 <think>a", "4 "),
        ("<think>a<think>b</think>c</think>4", "4"),
    ],
)
def test_emoji_think_removes_hidden_thoughts(text: str, bare: str) -> None:
    """With their tags, also where one tag is missing; unless they are to be kept."""
    given = chat(("user", "?"), ("assistant", text))
    assert EmojiThinkProfile(EmojiThink(emoji_fraction=0.0), 1).transform(given, 0).messages[1].content == bare
    kept = EmojiThinkProfile(EmojiThink(emoji_fraction=0.0, think_tags="keep"), 1)
    assert kept.transform(given, 0) == given


def test_turns_that_call_tools_stay_as_they_are() -> None:
    """They say nothing to the user, so there is nothing to decorate or to mark."""
    call = Message("assistant", "", extra={"tool_calls": [{"name": "f"}]})
    given = ChatExample("a", (ASKED, call, Message("tool", "4"), Message("assistant", "4")))
    emojis = EmojiThinkProfile(EmojiThink(emoji_fraction=1.0), 1)
    for profile in (Regime3Profile(Regime3()), emojis):
        made = profile.transform(given, 0)
        assert made.messages[1:3] == given.messages[1:3]
        assert made.messages[3] != given.messages[3]
        assert profile.validate(made) == []


def test_answers_of_plain_profiles_are_compared_by_their_words() -> None:
    """White space and the way accents are written do not count; an empty answer is none."""
    profile = NoProfile()
    assert profile.matches(" Cafe\u0301  au\nlait", "Café au lait ")
    assert not profile.matches("4.", "4")
    assert profile.answer_of(" \n") is None
    assert EmojiThinkProfile(EmojiThink(), 1).answer_of("🤔\n\n🛑") is None
    assert not EmojiThinkProfile(EmojiThink(), 1).matches("🤔\n\n🛑", "🤔\n\n🛑")
