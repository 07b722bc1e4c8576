"""Optimizers that remember less, or elsewhere: what they keep, what they refuse, and whom they equal."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ml_playground.configuration.loading import load
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.registry import load_object
from ml_playground.planning import memory
from ml_playground.training.learner import GradientLearner
from ml_playground.training.optim import adamw, adamw8bit, galore, muon, paged_adamw, schedule_free
from ml_playground.training.optim.adamw8bit import BLOCK, Packed, dither
from ml_playground.training.optim.flat import ALIGNMENT
from ml_playground.training.optim.galore import strongest_directions
from ml_playground.training.optim.parts import OptimizerOfParts
from ml_playground.training.settings import AdamW, AdamW8bit, GaLore, Muon, PagedAdamW, ScheduleFree
from tests.fakes.toy_task import ToyData, ToyModel, ToyObjective
from tests.unit.models.test_gpt import model_of

WHOLE = slice(0, 4 * BLOCK)
NEAREST = torch.full((BLOCK,), 0.5)


def random(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def moved(optimizer: OptimizerOfParts, gradients: list[dict[str, Tensor]]) -> None:
    """A step by each."""
    for step in gradients:
        for name, gradient in step.items():
            optimizer.gradients[name].copy_(gradient)
        optimizer.step(1.0)


def gradients_of(model: nn.Module, steps: int) -> list[dict[str, Tensor]]:
    """The same for every call."""
    named = dict(model.named_parameters())
    return [
        {name: random(*p.shape, seed=100 * step + place).to(p.dtype) for place, (name, p) in enumerate(named.items())}
        for step in range(steps)
    ]


@pytest.mark.parametrize("signed", [True, False])
@given(exponent=st.integers(-20, 10), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_packed_numbers_are_off_by_at_most_a_code(signed: bool, exponent: int, seed: int) -> None:
    """Of the largest of their block: 1.6 % on the square scale, and on that of the fourth power."""
    numbers = random(4 * BLOCK, seed=seed) * 10.0**exponent
    numbers = numbers if signed else numbers.square()
    packed = Packed(numbers, signed=signed)
    packed.pack(WHOLE, numbers, NEAREST, None)
    largest = numbers.view(-1, BLOCK).abs().amax(1).repeat_interleave(BLOCK)
    assert packed.codes.dtype is torch.uint8
    assert ((packed.unpacked(WHOLE) - numbers).abs() <= 0.016 * largest).all()
    assert torch.equal(
        packed.unpacked(WHOLE).sign()[numbers.abs() == largest], numbers.sign()[numbers.abs() == largest]
    )


@pytest.mark.parametrize("signed", [True, False])
def test_packed_numbers_are_right_in_the_mean_over_steps(signed: bool) -> None:
    """Dithering loses nothing for good: the error of the mean is a hundredth of that of one packing."""
    numbers = random(4 * BLOCK) if signed else random(4 * BLOCK).square()
    once, total = Packed(numbers, signed=signed), torch.zeros(4 * BLOCK)
    once.pack(WHOLE, numbers, dither(torch.tensor(0), torch.float32), None)
    for step in range(1000):
        packed = Packed(numbers, signed=signed)
        packed.pack(WHOLE, numbers, dither(torch.tensor(step), torch.float32), None)
        total += packed.unpacked(WHOLE)
    # The least code stands for all that is below it.
    assert (total / 1000 - numbers).abs().max() < 0.02 * (once.unpacked(WHOLE) - numbers).abs().max() + 1e-8


def test_mean_square_comes_down_where_gradients_have_gone() -> None:
    """A thousandth a step is less than half a code: rounded to the nearest it would stay for ever."""
    model = nn.Linear(8, 8, bias=False)
    optimizer = adamw8bit.build(AdamW8bit(lr=0.0001, beta2=0.999), model, torch.float32)
    plain = adamw.build(AdamW(lr=0.0001, beta2=0.999), other := nn.Linear(8, 8, bias=False), torch.float32)
    steps = [{"weight": random(8, 8, seed=3)}, *[{"weight": torch.zeros(8, 8)} for _ in range(700)]]
    moved(optimizer, steps)
    moved(plain, steps)
    state = optimizer.state_tensors()
    codes, scale = state["exp_avg_sq/weight"].float(), state["exp_avg_sq_scale/weight"]
    kept, true = (codes / 255 * scale) ** 4, plain.state_tensors()["exp_avg_sq/weight"]
    assert (kept.sum() / true.sum()).item() == pytest.approx(1.0, abs=0.1)
    assert other.weight.shape == model.weight.shape


def test_a_small_mean_beside_a_large_one_throws_no_weight_away() -> None:
    """A mean rounded up over a mean square rounded to nothing would be a step of hundreds of rates."""
    model = nn.Linear(BLOCK, 1, bias=False)
    before = model.weight.detach().clone()
    optimizer = adamw8bit.build(AdamW8bit(lr=1e-3, weight_decay=0.0), model, torch.float32)
    spread = 10.0 ** -torch.linspace(0, 12, BLOCK)[None]
    moved(optimizer, [{"weight": spread * random(1, BLOCK, seed=step)} for step in range(200)])
    assert (model.weight - before).abs().max() < 200 * 1e-3 * 1.5


def test_adamw8bit_descends_as_adamw_does() -> None:
    """On the toy task, after sixty steps: within a tenth of its loss."""
    losses = []
    for build in (
        lambda m: adamw.build(AdamW(lr=0.05), m, torch.float32),
        lambda m: adamw8bit.build(AdamW8bit(lr=0.05), m, torch.float32),
    ):
        model = ToyModel()
        learner = GradientLearner(model, ToyObjective(), build(model), seed=1)
        for step in range(60):
            learner.train_step([ToyData().batch_at(step)], step=step, lr_factor=1.0)
        losses.append(learner.evaluate([ToyData(rows=8).batch_at(0)])["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=0.1)


@pytest.mark.parametrize("at_once", [ALIGNMENT, 5 * ALIGNMENT, 1 << 20])
def test_paged_adamw_is_adamw_to_the_bit(at_once: int) -> None:
    """Where moments lie, and how many visit at once, is no arithmetic."""
    plain, paged = (model_of() for _ in range(2))
    paged.load_state_dict(plain.state_dict())
    steps = gradients_of(plain, 3)
    one = adamw.build(AdamW(lr=0.01), plain, torch.float32)
    other = paged_adamw.paged(PagedAdamW(lr=0.01), paged, at_once=at_once)
    moved(one, steps)
    moved(other, steps)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), paged.parameters(), strict=True))
    kept, states = one.state_tensors(), other.state_tensors()
    assert kept.keys() == states.keys() and all(torch.equal(kept[name], states[name]) for name in kept)


def test_paged_adamw_where_there_is_one_memory_is_refused() -> None:
    """The moments would be where they are already."""
    with pytest.raises(
        ConfigError,
        match=r"keeps the moments of a CUDA device in the host's memory, and this run computes on cpu, which has no other memory "
        r"than the host's; set optimizer.kind = 'adamw8bit' to spare three quarters of what the moments take, or 'adamw'\.",
    ):
        paged_adamw.build(PagedAdamW(), nn.Linear(2, 2), torch.float32)


@pytest.mark.parametrize("shape", [(6, 10), (10, 6)])
def test_galore_equals_the_paper_written_out(shape: tuple[int, int]) -> None:
    """Project by singular vectors of the gradient of every third step, Adam there, and back; wide and tall."""
    options = GaLore(lr=0.1, rank=3, update_proj_gap=3, scale=0.5, weight_decay=0.2)

    class OneMatrix(nn.Linear):
        def hidden_matrices(self) -> list[nn.Parameter]:
            return [self.weight]

    model = OneMatrix(shape[1], shape[0], bias=False, dtype=torch.float64)
    weight = model.weight.detach().clone()
    steps = gradients_of(model, 7)
    moved(galore.build(options, model, torch.float32), steps)
    mean = square = torch.zeros(())
    for number, gradient in enumerate(step["weight"] for step in steps):
        lying = gradient if shape[0] < shape[1] else gradient.T
        if number % 3 == 0:
            fresh = torch.linalg.svd(lying, full_matrices=False).U[:, :3]
            # A singular vector is one up to its sign; moments belong to the sign that was chosen.
            basis = strongest_directions(lying, 3)
            torch.testing.assert_close((fresh.T @ basis).abs(), torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-9)
        small = basis.T @ lying
        mean = options.beta1 * mean + (1 - options.beta1) * small
        square = options.beta2 * square + (1 - options.beta2) * small**2
        turned = basis @ (
            mean
            / (1 - options.beta1 ** (number + 1))
            / ((square / (1 - options.beta2 ** (number + 1))).sqrt() + options.eps)
        )
        weight = weight * (1 - 0.1 * 0.2) - 0.1 * 0.5 * (turned if shape[0] < shape[1] else turned.T)
    torch.testing.assert_close(model.weight.detach(), weight)


def test_galore_a_gradient_that_is_not_finite_ends_no_process() -> None:
    """The loop sees the loss and goes back; a library's complaint about NaN would come before."""
    assert strongest_directions(torch.full((4, 6), torch.nan), 2).isfinite().all()


def test_galore_of_a_model_without_hidden_matrices_is_refused() -> None:
    """Embeddings are looked up, not multiplied: they have no few directions."""
    with pytest.raises(
        ConfigError, match="'galore' needs a model that names its hidden matrices, which Linear does not"
    ):
        galore.build(GaLore(), nn.Linear(2, 2), torch.float32)


def test_galore_of_a_rank_that_projects_nothing_is_refused() -> None:
    """It would be AdamW under another name."""
    with pytest.raises(
        ConfigError,
        match=r"optimizer.rank = 128 projects nothing: the widest hidden matrix that is trained has 3 dimensions; set optimizer.rank "
        r"below that \(a quarter: 1\), or optimizer.kind = 'adamw8bit'\.",
    ):
        galore.build(GaLore(), ToyModel(), torch.float32)


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_schedule_free_equals_its_paper_with_z_written_out(weight_decay: float) -> None:
    """Two sequences by increments are the three of Defazio et al., through a warm-up and a lower rate after."""
    options = ScheduleFree(lr=0.05, weight_decay=weight_decay)
    model = nn.Linear(5, 4, bias=False, dtype=torch.float64)
    y = model.weight.detach().clone()
    z, x, square, total, largest = y.clone(), y.clone(), torch.zeros_like(y), 0.0, 0.0
    optimizer = schedule_free.build(options, model, torch.float32)
    for number, step in enumerate(gradients_of(model, 12)):
        factor = min(1.0, (number + 1) / 4) * (0.5 if number > 8 else 1.0)
        optimizer.gradients["weight"].copy_(step["weight"])
        optimizer.step(factor)
        lr = options.lr * factor
        largest = max(largest, lr)
        total += largest**2
        square = options.beta2 * square + (1 - options.beta2) * step["weight"] ** 2
        direction = (
            step["weight"] / ((square / (1 - options.beta2 ** (number + 1))).sqrt() + options.eps) + weight_decay * y
        )
        z = z - lr * direction
        x = (1 - largest**2 / total) * x + largest**2 / total * z
        y = (1 - options.beta1) * z + options.beta1 * x
        torch.testing.assert_close(model.weight.detach(), y, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(optimizer.averaged.state_tensors()["weight"], x, rtol=1e-6, atol=1e-6)


def test_schedule_free_evaluates_and_saves_the_mean_and_trains_beside_it() -> None:
    """The learner knows averaged weights already; the optimizer's are in their place."""
    model = ToyModel()
    learner = GradientLearner(
        model, ToyObjective(), schedule_free.build(ScheduleFree(lr=0.05), model, torch.float32), seed=1
    )
    for step in range(20):
        learner.train_step([ToyData().batch_at(step)], step=step, lr_factor=1.0)
    trained, averaged = model.inner.weight.detach().clone(), learner.state_dict()["ema"]["inner.weight"]
    with learner.evaluation_weights():
        assert torch.equal(model.inner.weight, averaged) and not torch.equal(averaged, trained)
    assert torch.equal(model.inner.weight, trained)


@pytest.mark.parametrize(
    ("sets", "problem"),
    [
        (
            ("schedule.kind=warmup_cosine",),
            (
                "keeps a mean of the weights in the place of a descent of the learning rate, but schedule.kind = 'warmup_cosine' comes "
                "down; set schedule.kind: warmup_constant"
            ),
        ),
        (
            ("schedule.kind=warmup_constant", "train.ema_decay=0.9"),
            "which is evaluated and saved, and train.ema_decay = 0.9 asks for another one; set train.ema_decay = 0",
        ),
    ],
    ids=["a descent", "two means"],
)
def test_schedule_free_with_what_it_stands_for_is_refused(sets: tuple[str, ...], problem: str) -> None:
    """Both at once would be done, and would help nobody."""
    with pytest.raises(ConfigError) as refused:
        load("shakespeare", sets=["optimizer={kind='schedule_free'}", *sets])
    assert problem in str(refused.value)
    load("shakespeare", sets=["use=optimizer/schedule_free"])


BUILDERS: dict[str, Callable[[nn.Module], OptimizerOfParts]] = {
    "adamw": lambda model: adamw.build(AdamW(), model, torch.float32),
    "muon": lambda model: muon.build(Muon(), model, torch.float32),
    "adamw8bit": lambda model: adamw8bit.build(AdamW8bit(), model, torch.float32),
    "paged_adamw": lambda model: paged_adamw.paged(PagedAdamW(), model, at_once=1 << 24),
    "galore": lambda model: galore.build(GaLore(rank=16), model, torch.float32),
    "schedule_free": lambda model: schedule_free.build(ScheduleFree(), model, torch.float32),
}


@pytest.mark.parametrize("kind", BUILDERS)
def test_what_an_optimizer_remembers_is_what_is_planned(kind: str) -> None:
    """To two hundredths: parameters begin at whole blocks, and each has a count of its own."""
    sizes = ["model.n_layer=2", "model.n_head=2", "model.n_embd=64", "model.block_size=64", "data.sequence_tokens=64"]
    rank = ", rank=16" if kind == "galore" else ""
    base = ["use=model/tiny", *sizes, f"optimizer={{kind='{kind}'{rank}}}", "schedule.kind=warmup_constant"]
    # Otherwise a snapshot lies among what a step has freed, as far as there is room.
    job = load("shakespeare", sets=[*base, "train.ema_decay=0.0", "runtime.allocator=system"]).job
    facts = {"vocab_size": 65, "sequence_tokens": 64}
    plan = memory.planned_bytes(job, facts)
    build = load_object("ml_playground.models.core.gpt:build")
    model = build(job.model, load_object("ml_playground.core.values:ModelContext")(facts))
    learner = GradientLearner(model, ToyObjective(), BUILDERS[kind](model), seed=1)
    held = sum(t.nbytes for group in learner.state_dict().values() for t in group.values())
    assert plan is not None
    assert held == pytest.approx(plan.snapshot, rel=0.02)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (memory.PACKED_BLOCK, "adamw8bit:BLOCK"),
        (memory.CACHED, "adamw8bit:AT_ONCE"),
        (memory.CACHED, "schedule_free:AT_ONCE"),
        (memory.MOST_UNPACKED, "adamw8bit:AT_ONCE_ON_GPU"),
        (memory.MOST_MOVED, "schedule_free:AT_ONCE_ON_GPU"),
        (memory.MOST_VISITING, "paged_adamw:AT_ONCE"),
    ],
)
def test_the_plan_knows_how_much_is_moved_at_once(ours: int, theirs: str) -> None:
    """The two packages do not know each other; the numbers must be one."""
    assert load_object(f"ml_playground.training.optim.{theirs}") == ours
