"""Layers with a way back of their own, against what autograd finds."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ml_playground.models.layers.attention import QUERIES_AT_ONCE, causal_mask, math_attention
from ml_playground.models.layers.dropout import dropped
from ml_playground.models.layers.feed_forward import gelu_tanh, squared_relu
from ml_playground.models.layers.norm import LayerNorm, RmsNorm
from ml_playground.models.layers.rotary import Rotary, Rotation, rotated


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Random float64 numbers that want a gradient."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def gradients_of(function: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, ...]:
    """Output and gradients, the output weighted unevenly."""
    output = function(*inputs)
    weights = torch.linspace(-1, 2, output.numel(), dtype=output.dtype).view_as(output)
    return (output, *torch.autograd.grad((output * weights).sum(), inputs))


def test_rms_norm_equals_torch_forward_and_backward() -> None:
    """Our passes over memory compute what torch's definition says."""
    norm = RmsNorm(6, eps=0.1).double()
    x, gain = drawn(2, 3, 6), drawn(6, seed=1)
    ours = gradients_of(lambda x, gain: torch.func.functional_call(norm, {"weight": gain}, (x,)), x, gain)
    reference = gradients_of(lambda x, gain: torch.nn.functional.rms_norm(x, (6,), gain, 0.1), x, gain)
    torch.testing.assert_close(ours, reference)


@pytest.mark.parametrize("make", [lambda: RmsNorm(8, eps=1e-5), lambda: LayerNorm(8, eps=1e-5, bias=True)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_under_autocast_feed_products_in_bfloat16(
    make: Callable[[], torch.nn.Module], dtype: torch.dtype
) -> None:
    """They leave in the type of the next product and hand back gradients in the type that came in."""
    norm = make()
    x = drawn(4, 8).detach().to(dtype).requires_grad_()
    exact = norm(x.detach().float())
    with torch.autocast("cpu", torch.bfloat16):
        y = norm(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), exact, rtol=2e-2, atol=2e-2)
    y.float().square().sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == dtype
    assert all(parameter.grad is not None for parameter in norm.parameters())


def test_rms_norm_elsewhere_than_on_the_cpu_uses_the_kernel_of_torch() -> None:
    """Devices with a fused kernel keep it; shapes and types are the same (the meta device computes nothing else)."""
    norm = RmsNorm(8, eps=1e-5).to("meta")
    y = norm(torch.empty(2, 8, device="meta", dtype=torch.bfloat16))
    assert (y.shape, y.dtype) == ((2, 8), torch.float32)


def test_squared_relu_equals_its_definition_forward_and_backward() -> None:
    """Zero for what is negative, the square for the rest."""
    x = drawn(5, 7)
    ours = gradients_of(squared_relu, x)
    torch.testing.assert_close(ours, gradients_of(lambda x: torch.relu(x) ** 2, x))


def test_gelu_tanh_equals_torch_forward_and_backward() -> None:
    """A sigmoid in place of a slow tanh is the same function, far into both tails."""
    x = (8 * drawn(400)).detach().requires_grad_()
    expected = gradients_of(lambda x: torch.nn.functional.gelu(x, approximate="tanh"), x)
    torch.testing.assert_close(gradients_of(gelu_tanh, x), expected)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dropped_zeroes_a_share_and_keeps_the_mean(share: float, dtype: torch.dtype) -> None:
    """The others grow by what is missing; an odd count of numbers leaves part of the last draw unused."""
    torch.manual_seed(0)
    x = torch.ones(301, 333, dtype=dtype, requires_grad=True)
    y = dropped(x, share)
    assert (y == 0).double().mean().item() == pytest.approx(share, abs=0.01)
    assert y.double().mean().item() == pytest.approx(1.0, abs=0.02)
    assert y.unique().numel() == (2 if share else 1)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, y.detach())


def test_dropped_depends_on_the_generator_alone() -> None:
    """Equal seeds, equal choice; the next draw is another."""
    torch.manual_seed(3)
    first, second = (dropped(torch.ones(1000), 0.5) for _ in range(2))
    torch.manual_seed(3)
    torch.testing.assert_close(dropped(torch.ones(1000), 0.5), first)
    assert not torch.equal(first, second)


def test_dropped_neighbours_are_independent() -> None:
    """Four numbers share a draw, but not their fate."""
    torch.manual_seed(1)
    kept = (dropped(torch.ones(200_000), 0.5) > 0).double().view(-1, 4)
    torch.testing.assert_close(kept.T.corrcoef(), torch.eye(4).double(), rtol=0, atol=0.02)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_dropped_of_all_and_elsewhere_than_on_the_cpu_is_left_to_torch(device: str) -> None:
    """Nothing remains of all; other devices have a fast kernel of their own."""
    y = dropped(torch.ones(5, device=device), 1.0)
    assert y.shape == (5,)
    assert y.is_meta or not y.any()


@pytest.mark.parametrize("window", [None, 1, 3, QUERIES_AT_ONCE + 2])
@pytest.mark.parametrize("length", [QUERIES_AT_ONCE, QUERIES_AT_ONCE + 1, 2 * QUERIES_AT_ONCE + 70])
def test_math_attention_in_parts_equals_attention_at_once(length: int, window: int | None) -> None:
    """Queries attend in parts on long rows: what is left out is what the mask hides, forward and backward."""
    q, k, v = (drawn(1, 2, length, 4, seed=seed) for seed in range(3))
    mask = causal_mask(length, dtype=torch.float64, device=q.device, window=window)
    ours = gradients_of(lambda q, k, v: math_attention(q, k, v, mask, 0.0, window=window), q, k, v)
    theirs = gradients_of(
        lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask), q, k, v
    )
    torch.testing.assert_close(ours, theirs)


def test_causal_mask_shows_each_query_itself_and_the_newest_before_it() -> None:
    """A window of W is W tokens, the query's own among them."""
    for window in (None, 1, 4, 9, 20):
        visible = causal_mask(9, dtype=torch.float32, device=torch.device("cpu"), window=window) == 0
        expected = [[0 <= query - key < (window or 9) for key in range(9)] for query in range(9)]
        assert visible.tolist() == expected


@pytest.mark.parametrize(("window", "share"), [(None, 0.7), (16, 0.35)])
def test_math_attention_in_parts_keeps_less_for_the_way_back(window: int | None, share: float) -> None:
    """What the mask hides is neither computed nor kept."""
    kept: list[int] = []

    def count(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    length = 4 * QUERIES_AT_ONCE
    q, k, v = (drawn(1, 1, length, 4, seed=seed) for seed in range(3))
    mask = causal_mask(length, dtype=torch.float64, device=q.device, window=window)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        math_attention(q, k, v, mask, 0.0, window=window)
    assert max(kept) == QUERIES_AT_ONCE * (length if window is None else QUERIES_AT_ONCE + window - 1)
    assert sum(kept) < share * length**2


def plainly_rotated(x: Tensor, rotation: Rotation) -> Tensor:
    """The definition, for autograd to follow."""
    first, second = x.chunk(2, dim=-1)
    half = x.shape[-1] // 2
    cos, sin = rotation.cos[..., :half], rotation.sin[..., half:]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def test_rotation_equals_its_definition_forward_and_backward() -> None:
    """The gradient of a rotation is the rotation back."""
    rotation = Rotary(8, length=5, theta=100.0).double().first(5, torch.float64)
    x = drawn(2, 5, 3, 8)
    ours = gradients_of(lambda x: rotated(x, rotation), x)
    torch.testing.assert_close(ours, gradients_of(lambda x: plainly_rotated(x, rotation), x))


def test_rotation_depends_on_distance_alone() -> None:
    """Products of turned queries and keys see how far apart two tokens are, not where they stand."""
    rotary = Rotary(8, length=20, theta=100.0).double()
    q, k = drawn(1, 1, 1, 8), drawn(1, 1, 1, 8, seed=1)

    def product(query: int, key: int) -> Tensor:
        turns = [rotary.at(torch.tensor([position]), torch.float64) for position in (query, key)]
        return (rotated(q, turns[0]) * rotated(k, turns[1])).sum()

    torch.testing.assert_close(product(9, 4), product(17, 12))
    assert not torch.allclose(product(9, 4), product(9, 5))


def test_rotary_tables_survive_bfloat16_and_the_meta_device() -> None:
    """Tables are computed anew wherever the module goes, never rounded and never left empty."""
    rotary = Rotary(8, length=300, theta=10000.0)
    torch.testing.assert_close(rotary.bfloat16().float().cos, Rotary(8, length=300, theta=10000.0).cos)
    with torch.device("meta"):
        empty = Rotary(8, length=300, theta=10000.0)
    torch.testing.assert_close(empty.to_empty(device="cpu").sin, rotary.sin)


def test_rotary_tables_are_no_part_of_the_state() -> None:
    """They follow from the settings, so a checkpoint need not hold them."""
    assert not Rotary(8, length=3, theta=10.0).state_dict()
