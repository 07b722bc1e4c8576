"""The optimizers: groups, named state, and what orthogonalisation does."""

import pytest
import torch
from torch import nn

from ml_playground.core.error_handling import CheckpointError, ConfigError
from ml_playground.training.optim import adamw, muon
from ml_playground.training.optim.muon import orthogonalise
from ml_playground.training.optim.param_groups import NamedOptimizers, by_decay
from ml_playground.training.settings import AdamW, Muon
from tests.fakes.toy_task import ToyData, ToyModel, ToyObjective

BUILDERS = {
    "adamw": lambda model: adamw.build(AdamW(lr=0.05), model, torch.float32),
    "muon": lambda model: muon.build(Muon(lr=0.05, matrix_lr=0.02, matrix_weight_decay=0.1), model, torch.float64),
}


def descend(model: ToyModel, optimizer: NamedOptimizers, steps: range) -> None:
    for step in steps:
        ToyObjective().loss_sum(model, ToyData().batch_at(step)).backward()
        optimizer.step(1.0)
        optimizer.zero_grad()


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
    ToyObjective().loss_sum(model, ToyData().batch_at(0)).backward()
    optimizer.step(0.0)
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
        match=r"does not fit this job: exp_avg/inner.weight is \(2,\), the parameter \(6, 3\); exp_avg/nowhere belongs to no "
        r"parameter; outer.bias has momentum, its optimizer keeps exp_avg, exp_avg_sq, step\.",
    ):
        optimizer.load_state_tensors(state)


def test_by_decay_gains_and_biases_do_not_decay() -> None:
    """Only tensors with two or more dimensions decay."""
    groups = by_decay(nn.Linear(2, 3).parameters(), lr=1.0, weight_decay=0.1)
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(1, 0.1), (1, 0.0)]


def test_by_decay_empty_groups_are_left_out() -> None:
    """Torch refuses a group without parameters."""
    assert len(by_decay(nn.Linear(2, 3, bias=False).parameters(), lr=1.0, weight_decay=0.1)) == 1


def test_muon_model_without_hidden_matrices_is_refused() -> None:
    """Muon on embeddings or heads would be wrong; the model must say."""
    with pytest.raises(
        ConfigError, match="names its hidden matrices, which Linear does not; use optimizer.kind = 'adamw'"
    ):
        muon.build(Muon(), nn.Linear(2, 2), torch.float32)


def test_muon_closure_is_refused() -> None:
    """It would be evaluated nowhere."""
    optimizer = muon.MatrixMomentum(
        [nn.Parameter(torch.ones(2, 2))],
        lr=1,
        momentum=0.9,
        weight_decay=0,
        newton_schulz_steps=1,
        compute_dtype=torch.float32,
    )
    with pytest.raises(ValueError, match="takes no closure"):
        optimizer.step(lambda: 0.0)


def test_muon_matrix_without_gradient_stays() -> None:
    """A matrix that took no part in the loss is left alone."""
    model = ToyModel()
    optimizer = BUILDERS["muon"](model)
    optimizer.step(1.0)
    assert torch.equal(model.inner.weight, ToyModel().inner.weight)


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
