"""Settings of the models: what contradicts itself is refused with a way out."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ml_playground.models.settings import Gpt

REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"n_embd": 100, "n_head": 6},
        r"n_embd = 100 is not a multiple of n_head = 6; use n_embd = 102, another n_head, or",
    ),
    (
        {"n_head": 6, "n_kv_head": 4},
        r"n_head = 6 is not a multiple of n_kv_head = 4; each key head serves an equal group",
    ),
    ({"n_embd": 18, "n_head": 6, "position": "rotary"}, r"n_embd / n_head = 3 wide, but rotary positions turn pairs"),
    ({"head_dim": 5, "position": "rotary"}, r"head_dim = 5 wide, but rotary positions turn pairs; make it even"),
    (
        {"rope_theta": 500.0},
        r"rope_theta = 500 has no effect with position = 'learned'; remove it or use position = 'rot",
    ),
    (
        {"zero_init": True, "weights": Path("/w")},
        r"zero_init = true has no effect with weights = '/w', which replace all",
    ),
    (
        {"full_attention_every": 2},
        r"full_attention_every = 2 has no effect without attention_window, for every block attends to everything",
    ),
    (
        {"attention_window": 8, "full_attention_every": 1},
        r"full_attention_every = 1 leaves all n_layer = 6 blocks of one kind; use at least 2 and at most n_layer, or",
    ),
    ({"attention_window": 8, "full_attention_every": 7}, r"full_attention_every = 7 leaves all n_layer = 6 blocks"),
    ({"n_expert": 2, "n_expert_used": 3}, r"n_expert_used = 3 of n_expert = 2 experts cannot be chosen; use"),
    (
        {"n_expert_used": 1, "expert_balance": 0.1, "expert_z_loss": 0.0},
        r"n_expert_used, expert_balance, expert_z_loss: no effect with n_expert = 0; remove it or state n_expert",
    ),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_settings_that_contradict_each_other_are_refused(options: dict[str, Any], message: str) -> None:
    """Each message says what was given and what would do."""
    with pytest.raises(ValidationError, match=message):
        Gpt(**options)


def test_resolved_sizes_follow_from_what_is_stated() -> None:
    """What is left out has the usual size; what is stated counts."""
    plain = Gpt()
    assert (plain.key_heads, plain.head_width, plain.inner_width) == (6, 64, 1536)
    stated = Gpt(n_kv_head=2, head_dim=32, n_inner=100, n_embd=100)
    assert (stated.key_heads, stated.head_width, stated.inner_width) == (2, 32, 100)


@pytest.mark.parametrize(("width", "inner"), [(384, 1024), (64, 192), (768, 2048)])
def test_swiglu_inner_width_is_eight_thirds_in_multiples_of_64(width: int, inner: int) -> None:
    """Three matrices of that width cost as much as two of four times C."""
    assert Gpt(feed_forward="swiglu", n_embd=width, n_head=4).inner_width == inner


def test_dropouts_are_that_of_all_places_unless_stated() -> None:
    """Zero is a statement too."""
    assert (Gpt(dropout=0.3).attention_drop, Gpt(dropout=0.3).residual_drop) == (0.3, 0.3)
    stated = Gpt(dropout=0.3, attention_dropout=0.0, residual_dropout=0.1)
    assert (stated.attention_drop, stated.residual_drop) == (0.0, 0.1)


def test_window_of_every_third_block_is_none() -> None:
    """The last of each group attends to everything, as in Gemma."""
    settings = Gpt(n_layer=7, attention_window=9, full_attention_every=3)
    assert [settings.window_of(block) for block in range(7)] == [9, 9, None, 9, 9, None, 9]
    assert Gpt(attention_window=9).window_of(5) == 9
    assert Gpt().window_of(0) is None
