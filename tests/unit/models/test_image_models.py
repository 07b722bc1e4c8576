"""Models that tell images apart: their sizes, their first loss, what they can learn, how they are computed."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_playground.configuration import families
from ml_playground.configuration.base import Component
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.registry import load_object
from ml_playground.core.values import ModelContext
from ml_playground.data_pipeline.batches import ImageBatch
from ml_playground.models.images.settings import MnistCnn, Vit
from ml_playground.objectives.classify import ClassifyObjective
from ml_playground.objectives.settings import Classify
from ml_playground.training.learner import GradientLearner
from ml_playground.training.optim import adamw
from ml_playground.training.settings import AdamW

FACTS = {"channels": 1, "height": 8, "width": 8, "classes": 10}
KINDS: list[Component] = [
    MnistCnn(channels=8, hidden=16, dropout=0.0),
    Vit(patch_size=2, n_layer=2, n_head=2, n_embd=16),
]


def model_of(chosen: Component, facts: dict[str, int] = FACTS, **context: Any) -> torch.nn.Module:
    """Random weights of a fixed seed."""
    torch.manual_seed(0)
    build = load_object(families.MODELS[chosen.kind_name].build)
    return build(chosen, ModelContext(facts, **context))


def batch_of(rows: int, facts: dict[str, int] = FACTS) -> ImageBatch:
    """Noise, each image of some class."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(rows, facts["channels"], facts["height"], facts["width"], generator=generator)
    return ImageBatch(images, torch.arange(rows) % facts["classes"])


SIDES = st.integers(4, 21)


@settings(max_examples=20)
@given(
    chosen=st.one_of(
        st.builds(MnistCnn, channels=st.integers(1, 5), hidden=st.integers(1, 6)),
        st.builds(
            Vit,
            patch_size=st.just(1),
            n_layer=st.integers(1, 3),
            n_head=st.sampled_from([1, 2]),
            n_embd=st.sampled_from([4, 6]),
            n_inner=st.one_of(st.none(), st.integers(1, 9)),
        ),
    ),
    channels=st.integers(1, 3),
    height=SIDES,
    width=SIDES,
    classes=st.integers(2, 12),
)
def test_parameters_of_any_settings_equal_the_formula(
    chosen: Component, channels: int, height: int, width: int, classes: int
) -> None:
    """Plans and refusals go by the formula, before anything is built."""
    facts = {"channels": channels, "height": height, "width": width, "classes": classes}
    cost = load_object(families.MODELS[chosen.kind_name].cost)(chosen, facts)
    model = model_of(chosen, facts)
    assert sum(parameter.numel() for parameter in model.parameters()) == cost.parameters
    hidden: Any = getattr(model, "hidden_matrices")()  # noqa: B009
    assert sum(matrix.numel() for matrix in hidden) == cost.matrix_parameters
    assert model(batch_of(2, facts).images).shape == (2, classes)


@pytest.mark.parametrize("chosen", KINDS, ids=lambda one: one.kind_name)
def test_first_loss_is_that_of_knowing_nothing(chosen: Component) -> None:
    """Ln K: no class is preferred before anything is seen."""
    batch = batch_of(200)
    objective = ClassifyObjective(Classify())
    loss = float(objective.loss_sum(model_of(chosen), batch).detach()) / batch.rows
    assert loss == pytest.approx(math.log(10), abs=0.05)


@pytest.mark.parametrize("chosen", KINDS, ids=lambda one: one.kind_name)
def test_model_learns_one_batch_by_heart(chosen: Component) -> None:
    """Every part of it can be moved, and moves the right way."""
    model = model_of(chosen)
    learner = GradientLearner(
        model,
        ClassifyObjective(Classify()),
        adamw.build(AdamW(lr=0.01, weight_decay=0.0), model, torch.float32),
        seed=1,
    )
    batch = batch_of(12)
    for step in range(60):
        numbers = learner.train_step([batch], step=step, lr_factor=1.0)
    assert float(numbers.loss) < 0.05
    assert learner.evaluate([batch])["accuracy"] == 1.0


def test_vit_computed_by_a_fused_kernel_or_again_gives_the_same() -> None:
    """The runtime chooses how, not what."""
    batch = batch_of(3)
    results = []
    for context in ({}, {"attention": "fused"}, {"activation_checkpointing": True}):
        model = model_of(KINDS[1], **context)
        loss = ClassifyObjective(Classify()).loss_sum(model, batch)
        loss.backward()
        results.append((loss.detach(), [parameter.grad for parameter in model.parameters()]))
    for loss, gradients in results[1:]:
        torch.testing.assert_close(loss, results[0][0])
        torch.testing.assert_close(gradients, results[0][1])


@pytest.mark.parametrize(
    "chosen", [MnistCnn(channels=4, hidden=8, dropout=0.5), Vit(patch_size=4, n_embd=8, dropout=0.5)]
)
def test_dropout_draws_in_training_alone(chosen: Component) -> None:
    """An evaluation is the same each time."""
    model, images = model_of(chosen), batch_of(4).images
    torch.nn.init.normal_(model.get_parameter("head.weight"))
    assert not torch.equal(model(images), model(images))
    model.eval()
    assert torch.equal(model(images), model(images))


def test_vit_reads_where_a_patch_stands() -> None:
    """Positions are learnt; without them an image would be a bag of patches."""
    model = model_of(KINDS[1])
    torch.nn.init.normal_(model.get_parameter("position_embedding.weight"))
    torch.nn.init.normal_(model.get_parameter("head.weight"))
    images = batch_of(2).images
    assert not torch.allclose(model(images), model(images.flip(3)), atol=1e-4)


def test_vit_whose_patches_do_not_fit_names_those_that_do() -> None:
    """Before anything is trained."""
    with pytest.raises(ConfigError, match=r"model\.patch_size = 3 does not divide images of 8 x 12; use 1 or 2 or 4"):
        model_of(Vit(patch_size=3), FACTS | {"width": 12})


def test_vit_whose_heads_do_not_divide_its_width_says_what_would() -> None:
    """As for text."""
    with pytest.raises(ValueError, match="n_embd = 30 is not a multiple of n_head = 4; use n_embd = 32"):
        Vit(n_embd=30)
