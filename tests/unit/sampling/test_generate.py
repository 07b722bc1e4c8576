"""Generation: how often the model is run, where rows end, what a diverged model says."""

import math
from collections.abc import Sequence

import pytest
import torch

from ml_playground.configuration.sample_settings import SampleSettings
from ml_playground.core.error_handling import CheckpointError
from ml_playground.sampling.generate import Likelihoods, Token, generate, generate_uncached
from tests.fakes.forbids_last import ForbidsAll, ForbidsLast
from tests.fakes.history_model import HistoryModel

GREEDY = SampleSettings(temperature=0.0, max_new_tokens=6)


def test_generate_greedy_takes_the_argmax_each_time() -> None:
    """Temperature 0 is the likeliest token of the plain forward pass."""
    model = HistoryModel(9, 32).eval()
    ids = [3, 1]
    for _ in range(6):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    assert [tokens[0].id for tokens in generate(model, [[3, 1]], GREEDY, seeds=[0])] == ids[2:]


def test_generate_within_the_context_runs_the_model_once_a_token() -> None:
    """One pass over the prompt gives the first token; each further one costs one step."""
    model = HistoryModel(9, 32).eval()
    list(generate(model, [[1, 2, 3]], GREEDY, seeds=[0]))
    assert model.forwards == 6


def test_generate_stop_id_at_third_token_runs_the_model_three_times() -> None:
    """Nothing is computed for a text that is over."""
    model = HistoryModel(40, 32, seed=0).eval()
    free = [tokens[0].id for tokens in generate(model, [[1]], GREEDY, seeds=[0])]
    model.forwards = 0
    assert free[2] not in free[:2]
    steps = list(generate(model, [[1]], GREEDY, seeds=[0], stop_ids={free[2]}))
    assert model.forwards == 3
    assert steps == [[Token(0, free[0])], [Token(0, free[1])], []]


def test_generate_rows_that_end_at_different_times_leave_the_others_alone() -> None:
    """A row that its reader calls complete is silent from then on; the others go on as they would alone."""
    model = HistoryModel(40, 32).eval()
    alone = [tokens[0].id for tokens in generate(model, [[7]], GREEDY, seeds=[0])]
    steps = list(generate(model, [[1, 2], [7]], GREEDY, seeds=[0, 0], ended=lambda token: token.row == 0))
    assert [token.row for token in steps[0]] == [0, 1]
    assert [[token.row for token in tokens] for tokens in steps[1:]] == [[1]] * 5
    assert [tokens[-1].id for tokens in steps] == alone


def test_generate_no_prompts_gives_nothing() -> None:
    """An empty batch is no error."""
    assert list(generate(HistoryModel(9, 32), [], SampleSettings(), seeds=[])) == []


def test_generate_draws_leave_the_global_random_state_alone() -> None:
    """Sampling while training must not change what training draws next."""
    before = torch.get_rng_state()
    list(generate(HistoryModel(9, 32).eval(), [[1], [2, 3]], SampleSettings(max_new_tokens=4), seeds=[0, 1]))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("how", [generate, generate_uncached])
def test_generate_diverged_model_says_so(how: object) -> None:
    """NaN in the weights is an error that names the way out, not a text of garbage."""
    model = HistoryModel(9, 32).eval()
    model.out.data[0, 0] = math.nan
    with pytest.raises(
        CheckpointError,
        match=r"logits after 2 tokens are not numbers .* weights have diverged. Sample an earlier checkpoint",
    ):
        list(how(model, [[1, 2]], GREEDY, seeds=[0]))


def test_generate_row_that_diverges_after_its_end_disturbs_nobody() -> None:
    """Only rows that are still read can raise."""
    model = HistoryModel(9, 32).eval()
    steps = generate(
        model, [[1], [2]], SampleSettings(temperature=0.0, max_new_tokens=3), seeds=[0, 1], ended=lambda t: t.row == 0
    )
    first = next(steps)
    # Row 0 goes on inside the batch with its last token; now that token's embedding turns into NaN.
    assert first[0].id != first[1].id
    model.embedding.data[first[0].id] = math.nan
    assert [token.row for token in next(steps)] == [1]


def test_generate_uncached_ended_by_reader_stops() -> None:
    """The reference obeys its reader as `generate` does."""
    model = HistoryModel(9, 32).eval()
    steps = list(generate_uncached(model, [[1], [2]], GREEDY, seeds=[0, 1], ended=lambda token: token.row == 0))
    assert [[token.row for token in tokens] for tokens in steps] == [[0]] + [[1]] * 6


def test_generate_processors_come_before_filters_and_temperature() -> None:
    """With only the likeliest token kept, what a processor prefers is still drawn: filters see what it leaves."""
    model = HistoryModel(9, 32).eval()
    way = SampleSettings(temperature=0.01, top_k=1, max_new_tokens=9)
    steps = generate(model, [[1]], way, seeds=[0], processors=[ForbidsLast(reward=1e4)])
    assert [tokens[0].id for tokens in steps] == list(range(9))


def test_generate_processors_see_what_each_row_has_drawn_without_its_prompt() -> None:
    """Rows of unequal prompts, before the first token and after: what is remembered is nobody else's."""
    seen: list[list[list[int]]] = []

    class Watches(ForbidsLast):
        def __call__(self, logits: torch.Tensor, drawn: Sequence[Sequence[int]]) -> torch.Tensor:
            seen.append([list(ids) for ids in drawn])
            return super().__call__(logits, drawn)

    steps = list(generate(HistoryModel(9, 32).eval(), [[3], [5, 6, 7]], GREEDY, seeds=[0, 1], processors=[Watches()]))
    assert seen == [[[tokens[row].id for tokens in steps[:drawn]] for row in (0, 1)] for drawn in range(6)]


def test_generate_processor_that_forbids_everything_has_no_say() -> None:
    """It is the processor that is wrong, so nothing claims that the model has diverged."""
    model = HistoryModel(9, 32).eval()
    plain = list(generate(model, [[1], [2]], GREEDY, seeds=[0, 1]))
    assert list(generate(model, [[1], [2]], GREEDY, seeds=[0, 1], processors=[ForbidsAll()])) == plain


def test_generate_likelihoods_are_the_models_own_with_the_stop() -> None:
    """Equal to one pass over the whole text, whatever processors and temperature made of it; the token that ends counts."""
    model = HistoryModel(40, 32, seed=0).eval()
    way = SampleSettings(temperature=0.0, max_new_tokens=6)
    free = [tokens[0].id for tokens in generate(model, [[1]], way, seeds=[0], processors=[ForbidsLast()])]
    found = Likelihoods(2)
    list(
        generate(
            model, [[1], [1]], way, seeds=[0, 0], stop_ids={free[2]}, processors=[ForbidsLast()], likelihoods=found
        )
    )
    expected = model(torch.tensor([[1, *free]])).log_softmax(-1)[0, range(3), free[:3]].detach().sum()
    assert found.tokens == [3, 3]
    assert found.totals == pytest.approx([float(expected)] * 2, abs=1e-5)
