"""The laws of generation on the real transformer: learned and rotary positions, shared key heads, full context."""

from typing import Any

import pytest
import torch

from ml_playground.configuration.sample_settings import SampleSettings
from ml_playground.core.values import ModelContext
from ml_playground.models.core.gpt import build
from ml_playground.models.settings import Gpt
from ml_playground.sampling.generate import generate, generate_uncached

VARIANTS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_head": 2, "tied_head": False},
    "llama": {
        "n_head": 4,
        "n_kv_head": 2,
        "position": "rotary",
        "norm": "rms_norm",
        "feed_forward": "swiglu",
        "qk_norm": True,
        "bias": False,
        "tied_head": False,
    },
}
PROMPTS = [[1, 2, 3, 4, 5, 6, 7, 8, 9], [4], [11, 3, 11], list(range(17))]


def model_of(variant: str) -> torch.nn.Module:
    """Two blocks of width 16 with a context of 12, in float64; its matrices are large, so that its texts vary."""
    torch.manual_seed(1)
    settings = Gpt(n_layer=2, n_embd=16, **VARIANTS[variant])
    model = build(settings, ModelContext({"vocab_size": 19, "sequence_tokens": 12}))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data = torch.randn_like(parameter)
    return model.double().eval()


def rows_of(how: Any, model: Any, prompts: list[list[int]], seeds: list[int], **settings: Any) -> list[list[int]]:
    """All tokens of each row."""
    rows: list[list[int]] = [[] for _ in prompts]
    way = model.decoder("float32") if how is generate else model
    for tokens in how(way, prompts, SampleSettings(max_new_tokens=30, **settings), seeds=seeds):
        for token in tokens:
            rows[token.row].append(token.id)
    return rows


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_generate_gpt_cached_equals_uncached_across_the_overflow(variant: str, temperature: float) -> None:
    """Prompts shorter and longer than the context, thirty tokens each: the context overflows several times."""
    model = model_of(variant)
    cached = rows_of(generate, model, PROMPTS, [0, 1, 2, 3], temperature=temperature)
    assert cached == rows_of(generate_uncached, model, PROMPTS, [0, 1, 2, 3], temperature=temperature)
    assert all(len(row) == 30 for row in cached)
    assert len({token for row in cached for token in row}) > 3


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_generate_gpt_batch_of_unequal_prompts_equals_each_alone(variant: str, temperature: float) -> None:
    """Padding is neither seen nor counted as a position."""
    model = model_of(variant)
    together = rows_of(generate, model, PROMPTS, [0, 1, 2, 3], temperature=temperature, repetition_penalty=1.2)
    alone = [
        rows_of(generate, model, [prompt], [row], temperature=temperature, repetition_penalty=1.2)[0]
        for row, prompt in enumerate(PROMPTS)
    ]
    assert together == alone


def test_generate_gpt_float32_draws_the_same_text_alone_and_in_a_batch() -> None:
    """A seed means one text in the precision that is the default, though packed products of one row and of eight differ."""
    model = model_of("llama").float()
    prompts, seeds = [[row, 3, row + 1] for row in range(8)], list(range(8))
    together = rows_of(generate, model, prompts, seeds, temperature=0.8)
    assert together == [
        rows_of(generate, model, [prompt], [seed], temperature=0.8)[0]
        for prompt, seed in zip(prompts, seeds, strict=True)
    ]
