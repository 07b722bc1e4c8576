"""The learner: splitting, averaging, seeding, restoring."""

import pytest
import torch

from ml_playground.core.error_handling import CheckpointError
from ml_playground.training.learner import GradientLearner
from ml_playground.training.optim import adamw, adamw8bit, galore, muon, paged_adamw, schedule_free
from ml_playground.training.settings import AdamW, AdamW8bit, GaLore, Muon, PagedAdamW, ScheduleFree
from tests.fakes.toy_task import ToyBatch, ToyData, ToyModel, ToyObjective


def learner_of(model: ToyModel, **settings: float) -> GradientLearner:
    optimizer = adamw.build(AdamW(lr=0.01), model, torch.float32)
    return GradientLearner(model, ToyObjective(), optimizer, seed=7, **settings)  # type: ignore[arg-type]


def split(rows: int) -> list[ToyBatch]:
    """Eight uneven rows as micro-batches of `rows`."""
    return [ToyData(rows=rows).batch_at(number) for number in range(8 // rows)]


def copies(model: ToyModel) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("rows", [1, 2, 4, 8])
def test_train_step_batch_split_differently_gives_the_same_step(rows: int) -> None:
    """Accumulation must not change the maths, even when rows have unequally many targets."""
    whole, parts = ToyModel(), ToyModel()
    of_whole = learner_of(whole, grad_clip=0.5).train_step(split(8), step=0, lr_factor=1.0)
    of_parts = learner_of(parts, grad_clip=0.5).train_step(split(rows), step=0, lr_factor=1.0)
    torch.testing.assert_close(copies(parts), copies(whole), rtol=0, atol=1e-12)
    assert float(of_parts.loss) == pytest.approx(float(of_whole.loss), abs=1e-12)
    assert float(of_parts.grad_norm) == pytest.approx(float(of_whole.grad_norm), abs=1e-12)
    assert of_parts.targets == of_whole.targets == 6


def test_train_step_clipping_bounds_what_the_optimizer_sees_not_what_is_reported() -> None:
    """The reported norm is the one before clipping."""
    norms = [
        float(learner_of(ToyModel(), grad_clip=c).train_step(split(8), step=0, lr_factor=1).grad_norm) for c in (0, 0.1)
    ]
    assert norms[0] == norms[1] > 0.1


def test_train_step_lr_is_peak_times_factor() -> None:
    """What the log shows is what the optimizer used."""
    assert learner_of(ToyModel()).train_step(split(8), step=0, lr_factor=0.5).lr == 0.005


def test_train_step_without_any_target_is_finite() -> None:
    """A batch of padding alone divides nothing by zero."""
    batch = ToyBatch(torch.ones(2, 3, dtype=torch.float64), torch.zeros(2, dtype=torch.float64))
    assert float(learner_of(ToyModel()).train_step([batch], step=0, lr_factor=1).loss) == 0.0


def test_train_step_dropout_is_a_function_of_seed_and_step() -> None:
    """Whatever ran before, step 3 drops the same units."""
    first, second = ToyModel(dropout=0.5), ToyModel(dropout=0.5)
    torch.manual_seed(1)
    a = learner_of(first).train_step(split(4), step=3, lr_factor=1)
    torch.manual_seed(2)
    b = learner_of(second).train_step(split(4), step=3, lr_factor=1)
    c = learner_of(ToyModel(dropout=0.5)).train_step(split(4), step=4, lr_factor=1)
    assert torch.equal(a.loss, b.loss) and not torch.equal(a.loss, c.loss)


def test_evaluate_is_the_mean_over_targets_without_dropout_and_leaves_training_mode() -> None:
    """Evaluation neither drops nor moves anything."""
    model = ToyModel(dropout=0.5)
    learner, before = learner_of(model), copies(model)
    model.train()
    got = learner.evaluate(split(4))["loss"]
    want = ToyObjective().loss_sum(model.eval(), split(8)[0]).item() / 6
    assert got == pytest.approx(want) and all(torch.equal(a, b) for a, b in zip(before, copies(model), strict=True))


def test_evaluate_with_averaged_weights_uses_them_and_puts_the_others_back() -> None:
    """The mean is what is evaluated; the weights go on training."""
    model = ToyModel()
    learner = learner_of(model, ema_decay=0.9)
    for step in range(5):
        learner.train_step(split(8), step=step, lr_factor=1.0)
    raw = copies(model)
    averaged = ToyModel()
    averaged.load_state_dict(dict(learner.state_dict()["ema"]))
    want = ToyObjective().loss_sum(averaged, split(8)[0]).item() / 6
    assert learner.evaluate(split(8))["loss"] == pytest.approx(want)
    assert all(torch.equal(a, b) for a, b in zip(raw, copies(model), strict=True))


def test_averaged_weights_follow_the_formula() -> None:
    """Mean <- d * mean + (1 - d) * weights, d rising from 1/10 to the decay."""
    model = ToyModel()
    learner, mean = learner_of(model, ema_decay=0.15), copies(model)[0]
    for step in range(3):
        learner.train_step(split(8), step=step, lr_factor=1.0)
        decay = min(0.15, (1 + step) / (10 + step))
        mean = decay * mean + (1 - decay) * model.inner.weight.detach()
    torch.testing.assert_close(learner.state_dict()["ema"]["inner.weight"], mean)


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_state_dict_restored_goes_on_bit_for_bit(ema_decay: float) -> None:
    """The groups are the whole state."""
    whole, first, second = (ToyModel(dropout=0.3) for _ in range(3))
    straight, stopped = learner_of(whole, ema_decay=ema_decay), learner_of(first, ema_decay=ema_decay)
    for step in range(6):
        straight.train_step(split(4), step=step, lr_factor=1.0)
    for step in range(3):
        stopped.train_step(split(4), step=step, lr_factor=1.0)
    resumed = learner_of(second, ema_decay=ema_decay)
    resumed.load_state_dict({g: {n: t.clone() for n, t in ts.items()} for g, ts in stopped.state_dict().items()})
    for step in range(3, 6):
        resumed.train_step(split(4), step=step, lr_factor=1.0)
    for group, tensors in straight.state_dict().items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, resumed.state_dict()[group][name]), f"{group}/{name}"


def test_load_state_dict_misfits_are_all_named() -> None:
    """Missing, unknown and misshapen weights, in one message, before anything is changed."""
    model = ToyModel()
    learner, before = learner_of(model), copies(model)
    weights = dict(learner.state_dict()["model"])
    del weights["inner.bias"]
    weights |= {"extra": torch.zeros(1), "outer.bias": torch.zeros(9)}
    with pytest.raises(
        CheckpointError,
        match=r"inner.bias is missing; extra is not in the model; outer.bias is \(9,\), the model's is \(1,\)",
    ):
        learner.load_state_dict({"model": weights})
    assert all(torch.equal(a, b) for a, b in zip(before, copies(model), strict=True))


def test_load_state_dict_many_misfits_are_counted() -> None:
    """A whole other model does not flood the terminal."""
    others = {f"other.{number:02}": torch.zeros(1) for number in range(30)}
    with pytest.raises(CheckpointError, match="and 14 more"):
        learner_of(ToyModel()).load_state_dict({"model": others})


def test_load_state_dict_without_averaged_weights_is_refused_when_they_are_kept() -> None:
    """Going on with a mean that starts anew would not be the same run."""
    state = learner_of(ToyModel()).state_dict()
    with pytest.raises(CheckpointError, match="saved ema weights do not fit"):
        learner_of(ToyModel(), ema_decay=0.9).load_state_dict(state)


def test_bfloat16_is_used_inside_and_weights_stay_as_they_are() -> None:
    """Autocast changes products, not master weights."""
    model = ToyModel().float()
    seen: list[torch.dtype] = []
    model.inner.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    learner = GradientLearner(
        model, ToyObjective(), adamw.build(AdamW(), model, torch.bfloat16), seed=1, dtype=torch.bfloat16
    )
    batch = ToyBatch(torch.ones(2, 3), torch.ones(2))
    learner.train_step([batch], step=0, lr_factor=1.0)
    assert seen == [torch.bfloat16] and model.inner.weight.dtype is torch.float32


def state_of(learner: GradientLearner) -> dict[str, bytes]:
    """Every bit of the state."""
    return {
        f"{group}/{name}": tensor.detach().contiguous().numpy().tobytes()
        for group, tensors in learner.state_dict().items()
        for name, tensor in tensors.items()
    }


OPTIMIZERS = {
    "adamw": lambda model: adamw.build(AdamW(lr=0.01), model, torch.float32),
    "muon": lambda model: muon.build(Muon(lr=0.01, matrix_lr=0.02, matrix_weight_decay=0.1), model, torch.float32),
    "adamw8bit": lambda model: adamw8bit.build(AdamW8bit(lr=0.01), model, torch.float32),
    "paged_adamw": lambda model: paged_adamw.paged(PagedAdamW(lr=0.01), model, at_once=64),
    "galore": lambda model: galore.build(GaLore(lr=0.01, rank=2, scale=1.0, update_proj_gap=4), model, torch.float32),
    "schedule_free": lambda model: schedule_free.build(ScheduleFree(lr=0.01), model, torch.float32),
}


def skipping(model: ToyModel, kind: str, *, skips_bad: bool = True) -> GradientLearner:
    """A learner that leaves bad steps out, with everything that a step can move."""
    optimizer = OPTIMIZERS[kind](model)
    return GradientLearner(model, ToyObjective(), optimizer, seed=7, grad_clip=0.5, ema_decay=0.9, skips_bad=skips_bad)


def spoilt(value: float) -> list[ToyBatch]:
    """Two micro-batches, the second with a number that ruins the step."""
    good, bad = split(4)
    return [good, ToyBatch(bad.inputs.clone().index_fill(0, torch.tensor([1]), value), bad.counted)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e200], ids=["nan", "inf", "overflow"])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_train_step_that_is_bad_leaves_every_bit_as_it_was(kind: str, value: float) -> None:
    """Weights, moments, counters, momentum and mean: as if the step had never been; what comes after, too."""
    hit, spared = skipping(ToyModel(), kind), skipping(ToyModel(), kind)
    for step in range(3):
        for learner in (hit, spared):
            learner.train_step(split(4), step=step, lr_factor=1.0)
    before = state_of(hit)
    numbers = hit.train_step(spoilt(value), step=3, lr_factor=1.0)
    assert not (torch.isfinite(numbers.loss) and torch.isfinite(numbers.grad_norm))
    assert state_of(hit) == before
    for learner in (hit, spared):
        learner.train_step(split(4), step=4, lr_factor=1.0)
    assert state_of(hit) == state_of(spared) != before


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_train_step_that_is_good_is_the_same_where_bad_ones_are_skipped(kind: str) -> None:
    """Being ready for a bad step changes no bit of a good one."""
    ready, plain = (skipping(ToyModel(), kind, skips_bad=skips) for skips in (True, False))
    for step in range(4):
        for learner in (ready, plain):
            learner.train_step(split(4), step=step, lr_factor=0.7)
    assert state_of(ready) == state_of(plain)
