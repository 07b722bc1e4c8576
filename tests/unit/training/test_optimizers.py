"""The optimizers: groups, named state, and what orthogonalisation does."""

import pytest
import torch
from torch import nn

from ml_playground.core.error_handling import CheckpointError, ConfigError
from ml_playground.training.ema import averages_of
from ml_playground.training.gradients import Leaves
from ml_playground.training.optim import adamw, adamw8bit, galore, muon, paged_adamw, schedule_free
from ml_playground.training.optim.flat import ALIGNMENT, FlatParameters
from ml_playground.training.optim.muon import orthogonalise
from ml_playground.training.optim.parts import OptimizerOfParts
from ml_playground.training.settings import AdamW, AdamW8bit, GaLore, Muon, PagedAdamW, ScheduleFree
from tests.fakes.toy_task import ToyData, ToyModel, ToyObjective

BUILDERS = {
    "adamw": lambda model: adamw.build(AdamW(lr=0.05), model, torch.float32),
    "muon": lambda model: muon.build(Muon(lr=0.05, matrix_lr=0.02, matrix_weight_decay=0.1), model, torch.float64),
    "adamw8bit": lambda model: adamw8bit.build(AdamW8bit(lr=0.05), model, torch.float32),
    "paged_adamw": lambda model: paged_adamw.paged(PagedAdamW(lr=0.05), model, at_once=64),
    "galore": lambda model: galore.build(GaLore(lr=0.05, rank=2, scale=1.0, update_proj_gap=4), model, torch.float32),
    "schedule_free": lambda model: schedule_free.build(ScheduleFree(lr=0.05), model, torch.float32),
}


def descend(model: ToyModel, optimizer: OptimizerOfParts, steps: range, factor: float = 1.0) -> None:
    leaves = Leaves(model, torch.float32)
    for step in steps:
        ToyObjective().loss_sum(model, ToyData().batch_at(step)).backward()
        leaves.collect(optimizer.gradients, first=True)
        optimizer.step(factor)


def means(optimizer: OptimizerOfParts) -> list[torch.Tensor]:
    """What is kept as the model's averaged weights, which a learner saves beside the state."""
    averaged = averages_of(nn.Linear(1, 1), optimizer, 0.0)
    return [] if averaged is None else list(averaged.state_tensors().values())


def loss_of(model: ToyModel) -> float:
    return ToyObjective().loss_sum(model, ToyData(rows=8).batch_at(0)).item()


@pytest.mark.parametrize("kind", BUILDERS)
def test_optimizer_restored_in_the_middle_goes_on_bit_for_bit(kind: str) -> None:
    """State under names, loaded into a new optimizer, is the whole state."""
    whole, first = ToyModel(), ToyModel()
    descend(whole, BUILDERS[kind](whole), range(6))
    saved_optimizer = BUILDERS[kind](first)
    descend(first, saved_optimizer, range(3))
    second = ToyModel()
    second.load_state_dict(first.state_dict())
    optimizer = BUILDERS[kind](second)
    optimizer.load_state_tensors({name: t.clone() for name, t in saved_optimizer.state_tensors().items()})
    for mean, other in zip(means(optimizer), means(saved_optimizer), strict=True):
        mean.copy_(other)
    descend(second, optimizer, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))


@pytest.mark.parametrize("kind", BUILDERS)
def test_optimizer_a_few_steps_lower_the_loss(kind: str) -> None:
    """An optimizer that does not descend is none."""
    model = ToyModel()
    before = loss_of(model)
    descend(model, BUILDERS[kind](model), range(60))
    assert loss_of(model) < 0.5 * before


@pytest.mark.parametrize("kind", BUILDERS)
def test_optimizer_factor_zero_moves_nothing(kind: str) -> None:
    """The factor scales every group's learning rate."""
    model = ToyModel()
    optimizer = BUILDERS[kind](model)
    before = [p.detach().clone() for p in model.parameters()]
    descend(model, optimizer, range(1), factor=0.0)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("kind", BUILDERS)
def test_optimizer_lr_is_the_peak_of_the_first_group_after_steps(kind: str) -> None:
    """The log multiplies the peak by the factor itself."""
    model = ToyModel()
    optimizer = BUILDERS[kind](model)
    descend(model, optimizer, range(1))
    optimizer.step(0.1)
    assert optimizer.lr == 0.05


def test_load_state_misfits_are_all_listed() -> None:
    """A state of another model is refused whole."""
    optimizer = BUILDERS["adamw"](ToyModel())
    state = {"step/inner.weight": torch.zeros(()), "exp_avg_sq/inner.weight": torch.zeros(6, 3)}
    state |= {
        "exp_avg/nowhere": torch.zeros(1),
        "exp_avg/inner.weight": torch.zeros(2),
        "momentum/outer.bias": torch.zeros(1),
    }
    with pytest.raises(
        CheckpointError,
        match=r"does not fit this job: nothing is saved of outer.weight; nothing is saved of inner.bias; "
        r"exp_avg/inner.weight is \(2,\), the parameter \(6, 3\); exp_avg/nowhere belongs to no parameter; "
        r"outer.bias has momentum, its optimizer keeps exp_avg, exp_avg_sq, step\.",
    ):
        optimizer.load_state_tensors(state)


@pytest.mark.parametrize("bias", [True, False])
def test_adamw_equals_torch_on_each_parameter(bias: bool) -> None:
    """One call over a buffer is what torch's optimizer computes parameter by parameter; gains and biases do not decay."""
    ours, theirs = nn.Linear(3, 5, bias=bias, dtype=torch.float64), nn.Linear(3, 5, bias=bias, dtype=torch.float64)
    theirs.load_state_dict(ours.state_dict())
    settings = AdamW(lr=0.05, weight_decay=0.3)
    optimizer = adamw.build(settings, ours, torch.float32)
    options = {"lr": settings.lr, "betas": (settings.beta1, settings.beta2), "eps": settings.eps}
    peers = [torch.optim.AdamW([theirs.weight], weight_decay=0.3, **options)]
    peers += [torch.optim.AdamW([theirs.bias], weight_decay=0.0, **options)] if bias else []
    generator = torch.Generator().manual_seed(3)
    for _ in range(5):
        for name, parameter in theirs.named_parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            optimizer.gradients[name].copy_(parameter.grad)
        optimizer.step(1.0)
        for peer in peers:
            peer.step()
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


def test_flat_parameters_keep_their_values_and_share_one_memory() -> None:
    """Whoever holds a parameter holds it still; a change of the buffer is a change of it, and gaps stay zero."""
    model = nn.Linear(3, 5)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    weight = model.weight
    flat = FlatParameters(dict(model.named_parameters()))
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert len(flat.weights) == 2 * ALIGNMENT and flat.weights.count_nonzero() <= 20
    flat.weights.mul_(2)
    assert weight is model.weight and torch.equal(model.weight, 2 * before["weight"])


def test_frozen_parameters_are_left_out() -> None:
    """What is not trained has no state and no gradient."""
    model = ToyModel()
    model.inner.requires_grad_(False)
    optimizer = BUILDERS["adamw"](model)
    assert set(optimizer.gradients) == {"outer.weight", "outer.bias"}
    assert not any(name.endswith("inner.weight") for name in optimizer.state_tensors())


def test_parameters_of_two_types_are_both_moved() -> None:
    """A buffer holds one type; there are as many as needed."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, dtype=torch.float64))
    optimizer = adamw.build(AdamW(lr=0.1), model, torch.float32)
    before = [p.detach().clone() for p in model.parameters()]
    for gradient in optimizer.gradients.values():
        gradient.fill_(1.0)
    optimizer.step(1.0)
    assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("compute_dtype", [torch.float32, torch.bfloat16])
def test_muon_matrices_in_parts_move_as_all_together(compute_dtype: torch.dtype) -> None:
    """How many go through the iteration at once is a matter of memory: each is turned for itself, to the same bits."""
    moved = []
    for most_stacked in (1, 2 * 24 * 40, 10**9):
        generator = torch.Generator().manual_seed(5)
        shapes = [(24, 40), (40, 24), (24, 40), (24, 40), (8, 8)]
        matrices = {
            str(number): nn.Parameter(torch.randn(shape, generator=generator)) for number, shape in enumerate(shapes)
        }
        part = muon.MatrixMomentum(FlatParameters(matrices), Muon(), compute_dtype, most_stacked=most_stacked)
        for _ in range(3):
            part.flat.gradients.copy_(torch.randn(part.flat.gradients.shape, generator=generator))
            with torch.no_grad():
                part.step(0.02)
        moved.append({name: matrix.detach().clone() for name, matrix in matrices.items()})
    torch.testing.assert_close(moved[0], moved[2], rtol=0, atol=0)
    torch.testing.assert_close(moved[1], moved[2], rtol=0, atol=0)


def test_muon_model_without_hidden_matrices_is_refused() -> None:
    """Muon on embeddings or heads would be wrong; the model must say."""
    with pytest.raises(
        ConfigError, match="names its hidden matrices, which Linear does not; use optimizer.kind = 'adamw'"
    ):
        muon.build(Muon(), nn.Linear(2, 2), torch.float32)


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 8, 20), (2, 16, 64)])
def test_orthogonalise_any_shape_brings_singular_values_near_one(shape: tuple[int, ...]) -> None:
    """The quintic keeps them in about [0.7, 1.2]."""
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    values = torch.linalg.svdvals(orthogonalise(matrices, 8))
    assert values.min() > 0.6 and values.max() < 1.3


def test_orthogonalise_batched_equals_one_by_one() -> None:
    """Stacking equal shapes changes nothing."""
    matrices = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    alone = torch.stack([orthogonalise(m[None], 5)[0] for m in matrices])
    torch.testing.assert_close(orthogonalise(matrices, 5), alone)
