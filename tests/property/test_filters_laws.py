"""Laws of the filters, and Hugging Face's own filters as an oracle."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ml_playground.configuration.sample_settings import SampleSettings
from ml_playground.sampling.filters import (
    draw,
    filtered,
    likeliest,
    min_p,
    repetition_penalty,
    temperature,
    top_k,
    top_p,
)

ROWS, VOCABULARY = 3, 12


def logits_of(seed: int) -> Tensor:
    """Logits without ties."""
    return 3 * torch.randn(ROWS, VOCABULARY, generator=torch.Generator().manual_seed(seed))


def kept(logits: Tensor) -> Tensor:
    """Which tokens are left."""
    return logits > -math.inf


seeds = st.integers(0, 10_000)
tied_logits = st.lists(st.sampled_from([-2.0, 0.0, 0.5, 3.0]), min_size=2, max_size=9).map(
    lambda row: torch.tensor([row])
)
settings_of_draws = st.builds(
    SampleSettings,
    temperature=st.sampled_from([0.0, 1e-30, 0.3, 1.0, 1.7, 100.0]),
    top_k=st.integers(0, 15),
    top_p=st.sampled_from([1e-6, 0.2, 0.5, 0.9, 0.999, 1.0]),
    min_p=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    repetition_penalty=st.sampled_from([0.5, 1.0, 1.3, 5.0]),
)


@given(seeds, st.integers(1, 20))
def test_top_k_any_k_equals_hugging_face(seed: int, k: int) -> None:
    """The oracle keeps the same k tokens, and clamps k to the vocabulary too."""
    logits = logits_of(seed)
    assert torch.equal(top_k(logits, k), TopKLogitsWarper(k)(torch.zeros(ROWS, 1, dtype=torch.long), logits.clone()))


@given(seeds, st.floats(0.01, 0.99))
def test_top_p_any_p_equals_hugging_face(seed: int, p: float) -> None:
    """The oracle keeps the same nucleus."""
    logits = logits_of(seed)
    assert torch.equal(top_p(logits, p), TopPLogitsWarper(p)(torch.zeros(ROWS, 1, dtype=torch.long), logits.clone()))


@given(seeds, st.floats(0.001, 1.0))
def test_min_p_any_share_equals_hugging_face(seed: int, p: float) -> None:
    """The oracle compares probabilities where we compare logits."""
    logits = logits_of(seed)
    assert torch.equal(min_p(logits, p), MinPLogitsWarper(p)(torch.zeros(ROWS, 1, dtype=torch.long), logits.clone()))


@given(seeds, st.floats(0.5, 3.0))
def test_repetition_penalty_ids_with_repeats_equals_hugging_face(seed: int, penalty: float) -> None:
    """A token that occurred often is penalised once, as in the oracle."""
    logits = logits_of(seed)
    ids = torch.randint(0, VOCABULARY, (ROWS, 7), generator=torch.Generator().manual_seed(seed + 1))
    seen = torch.zeros(ROWS, VOCABULARY, dtype=torch.bool).scatter_(1, ids, value=True)
    expected = RepetitionPenaltyLogitsProcessor(penalty)(ids, logits.clone())
    torch.testing.assert_close(repetition_penalty(logits, seen, penalty), expected, rtol=1e-6, atol=1e-6)


@given(seeds, st.floats(0.05, 5.0), st.integers(1, 12), st.floats(0.05, 0.99), st.floats(0.001, 0.5))
def test_filtered_all_together_gives_hugging_faces_probabilities(
    seed: int, heat: float, k: int, p: float, share: float
) -> None:
    """The order of the filters is the oracle's: penalty, temperature, top-k, top-p, min-p."""
    logits = logits_of(seed)
    ids = torch.randint(0, VOCABULARY, (ROWS, 4), generator=torch.Generator().manual_seed(seed + 1))
    seen = torch.zeros(ROWS, VOCABULARY, dtype=torch.bool).scatter_(1, ids, value=True)
    settings = SampleSettings(temperature=heat, top_k=k, top_p=p, min_p=share, repetition_penalty=1.3)
    expected = logits.clone()
    for warper in (
        RepetitionPenaltyLogitsProcessor(1.3),
        TemperatureLogitsWarper(heat),
        TopKLogitsWarper(k),
        TopPLogitsWarper(p),
        MinPLogitsWarper(share),
    ):
        expected = warper(ids, expected)
    torch.testing.assert_close(filtered(logits, settings, seen).softmax(-1), expected.softmax(-1), rtol=1e-4, atol=1e-6)


@given(tied_logits, st.integers(1, 12))
def test_top_k_with_ties_keeps_exactly_k_of_the_lowest_ids(logits: Tensor, k: int) -> None:
    """Equal logits are decided by their ids, so that k means k."""
    order = sorted(range(logits.shape[1]), key=lambda token: (-logits[0, token].item(), token))
    assert kept(top_k(logits, k))[0].nonzero().flatten().tolist() == sorted(order[:k])


@given(tied_logits)
def test_top_k_of_one_equals_argmax(logits: Tensor) -> None:
    """Top-k 1 leaves one token, the one that greedy decoding takes."""
    left = top_k(logits, 1)
    assert kept(left).sum() == 1
    assert torch.equal(left.argmax(-1), likeliest(logits))
    assert torch.equal(draw(left, torch.tensor([0.999])), likeliest(logits))


@given(tied_logits, st.floats(0.01, 0.999))
def test_top_p_any_p_keeps_the_smallest_set_that_reaches_it(logits: Tensor, p: float) -> None:
    """The kept tokens reach p; without the least of them they do not."""
    probabilities = logits.double().softmax(-1)[0]
    chosen = probabilities[kept(top_p(logits, p))[0]]
    assert chosen.sum() >= p - 1e-6
    assert chosen.sum() - chosen.min() <= p + 1e-6


@given(seeds, settings_of_draws)
def test_filtered_any_settings_only_removes_and_never_the_likeliest(seed: int, settings: SampleSettings) -> None:
    """What is left are the old logits up to temperature and penalty; each row keeps its likeliest token."""
    logits = logits_of(seed)
    seen = torch.zeros(ROWS, VOCABULARY, dtype=torch.bool)
    left = filtered(logits, settings, seen)
    assert left.dtype == torch.float32
    heat = settings.temperature or 1.0
    scaled = logits if heat == 1.0 else temperature(logits, heat)
    assert torch.equal(left[kept(left)], scaled[kept(left)])
    assert kept(left).gather(1, logits.argmax(-1, keepdim=True)).all()
    assert torch.equal(likeliest(left), logits.argmax(-1))


@given(seeds, settings_of_draws, st.floats(0, 1, exclude_max=True, width=32))
def test_draw_any_uniform_gives_a_kept_token(seed: int, settings: SampleSettings, uniform: float) -> None:
    """Whatever the random number, a removed token is never drawn."""
    left = filtered(logits_of(seed), settings)
    ids = draw(left, torch.full((ROWS,), uniform))
    assert kept(left).gather(1, ids[:, None]).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_filtered_other_precision_computes_in_float32(dtype: torch.dtype) -> None:
    """Low precision logits are widened before anything is summed."""
    assert filtered(logits_of(1).to(dtype), SampleSettings()).dtype == torch.float32


def test_draw_many_uniforms_follows_the_probabilities() -> None:
    """An even grid of random numbers gives each token its share, to the width of the grid."""
    logits = logits_of(3)[:1].expand(10_000, -1)
    ids = draw(logits, (torch.arange(10_000) + 0.5) / 10_000)
    shares = torch.bincount(ids, minlength=VOCABULARY) / 10_000
    torch.testing.assert_close(shares, logits[0].softmax(-1), rtol=0, atol=2e-4)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_draw_and_likeliest_logits_that_are_no_numbers_give_minus_one(bad: float) -> None:
    """A diverged row is marked, the others are drawn as ever."""
    logits = logits_of(5)
    logits[1, 4] = bad
    for ids in (draw(logits, torch.full((ROWS,), 0.5)), likeliest(logits)):
        assert (ids == -1).tolist() == [False, True, False]


@pytest.mark.parametrize("tiny", [1e-38, 1e-300])
def test_temperature_tiny_leaves_the_likeliest(tiny: float) -> None:
    """A temperature so small that plain division overflows, or that is 0 in float32, is greedy, not NaN."""
    logits = logits_of(7)
    assert torch.equal(draw(temperature(logits, tiny), torch.full((ROWS,), 0.7)), logits.argmax(-1))


@pytest.mark.parametrize("uniform", [0.0, 0.5, float(torch.nextafter(torch.tensor(1.0), torch.tensor(0.0)))])
def test_draw_of_a_large_vocabulary_never_gives_a_removed_token(uniform: float) -> None:
    """However the sum of 50,000 probabilities is rounded: half of the tokens are removed, the last ones among them."""
    logits = torch.randn(1, 50_000, generator=torch.Generator().manual_seed(1))
    logits[:, ::2] = -torch.inf
    logits[:, 40_000:] = -torch.inf
    assert logits[0, draw(logits, torch.tensor([uniform]))].isfinite()


def test_draw_of_a_large_vocabulary_is_as_precise_as_its_uniform_number() -> None:
    """Of 50,000 equal tokens each has its share, up to the rounding of the number itself."""
    ids = torch.arange(0, 50_000, 97)
    logits = torch.zeros(1, 50_000).expand(len(ids), -1)
    drawn = draw(logits, ((ids.double() + 0.5) / 50_000).float())
    assert (drawn - ids).abs().max() <= 1
