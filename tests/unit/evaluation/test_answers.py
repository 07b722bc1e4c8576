"""Scoring answers: what is right, what is not, how it is counted, and against whom."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml_playground.commands.answers_text import Found, lines_of
from ml_playground.core.error_handling import CheckpointError
from ml_playground.core.values import Message
from ml_playground.evaluation.answer_loss import RowLosses
from ml_playground.evaluation.answers import Given, answered, answers_to, compared, grouped, shares_of, worst
from ml_playground.evaluation.forgetting import Forgetting
from ml_playground.evaluation.intervals import Estimate
from ml_playground.evaluation.questions import Asked, Question
from ml_playground.sampling.answers import GREEDY, Answer, draw_answers
from ml_playground.sampling.chat import ChatPrompter, load_prompter
from ml_playground.sampling.runner import LoadedRun, load_run
from ml_playground.tokenization.byte import END_OF_TEXT, ByteTokenizer
from tests.fakes.chat_folder import chat_folder
from tests.fakes.history_model import HistoryModel
from tests.fakes.trained_run import job_of, save_run

CHATS = [(Message("user", "x" * length),) for length in (5, 1, 9, 3, 4, 7)]


def question(row: int, wanted: str, **facts: Any) -> Question:
    """One of CHATS."""
    return Question(row, f"a:{row}", CHATS[row % len(CHATS)], wanted, facts)


def given(row: int, *, right: bool, sure: float = 0.5, **facts: Any) -> Given:
    """An answer of one token."""
    answer = Answer("2", (50,), "stop", 2 * math.log(sure), 2)
    return Given(question(row, "2" if right else "3", **facts), answer, exact=right, matched=right, scored=True)


NO_ROWS = RowLosses(np.full(4, np.nan), np.zeros(4))


@pytest.fixture
def prompter(tmp_path: Path) -> ChatPrompter:
    """Of a run without a profile."""
    return load_prompter(chat_folder(tmp_path / "tokenizer"), ByteTokenizer())


@pytest.fixture
def loaded(tmp_path: Path) -> LoadedRun:
    """A run of bytes whose model ends its answers often."""
    model = HistoryModel(257, None, seed=1).eval()
    model.out.data[:, END_OF_TEXT] += 2.2
    return replace(load_run(save_run(job_of(tmp_path, tokenizer="byte"), {5: 2.0}).path), model=model)


def test_answers_to_scores_what_was_drawn(loaded: LoadedRun, prompter: ChatPrompter) -> None:
    """What was wanted is right, white space around it aside; anything else is wrong, and so is an answer without an end."""
    drawn = list(draw_answers(loaded.model, prompter, CHATS, GREEDY.model_copy(update={"max_new_tokens": 12})))
    ended = {place for place, answer in enumerate(drawn) if answer.end == "stop"}
    assert 0 < len(ended) < len(CHATS)
    texts = [answer.text for answer in drawn]
    found = answers_to(loaded, prompter, [question(row, text) for row, text in enumerate(texts)])
    assert {row for row, one in enumerate(found) if one.exact} == ended
    assert all(one.matched for one in found if one.exact)
    spaced = answers_to(loaded, prompter, [question(row, f" {text}\n") for row, text in enumerate(texts)])
    assert [one.exact for one in spaced] == [one.exact for one in found]
    others = answers_to(loaded, prompter, [question(row, f"{text} no") for row, text in enumerate(texts)])
    assert not any(one.exact or one.matched for one in others)


def test_answered_counts_every_answer_once_in_each_fact() -> None:
    """Numbers by their size, then texts; a fact that tells nearly every row apart is none of a kind."""
    answers = [
        given(row, right=row % 3 == 0, level=row % 11, domain="b" if row % 2 else "a", line=row) for row in range(60)
    ]
    groups = grouped(answers, ("level", "domain", "line", "nothing"))
    assert list(groups) == ["level", "domain"]
    assert list(groups["level"]) == [str(level) for level in range(11)]
    assert list(groups["domain"]) == ["a", "b"]
    for values in groups.values():
        assert sum(shares.questions for shares in values.values()) == 60
        right = sum(round(shares.matched.value * shares.questions) for shares in values.values())
        assert right == round(shares_of(answers).matched.value * 60)


def test_answered_calibrates_the_probability_of_the_whole_text() -> None:
    """Two tokens of 0.5 each are a text of 0.25, right in one of four."""
    found = answered([given(row, right=row == 0) for row in range(4)], NO_ROWS, 0)
    assert found.calibration.error.value == pytest.approx(0.0)
    assert (found.loss, found.cut, found.unscored) == (None, 0, 0)


def test_answered_loss_is_over_rows_that_were_read() -> None:
    """A row that is too long has no loss, a row without targets no say."""
    losses = RowLosses(np.array([2.0, np.nan, 0.0, 4.0]), np.array([1.0, 0.0, 0.0, 2.0]))
    found = answered([given(row, right=True) for row in range(4)], losses, 0)
    assert found.loss == (2.0, 2.0, 2.0)
    with pytest.raises(CheckpointError, match="loss on answers is not a number"):
        answered([given(0, right=True)], RowLosses(np.array([np.inf]), np.array([1.0])), 0)


def test_compared_counts_what_only_one_answers() -> None:
    """Six questions: four here alone, one there alone, one by both."""
    here = [given(row, right=row != 4) for row in range(6)]
    there = [given(row, right=row in (4, 5)) for row in range(6)]
    nats = RowLosses(np.arange(6.0), np.ones(6))
    more = RowLosses(np.arange(6.0) + 0.5, np.ones(6))
    found = compared("other", here, there, nats, more, 0)
    assert (found.only_here, found.only_there) == (4, 1)
    assert found.p == pytest.approx(0.375)
    assert found.matched_difference.value == pytest.approx(0.5)
    assert found.loss_difference == (-0.5, -0.5, -0.5)
    assert compared("other", here, there, nats, None, 0).loss_difference is None


def test_worst_are_the_wrong_ones_it_was_surest_of() -> None:
    """Right ones are none, whatever the confidence."""
    answers = [given(row, right=row == 3, sure=0.1 + row / 10) for row in range(6)]
    assert [one.question.row for one in worst(answers, 3)] == [5, 4, 2]


def found_with(difference: Estimate) -> Found:
    """An evaluation of four answers, one of them strange, with other data beside it."""
    answers = [given(row, right=False, level=1) for row in range(4)]
    answers[0] = replace(
        answers[0], scored=False, answer=replace(answers[0].answer, text="\x1b[31m" + "y" * 500, end="length")
    )
    other = RowLosses(np.ones(4), np.ones(4))
    return Found(
        checkpoint="c",
        step=5,
        weights="raw",
        data="sums",
        split="val",
        asked=Asked([one.question for one in answers], 9, 2),
        answered=answered(answers, other, 0),
        against=compared("base", answers, [given(row, right=True) for row in range(4)], other, other, 0),
        forgetting=Forgetting("text", "val", 100, Estimate(2.0, 1.9, 2.1), Estimate(2.5, 2.4, 2.6), difference),
        mistakes=worst(answers, 1),
    )


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [
        (Estimate(0.5, 0.4, 0.6), "forgotten"),
        (Estimate(-0.5, -0.6, -0.4), "better than before"),
        (Estimate(0.1, -0.1, 0.2), "no difference"),
    ],
)
def test_lines_of_says_everything_that_was_found(difference: Estimate, verdict: str) -> None:
    """Also what a terminal must not be told as it is."""
    shown = "\n".join(lines_of(found_with(difference)))
    assert "4 questions of 9, drawn by the seed" in shown
    assert "1 answer without one that could be scored, 1 cut off at the longest length, 2 chats without" in shown
    assert "0 answered here alone, 4 there alone: p = 0.125 if both were equally good (McNemar, exact)" in shown
    assert "loss on answers there 1.0000; here +0.0000 nats (+0.0000 to +0.0000)" in shown
    assert "normalised match there 100.0% (51.0% to 100.0%); here -100.0 points (-100.0 to -100.0)" in shown
    assert f"loss before 2.0000, after 2.5000: {difference.value:+.4f} nats" in shown
    assert f"  {verdict}, as far as these rows can tell" in shown
    assert "\x1b" not in shown
    assert "yyy..." in shown
    assert "y" * 241 not in shown


def test_found_as_json_is_json() -> None:
    """Estimates have their three numbers by name."""
    record = found_with(Estimate(0.5, 0.4, 0.6)).as_json()
    assert record["also"]["difference"] == {"value": 0.5, "low": 0.4, "high": 0.6}
    assert record["against"]["answered"]["shares"]["questions"] == 4
    assert record["mistakes"][0]["wanted"] == "3"
