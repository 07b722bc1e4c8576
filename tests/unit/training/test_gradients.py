"""Where gradients are taken and where they go: against what plain autograd does."""

import contextlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ml_playground.core.values import ModelContext
from ml_playground.data_pipeline.batches import TokenBatch
from ml_playground.models.core.gpt import GptModel, build
from ml_playground.models.settings import Gpt
from ml_playground.objectives.next_token import NextTokenObjective
from ml_playground.objectives.settings import NextToken
from ml_playground.training.gradients import Leaves, clipped_norm

VARIANTS: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "relu2": {"feed_forward": "relu2", "position": "rotary", "norm": "rms_norm", "bias": False, "qk_norm": True},
    "swiglu": {"feed_forward": "swiglu", "n_kv_head": 1, "tied_head": False},
}


def gpt(**options: Any) -> GptModel:
    torch.manual_seed(0)
    settings = Gpt(n_layer=2, n_head=2, n_embd=16, **options)
    return build(settings, ModelContext({"vocab_size": 31, "sequence_tokens": 12}))


def batch(seed: int) -> TokenBatch:
    ids = torch.randint(31, (3, 13), generator=torch.Generator().manual_seed(seed))
    return TokenBatch(ids[:, :-1], ids[:, 1:].contiguous())


def backward(model: GptModel, seed: int) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        loss = NextTokenObjective(NextToken()).loss_sum(model, batch(seed))
    loss.backward()


def empty_gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: torch.full_like(p, float("nan")) for name, p in model.named_parameters()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_by_twins_equal_those_of_autocast_bit_for_bit(variant: str) -> None:
    """A weight cast once a step is the number that autocast casts at each use; so is its gradient."""
    plain, twinned = gpt(**VARIANTS[variant]), gpt(**VARIANTS[variant])
    leaves, gradients = Leaves(twinned, torch.bfloat16), empty_gradients(twinned)
    for first, seed in ((True, 1), (False, 2)):
        backward(plain, seed)
        with leaves.in_place():
            assert twinned.blocks[0].attention.qkv.weight.dtype is torch.bfloat16  # type: ignore[union-attr]
            backward(twinned, seed)
        leaves.collect(gradients, first=first)
    wanted = {name: p.grad for name, p in plain.named_parameters()}
    torch.testing.assert_close(gradients, wanted, rtol=0, atol=0)


def test_twins_follow_the_weights_and_leave_them_in_the_model() -> None:
    """Inside, products see the weights of this step; outside, nobody sees a twin, not even after an error."""
    model = gpt()
    own = dict(model.named_parameters())
    leaves = Leaves(model, torch.bfloat16)
    with torch.no_grad():
        own["blocks.0.feed_forward.up.weight"].fill_(3.0)
    with contextlib.suppress(KeyError), leaves.in_place():
        assert torch.all(model.blocks[0].feed_forward.up.weight == 3.0)  # type: ignore[union-attr]
        raise KeyError
    assert all(own[name] is parameter for name, parameter in model.named_parameters())


def test_weights_with_two_places_have_no_twin() -> None:
    """A head tied to its table keeps one gradient, of both uses."""
    model = nn.ModuleDict({"table": nn.Embedding(5, 4), "head": nn.Linear(4, 5, bias=False)})
    model["head"].weight = model["table"].weight
    leaves, gradients = Leaves(model, torch.bfloat16), empty_gradients(model)
    with leaves.in_place():
        assert model["head"].weight is model["table"].weight
        model["head"](model["table"](torch.tensor([1]))).sum().backward()
    leaves.collect(gradients, first=True)
    wanted = 2 * model["table"].weight.detach() * 0 + model["table"].weight.detach()[1]
    wanted[1] += model["table"].weight.detach().sum(0)
    torch.testing.assert_close(gradients["table.weight"], wanted)


def test_parameter_without_part_in_the_loss_has_gradient_zero() -> None:
    """Nothing of the step before is left in the buffer."""
    model = nn.ModuleDict({"used": nn.Linear(2, 1), "unused": nn.Linear(2, 1)})
    leaves, gradients = Leaves(model, torch.float32), empty_gradients(model)
    for first in (True, False):
        model["used"](torch.ones(1, 2)).sum().backward()
        leaves.collect(gradients, first=first)
    assert gradients["unused.weight"].tolist() == [[0.0, 0.0]] and gradients["used.weight"].tolist() == [[2.0, 2.0]]


@pytest.mark.parametrize("longest", [0.0, 0.5, 1e6])
def test_clipped_norm_equals_that_of_torch(longest: float) -> None:
    """Same length told, same gradients left."""
    parts = [torch.randn(shape, generator=torch.Generator().manual_seed(shape)).double() for shape in (7, 200_000)]
    theirs = [nn.Parameter(part.clone()) for part in parts]
    for parameter, part in zip(theirs, parts, strict=True):
        parameter.grad = part.clone()
    norm = nn.utils.clip_grad_norm_(theirs, longest or float("inf"))
    torch.testing.assert_close(clipped_norm(parts, longest), norm)
    torch.testing.assert_close(parts, [parameter.grad for parameter in theirs])


def test_clipped_norm_of_many_numbers_is_exact() -> None:
    """A single sum in float32 over as many ones is too small."""
    assert float(clipped_norm([torch.ones(1 << 26)], 0.0)) == 1 << 13
