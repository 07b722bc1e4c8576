"""What counts as the same model: each way in which two sides can disagree is seen, and rounding is none."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from ml_playground.export.parity import NEW_TOKENS, Parity, Probe, compare, divergence

VOCAB = 12
STOP = 11


@dataclass
class Side:
    """A model that is a table: the next id is two more than the last one, or what `after` says; `shift` moves its logits."""

    shift: float = 0.0
    stop_ids: frozenset[int] = frozenset({STOP})
    ids: Sequence[int] | None = None
    after: dict[int, int] = field(default_factory=dict)
    gives_out_stop: bool = False
    max_context: int | None = None

    def ids_of(self, probe: Probe) -> Sequence[int] | None:
        """What was given, else those of the probe."""
        return probe.encoded if self.ids is None else self.ids

    def _next(self, last: int) -> int:
        return self.after.get(last, (last + 2) % VOCAB)

    def logits(self, ids: Sequence[int]) -> Tensor:
        """10 for the next id, nothing for the others."""
        rows = torch.nn.functional.one_hot(torch.tensor([self._next(one) for one in ids]), VOCAB) * 10.0
        rows[-1, 0] += self.shift
        return rows

    def greedy(self, prompt: Sequence[int], new_tokens: int) -> list[int]:
        """By the table, to the stop."""
        found: list[int] = []
        last = prompt[-1]
        while len(found) < new_tokens:
            last = self._next(last)
            if last in self.stop_ids:
                return [*found, last] if self.gives_out_stop else found
            found.append(last)
        return found


@pytest.fixture
def probe() -> Probe:
    """Even ids never come to the stop, odd ones do."""
    return Probe("row 0", [1, 3, 5], 2, text="any")


def parity_of(here: Side, there: Side, *probes: Probe) -> Parity:
    """What a comparison finds."""
    return compare(here, there, probes, lambda _: None)


def test_compare_same_model_agrees(probe: Probe) -> None:
    """The library gives a stop out, we do not; both ended after 5, 7, 9."""
    found = parity_of(Side(), Side(gives_out_stop=True), probe, Probe("row 1", [0, 2], 2))
    assert found.problems() == []
    assert (found.rows, found.tokens, found.positions) == (2, 5, 5)
    assert (found.ended, found.drawn, found.ties) == (1, 3 + NEW_TOKENS, 0)
    assert found.as_json()["agree"] is True


@pytest.mark.parametrize(
    ("there", "problem"),
    [
        (Side(ids=[1, 4, 5], gives_out_stop=True), "token ids differ in 1 of 1 rows (row 0: id 1 is 3 here and 4 there)"),
        (Side(ids=[1, 3], gives_out_stop=True), "token ids differ in 1 of 1 rows (row 0: 3 ids here, 2 there)"),
        (Side(shift=0.01, gives_out_stop=True), "logits differ by 0.01, rounding explains 0.001"),
        (Side(shift=float("nan"), gives_out_stop=True), "logits differ by nan, rounding explains 0.001"),
        (Side(after={7: 4}, gives_out_stop=True), "1 of 1 greedy texts differ (row 0: id 2 is 9 here and 4 there)"),
        (Side(stop_ids=frozenset({9}), gives_out_stop=True), "a text ends here at the ids [11], there at [9]"),
    ],
)  # fmt: skip
def test_compare_any_disagreement_is_a_problem(probe: Probe, there: Side, problem: str) -> None:
    """Ids, logits, texts and their ends; a number that is none agrees with nothing."""
    found = parity_of(Side(), there, probe)
    assert problem in found.problems()
    assert found.as_json()["agree"] is False


def test_compare_text_that_does_not_end_there_is_a_problem(probe: Probe) -> None:
    """One side stops, the other goes on."""
    found = parity_of(Side(), Side(after={9: 11, 11: 1}, stop_ids=frozenset()), probe)
    assert "1 of 1 greedy texts differ (row 0: 3 ids here, 32 there)" in found.problems()


def test_compare_equally_likely_tokens_are_a_tie(probe: Probe) -> None:
    """Where two ids have the same logit rounding alone decides, and both texts are right."""

    class Undecided(Side):
        def logits(self, ids: Sequence[int]) -> Tensor:
            rows = super().logits(ids)
            rows[:, 4] = 10.0
            return rows

    found = parity_of(Undecided(), Undecided(after={7: 4}), Probe("row 0", [1, 3, 5], 2))
    assert (found.ties, found.unequal_texts) == (1, [])


def test_compare_row_that_fills_the_context_draws_nothing_beyond_it() -> None:
    """The library fails beyond its last position."""
    found = parity_of(Side(max_context=4), Side(gives_out_stop=True), Probe("row 0", [0, 2, 4, 6, 8], 5, text="any"))
    assert (found.positions, found.drawn) == (4, 3)
    assert parity_of(Side(max_context=1), Side(gives_out_stop=True), Probe("row 0", [0], 1)).drawn == 0


def test_compare_chat_is_compared_up_to_its_answer() -> None:
    """Its users have the prompt encoded, and draw the answer."""
    chat = Probe("a:1", [0, 2, 4], 2, messages=[{"role": "user", "content": "?"}])
    assert parity_of(Side(), Side(ids=[0, 2], gives_out_stop=True), chat).problems() == []


def test_divergence_is_zero_only_between_equal_predictions() -> None:
    """A constant added to all logits changes no prediction; NaN is never close to anything."""
    logits = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    assert divergence(logits, logits + 7.0) == pytest.approx(0.0, abs=1e-12)
    assert divergence(logits, logits.flip(-1)) > 0.1
    assert not divergence(logits, torch.full_like(logits, torch.nan)) <= 1.0
