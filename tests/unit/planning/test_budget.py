"""The search: on machines whose every cost is known."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_playground.core.error_handling import ConfigError
from ml_playground.planning.budget import (
    ANCHOR,
    CONTEXTS,
    DROPOUT_TIME,
    LEAST_STEPS,
    MOST_TRIALS,
    Candidate,
    Choice,
    DataFacts,
    Search,
    Timing,
    candidates,
    search,
)
from ml_playground.planning.scaling import TextDifficulty, fitted_law

FACTS = DataFacts(vocab_size=96, train_tokens=10_000_000, validation_tokens=1_000_000, bytes_per_token=1.0)
TEXT = TextDifficulty(1.45, ANCHOR.training(FACTS, 131), 1.75)


def wanted(seconds: float, fits: Callable[[Candidate], bool] = lambda _: True, **fixed: float) -> Search:
    """A search on a known text."""
    return Search(
        fitted_law(), FACTS, TEXT, seconds, fits, {key.replace("__", "."): value for key, value in fixed.items()}
    )


class Machine:
    """Each step takes its work at a rate, and something for each block."""

    def __init__(self, flops_per_s: float, starting_s: float = 0.0) -> None:
        self._rate, self._starting_s = flops_per_s, starting_s
        self.asked: list[Candidate] = []

    def timing(self, candidate: Candidate) -> Timing:
        """What a candidate costs."""
        return Timing(candidate.work(FACTS.vocab_size) / self._rate + self._starting_s * candidate.layers, 1e-6)

    def __call__(self, candidate: Candidate) -> Timing:
        self.asked.append(candidate)
        return self.timing(candidate)


def chosen(machine: Machine, search_: Search) -> Choice:
    """What the search finds."""
    return search(search_, machine, machine.timing(search_.anchor))


@given(rate=st.floats(2e10, 1e14), starting_s=st.floats(0, 0.003), seconds=st.floats(60, 3600))
@settings(max_examples=40, deadline=None)
def test_search_finds_nearly_the_best_of_all_by_measuring_few(rate: float, starting_s: float, seconds: float) -> None:
    """Measured are five of hundreds; the choice is within one percent of the best of all."""
    machine = Machine(rate, starting_s)
    search_ = wanted(seconds)
    found = chosen(machine, search_)
    every = [c for c in candidates(FACTS, {}) if search_.steps(machine.timing(c).step_s) >= LEAST_STEPS]
    best = min(search_.outlook(c, machine.timing(c).step_s).expected.loss for c in every)
    assert len(machine.asked) <= MOST_TRIALS
    assert found.expected.loss <= 1.01 * best


def test_search_more_time_takes_a_larger_model_and_expects_less_loss() -> None:
    """An hour is worth more than a minute."""
    minute, hour = (chosen(Machine(3e11, 0.002), wanted(seconds)) for seconds in (60, 3600))
    assert hour.expected.loss < minute.expected.loss
    assert hour.candidate.parameters > minute.candidate.parameters


def test_search_dropout_is_for_texts_that_are_soon_known_by_heart() -> None:
    """And its slower steps are paid for."""
    book, page = (replace(FACTS, train_tokens=tokens, validation_tokens=10_000) for tokens in (10_000_000, 50_000))
    of_book, of_page = (replace(wanted(120), facts=facts).outlook(ANCHOR, 0.02).training for facts in (book, page))
    assert (of_book.dropout, of_page.dropout > 0) == (0.0, True)
    assert of_page.steps * DROPOUT_TIME == pytest.approx(of_book.steps)


@given(st.floats(0, 0.9))
def test_search_dropout_of_the_user_is_the_only_one_and_was_timed(dropout: float) -> None:
    """The step that was measured had it."""
    training = wanted(120, model__dropout=dropout).outlook(ANCHOR, 0.02).training
    assert (training.dropout, training.steps) == (dropout, wanted(120).steps(0.02))


def test_candidates_hold_the_sizes_and_batches_of_our_own_recipes() -> None:
    """What a person found best by hand must not be out of the plan's reach."""
    every = candidates(FACTS, {})
    assert {Candidate(1, 128, 64, 24), Candidate(2, 96, 64, 24), Candidate(2, 256, 256, 8)} <= {*every}


def test_search_nothing_is_planned_over_what_is_fixed() -> None:
    """The user has the last word on each key, and the plan makes the best of the others."""
    fixed = {"model__n_layer": 7, "model__n_embd": 96, "data__sequence_tokens": 48, "data__micro_batch_rows": 5}
    assert chosen(Machine(3e11), wanted(60, **fixed)).candidate == Candidate(7, 96, 48, 5)


def test_search_anchor_is_as_its_user_wants_it() -> None:
    """What was measured is then what the law is told."""
    assert wanted(60, model__n_layer=5, data__micro_batch_rows=7).anchor == Candidate(5, 128, 64, 7)


def test_candidates_width_divides_among_fixed_heads() -> None:
    """No plan that the model's own settings refuse."""
    assert {c.width % 5 for c in candidates(FACTS, {"model.n_head": 5})} == {0}


def test_candidates_windows_fit_the_validation_part() -> None:
    """A window longer than the text cannot be cut from it."""
    short = DataFacts(vocab_size=96, train_tokens=3000, validation_tokens=150, bytes_per_token=1.0)
    assert {c.sequence_tokens for c in candidates(short, {})} == {T for T in CONTEXTS if T < 150}


def test_search_candidate_too_large_for_the_memory_is_passed_over() -> None:
    """The best that fits."""
    found = chosen(Machine(1e13), wanted(3600, fits=lambda c: c.parameters < 1_000_000))
    assert found.candidate.parameters < 1_000_000


def test_search_nothing_fits_is_an_error_that_says_what_to_do() -> None:
    """Rather than a run that dies."""
    with pytest.raises(ConfigError, match="no candidate of --minutes fits the memory .* set a smaller model.n_embd"):
        chosen(Machine(1e12), wanted(60, fits=lambda c: False))


@pytest.mark.parametrize("seconds", [30, 60, 600])
def test_search_no_time_to_measure_takes_the_best_guess(seconds: float) -> None:
    """The anchor was measured for the sake of the law, not because its size is good: a better guess beats it."""
    machine = Machine(1e12)
    found = search(wanted(seconds), lambda candidate: None, machine.timing(ANCHOR))
    assert found.expected.loss == found.tried[found.candidate] == min(found.tried.values()) < found.tried[ANCHOR]
    assert found.timing.step_s == pytest.approx(machine.timing(found.candidate).step_s, rel=0.5)


def test_search_no_time_to_measure_what_is_fixed_estimates() -> None:
    """From the work, and what the anchor took."""
    machine = Machine(1e12)
    search_ = wanted(60, model__n_embd=256)
    found = search(search_, lambda candidate: None, machine.timing(search_.anchor))
    assert found.candidate.width == 256
    assert found.timing.step_s == pytest.approx(machine.timing(found.candidate).step_s, rel=0.5)
