"""Made-up problems: right answers, each problem once, the same ones everywhere."""

import itertools
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.values import ChatExample
from ml_playground.data_pipeline.sources.symbolic_problems import build
from ml_playground.data_pipeline.sources.symbolic_settings import SymbolicProblems
from ml_playground.profiles.grammar import Call, Expression, Number, Symbol, parse, written

ALL = ("arithmetic", "lists", "logic", "syllogisms")


def chats_of(**fields: Any) -> list[ChatExample]:
    """All of a source."""
    return list(build(SymbolicProblems(**fields), Deps()).chats())


def value_of(expression: Expression) -> Any:
    """What an expression comes to, by Python's own rules."""
    match expression:
        case Number(text):
            return int(text)
        case Symbol("true" | "false"):
            return expression.name == "true"
        case Symbol(name):
            return name
        case Call(operator, arguments):
            return OPERATIONS[operator](*map(value_of, arguments))


OPERATIONS: dict[str, Any] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "and": lambda a, b: a and b,
    "or": lambda a, b: a or b,
    "xor": lambda a, b: a != b,
    "not": lambda a: not a,
    "list": lambda *items: list(items),
    "reverse": lambda items: items[::-1],
    "sort": sorted,
    "first": lambda items: items[0],
    "last": lambda items: items[-1],
    "max": max,
    "min": min,
    "length": len,
}


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), level=st.integers(1, 5))
def test_answers_are_right_and_in_the_grammar(seed: int, level: int) -> None:
    """The form comes to the result, the last step too; canonical as the profile regime3 writes it."""
    for chat in chats_of(count=40, seed=seed, levels=(level,)):
        question, answer = (message.content for message in chat.messages)
        whole = parse(answer)
        assert written(whole) == answer
        assert isinstance(whole, Call)
        assert whole.operator == "is"
        form, *steps, result = whole.arguments
        if chat.facts["domain"] == "syllogisms":
            subject, wanted = written(form).strip("()").split()[1:]
            path = written(steps[0]).strip("()").split()[1:]
            assert path[0] == subject
            assert all(f"Every {one} is a {other}." in question for one, other in itertools.pairwise(path))
            assert f"Every {path[-1]} is" not in question
            assert (wanted in path) == (written(result) == "true")
            assert f"Is every {subject} a {wanted}?" in question
        else:
            assert value_of(form) == value_of(result)
            assert not steps or value_of(steps[-1]) == value_of(result)


def test_problems_come_once_and_are_shared_out_evenly() -> None:
    """So no two splits share one; every stretch has its share of each level and domain."""
    chats = chats_of(count=1600)
    assert len({chat.messages[0].content for chat in chats}) == 1600
    assert len({parse(chat.messages[1].content) for chat in chats if chat.facts["domain"] != "syllogisms"}) == 1200
    assert len({chat.id for chat in chats}) == 1600
    cells = {(level, domain): 20 for level in (1, 2) for domain in ALL}
    for start in range(0, 1600, 160):
        stretch = chats[start : start + 160]
        assert Counter((chat.facts["level"], chat.facts["domain"]) for chat in stretch) == cells


def test_facts_and_questions_do_not_give_the_answer_away() -> None:
    """What stands beside the answer is level and domain; ids are hashes."""
    for chat in chats_of(count=80):
        answer = chat.messages[1].content
        assert set(chat.facts) == {"level", "domain"}
        assert answer not in chat.messages[0].content
        domain, name = chat.id.split("/")
        assert domain == chat.facts["domain"]
        assert len(name) == 16


def test_more_problems_begin_with_the_same_ones() -> None:
    """And another seed gives others, which have the same ids where they are the same problems."""
    few, many, other = chats_of(count=40), chats_of(count=400), chats_of(count=400, seed=1)
    assert many[:40] == few
    assert other != many
    ids = {chat.id: chat.messages[1] for chat in many}
    shared = [chat for chat in other if chat.id in ids]
    assert shared
    assert all(ids[chat.id] == chat.messages[1] for chat in shared)


def test_steps_can_be_left_out() -> None:
    """Form and result alone."""
    for chat in chats_of(count=40, levels=(3,), steps=False):
        whole = parse(chat.messages[1].content)
        assert isinstance(whole, Call)
        assert len(whole.arguments) == 2


def test_provenance_is_a_hash_of_the_problems() -> None:
    """Other problems, another hash; equal settings, an equal one."""
    hashes = [
        build(settings_, Deps()).provenance().content
        for settings_ in (SymbolicProblems(count=40), SymbolicProblems(count=40), SymbolicProblems(count=40, seed=1))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_more_problems_than_there_are_is_an_error_that_says_how_many() -> None:
    """A level of logic has only so many."""
    with pytest.raises(
        ConfigError,
        match=r"prepare.source.count = 7000 asks for more problems of level 2 in 'logic' than could be found: 6\d\d\d; "
        "lower it, or name more levels or domains.",
    ):
        chats_of(count=7000, levels=(2,), domains=("logic",))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"levels": (1, 1)}, "levels = [1, 1] names one twice"),
        ({"domains": ("logic", "logic")}, "domains = ['logic', 'logic'] names one twice"),
        ({"levels": (6,)}, "less than or equal to 5"),
    ],
)
def test_settings_refuse_what_makes_no_sense(fields: dict[str, Any], message: str) -> None:
    """In words."""
    with pytest.raises(ValidationError) as refused:
        SymbolicProblems(**fields)
    assert message in str(refused.value)
