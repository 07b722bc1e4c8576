"""Fine-tuning under bfloat16: the weights that are trained stay float32, and so does what they learn."""

from pathlib import Path

import pytest
import torch

from ml_playground.core.values import ModelContext
from ml_playground.models.core.hf_causal_lm import HfCausalLmModel, build
from ml_playground.objectives.next_token import NextTokenObjective
from ml_playground.objectives.settings import NextToken
from ml_playground.training.learner import GradientLearner
from ml_playground.training.optim.adamw import build as build_adamw
from ml_playground.training.settings import AdamW
from tests.fakes.chat_rows import packed, padded, some_chats
from tests.fakes.hugging_face_folders import CONTEXT, VOCAB, saved, settings_of

SMALL_STEP = 1e-6
"""Moves a weight of 0.2 by less than a hundredth of what bfloat16 can tell apart."""


def trained(folder: Path, dtype: torch.dtype, *, lr: float, steps: int, recompute: bool = False) -> HfCausalLmModel:
    """A model after some steps on padded and packed chats by turns."""
    facts = {"vocab_size": VOCAB, "sequence_tokens": CONTEXT}
    model = build(settings_of(folder), ModelContext(facts, activation_checkpointing=recompute))
    optimizer = build_adamw(AdamW(lr=lr, weight_decay=0.0), model, dtype)
    learner = GradientLearner(model, NextTokenObjective(NextToken()), optimizer, seed=1, grad_clip=1.0, dtype=dtype)
    chats = some_chats(VOCAB)
    batches = [padded(chats), packed([chats])]
    for step in range(steps):
        learner.train_step([batches[step % 2]], step=step, lr_factor=1.0)
    return model


@pytest.mark.parametrize("kind", ["gpt2", "qwen3", "gemma"])
def test_steps_too_small_for_bfloat16_are_not_lost(kind: str, tmp_path: Path) -> None:
    """Masters are float32: ten steps move every matrix, as they do without bfloat16; added to a bfloat16 weight they would be nothing."""
    before = {name: one.detach() for name, one in saved(kind, tmp_path).named_parameters()}
    exact = dict(trained(tmp_path, torch.float32, lr=SMALL_STEP, steps=10).network.named_parameters())
    rough = dict(trained(tmp_path, torch.bfloat16, lr=SMALL_STEP, steps=10).network.named_parameters())
    assert {one.dtype for one in rough.values()} == {torch.float32}
    for name, weight in before.items():
        if weight.ndim > 1:
            wanted, found = exact[name].detach() - weight, rough[name].detach() - weight
            assert 0 < found.abs().max() < 20 * SMALL_STEP
            large, rounded = weight.abs() > 0.1, weight.bfloat16()
            assert torch.equal((rounded + found.bfloat16())[large], rounded[large])
            assert torch.nn.functional.cosine_similarity(found.flatten(), wanted.flatten(), dim=0) > 0.8


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_recomputed_layers_train_to_the_same_weights(dtype: torch.dtype, tmp_path: Path) -> None:
    """Padded and packed: what is computed again is what was computed."""
    saved("qwen3", tmp_path)
    kept = trained(tmp_path, dtype, lr=1e-3, steps=4)
    again = trained(tmp_path, dtype, lr=1e-3, steps=4, recompute=True)
    for (name, one), other in zip(kept.network.named_parameters(), again.network.parameters(), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5, msg=name)
