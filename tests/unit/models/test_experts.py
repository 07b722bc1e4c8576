"""Mixture of experts: who works on which token, what the balance asks for, and that nothing depends on the order of anything."""

import pytest
import torch
from torch import Tensor

from ml_playground.data_pipeline.batches import TokenBatch
from ml_playground.models.core.gpt import GptModel
from ml_playground.models.layers.experts import ExpertFeedForward, choose, use_of
from ml_playground.objectives.next_token import NextTokenObjective
from ml_playground.objectives.settings import NextToken
from tests.unit.models.test_gpt import LENGTH, VOCAB, model_of, roughened, settings_of, some_ids

KINDS = ["gelu", "gelu_tanh", "relu2", "swiglu"]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    """Random numbers in float64."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def layer_of(**options: object) -> ExpertFeedForward:
    """Five experts in float64, two of them for each token, with large weights."""
    layer = ExpertFeedForward(settings_of(**({"n_expert": 5} | options))).double()
    with torch.no_grad():
        for number, parameter in enumerate(layer.parameters()):
            parameter.copy_(drawn(*parameter.shape, seed=number) * 0.3)
    return layer


@pytest.mark.parametrize("used", [1, 2, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_layer_equals_the_sum_over_all_experts_by_their_shares(kind: str, used: int) -> None:
    """Sorting, gathering and scattering are matters of speed: every token gets every expert that it chose, forward and backward."""
    layer = layer_of(feed_forward=kind, n_expert_used=used)
    x = drawn(2, 7, 16)
    found, expected = [x.clone().requires_grad_() for _ in range(2)]
    y = layer(found).result
    flat = expected.flatten(0, 1)
    choices = choose(layer.router(flat), used)
    shares = torch.zeros(14, 5, dtype=torch.float64).scatter(1, choices.chosen, choices.shares)
    plain = sum(shares[:, number : number + 1] * expert(flat) for number, expert in enumerate(layer.experts))
    torch.testing.assert_close(y, plain.view_as(x))
    weight = drawn(2, 7, 16, seed=9)
    parameters = list(layer.parameters())
    torch.testing.assert_close(
        torch.autograd.grad((y * weight).sum(), [found, *parameters]),
        torch.autograd.grad((plain.view_as(x) * weight).sum(), [expected, *parameters], allow_unused=True),
    )


def test_no_token_is_left_out_where_all_choose_the_same() -> None:
    """There is no capacity that could overflow, and an expert without a token has no gradient but zero."""
    layer = layer_of(n_expert_used=1)
    with torch.no_grad():
        layer.router.weight.zero_()
        layer.router.weight[3] = 1.0
    x = drawn(3, 4, 16).abs().requires_grad_()
    y = layer(x).result
    assert (y.abs().sum(-1) > 0).all()
    y.sum().backward()
    for number, expert in enumerate(layer.experts):
        assert bool(expert.up.weight.grad.any()) == (number == 3)


def test_order_of_experts_does_not_matter() -> None:
    """Experts that change places with their rows of the router give the same result and the same use."""
    layer, other = layer_of(feed_forward="swiglu"), layer_of(feed_forward="swiglu")
    order = torch.tensor([3, 0, 4, 1, 2])
    with torch.no_grad():
        other.router.weight.copy_(layer.router.weight[order])
        for place, number in enumerate(order.tolist()):
            other.experts[place].load_state_dict(layer.experts[number].state_dict())
    x = drawn(2, 6, 16)
    torch.testing.assert_close(other(x), layer(x))


def test_rows_do_not_depend_on_what_else_is_in_the_batch() -> None:
    """Neither the result of a row nor what is measured of it."""
    layer = layer_of()
    x = drawn(4, 6, 16)
    together = layer(x)
    for row in range(4):
        alone = layer(x[row : row + 1])
        torch.testing.assert_close(alone.result, together.result[row : row + 1])
        torch.testing.assert_close(torch.stack(alone.use), torch.stack(together.use)[:, row : row + 1])


@pytest.mark.parametrize("used", [1, 2, 3])
def test_routing_has_a_gradient_of_the_text_alone(used: int) -> None:
    """Without any auxiliary loss a router learns who suits a token, with one expert a token too."""
    model = roughened(model_of(n_expert=4, n_expert_used=used, expert_balance=0.0, expert_z_loss=0.0))
    model(some_ids()).square().mean().backward()
    for block in model.blocks:
        assert block.feed_forward.router.weight.grad.abs().max() > 1e-7  # type: ignore[union-attr]


def test_shares_of_several_add_up_to_one_and_of_one_stay_its_probability() -> None:
    """What is added to the residual stream keeps its size; a share that is always one would teach nothing."""
    logits = drawn(6, 5)
    for used in (2, 3, 5):
        torch.testing.assert_close(choose(logits, used).shares.sum(-1), torch.ones(6).double())
    single = choose(logits, 1)
    torch.testing.assert_close(single.shares, logits.softmax(-1).amax(-1, keepdim=True))
    assert single.chosen.flatten().tolist() == logits.argmax(-1).tolist()


@pytest.mark.parametrize("experts", [2, 5])
def test_balance_is_one_where_all_are_used_alike_and_more_where_choices_follow_probabilities(experts: int) -> None:
    """Its least value among routings whose choices are as unequal as their probabilities: there it has nothing to ask for."""
    tokens = 4 * experts
    chosen = torch.arange(tokens).view(-1, 1) % experts
    even = use_of(torch.zeros(tokens, experts, dtype=torch.float64), chosen, rows=2)
    torch.testing.assert_close(even.balance, torch.ones(2).double())
    torch.testing.assert_close(even.busiest, torch.ones(2).double())
    for seed in range(5):
        logits = drawn(1, experts, seed=seed).expand(200, experts)
        shares = logits[0].softmax(-1)
        numbers = torch.repeat_interleave(torch.arange(experts), (shares * 200).round().long())
        numbers = torch.nn.functional.pad(numbers, (0, max(0, 200 - len(numbers))), value=int(shares.argmax()))[:200]
        skewed = use_of(logits, numbers.view(-1, 1), rows=1)
        assert skewed.balance.item() > 1.01
        assert skewed.busiest.item() > 1.0


def test_balance_pulls_the_probability_of_the_busiest_down() -> None:
    """Its gradient is what spreads the tokens."""
    logits = torch.zeros(8, 3, dtype=torch.float64, requires_grad=True)
    chosen = torch.tensor([0, 0, 0, 0, 0, 1, 1, 2]).view(-1, 1)
    use_of(logits, chosen, rows=1).balance.sum().backward()
    pulled = logits.grad.sum(0)
    assert pulled[0] > 0 > pulled[2]


def test_z_is_the_mean_squared_log_partition_of_each_row() -> None:
    """Logits that grow together choose the same and cost more."""
    logits = drawn(6, 4)
    chosen = logits.argmax(-1, keepdim=True)
    expected = logits.logsumexp(-1).square().view(2, 3).mean(1)
    torch.testing.assert_close(use_of(logits, chosen, rows=2).z, expected)
    assert (use_of(logits + 5, chosen, rows=2).z > expected).all()


def test_states_add_balance_and_z_by_their_settings_and_measure_the_use() -> None:
    """The means over blocks; a dense model adds and measures nothing."""
    ids = some_ids()
    weights = [(1.0, 0.0), (0.0, 1.0), (0.5, 0.25)]
    found = [
        roughened(model_of(n_expert=4, expert_balance=balance, expert_z_loss=z)).states(ids) for balance, z in weights
    ]
    balance, z, both = (states.auxiliary for states in found)
    assert balance is not None and z is not None and both is not None
    torch.testing.assert_close(both, 0.5 * balance + 0.25 * z)
    torch.testing.assert_close(found[0].measures["expert_balance"], balance)
    assert set(found[0].measures) == {"expert_balance", "busiest_expert"}
    dense = model_of().states(ids)
    assert dense.auxiliary is None
    assert not dense.measures


def test_evaluation_reports_the_text_alone_whatever_experts_cost() -> None:
    """Models are compared by their loss; how experts are used stands beside it."""
    ids = some_ids(4)
    batch = TokenBatch(ids, ids.roll(-1, 1))
    objective = NextTokenObjective(NextToken())
    losses = []
    for balance in (0.0, 7.0):
        model = roughened(model_of(n_expert=4, expert_balance=balance))
        sums = objective.sums(model, batch)
        losses.append(sums["loss"].tolist())
        assert objective.loss_sum(model, batch).item() == pytest.approx(sums["loss"][0].item(), rel=1e-6)
        assert 1 <= sums["busiest_expert"][0].item() / sums["busiest_expert"][1].item() <= 4
    assert losses[0] == losses[1]


def test_balance_in_training_evens_the_use_of_experts() -> None:
    """A router that favours one expert is brought back by the auxiliary loss, and is not without it."""
    used: dict[float, float] = {}
    for balance in (0.0, 1.0):
        model = model_of(n_expert=4, n_expert_used=1, expert_balance=balance, n_layer=1).train()
        ids = some_ids(8)
        batch = TokenBatch(ids, ids.roll(-1, 1))
        router = model.blocks[0].feed_forward.router.weight  # type: ignore[union-attr]
        with torch.no_grad():
            router[0] += 0.2 * model.blocks[0].feed_forward_norm(model.token_embedding(ids)).mean((0, 1))  # type: ignore[operator]
        optimizer = torch.optim.SGD([router], lr=0.002)
        for _ in range(40):
            optimizer.zero_grad()
            NextTokenObjective(NextToken()).loss_sum(model, batch).backward()
            optimizer.step()
        used[balance] = model.states(ids).measures["busiest_expert"].mean().item()
    assert used[1.0] < 0.8 * used[0.0]


def test_decoder_with_experts_draws_rows_alone_as_together() -> None:
    """A text does not depend on which others are drawn beside it."""
    decoder = roughened(model_of(n_expert=4).double()).decoder("float32")
    ids = some_ids(5, 6)
    together = decoder.new_state(5, 8)
    decoder.step(ids, together)
    step = decoder.step(ids[:, :1], together)
    for row in range(5):
        alone = decoder.new_state(1, 8)
        decoder.step(ids[row : row + 1], alone)
        torch.testing.assert_close(decoder.step(ids[row : row + 1, :1], alone), step[row : row + 1])


def test_router_stays_float32_under_autocast() -> None:
    """Logits rounded to bfloat16 would choose other experts, and differ between training and drawing."""
    model: GptModel = model_of(n_expert=4)
    router = model.blocks[0].feed_forward.router  # type: ignore[union-attr]
    x = torch.randn(LENGTH, 16, generator=torch.Generator().manual_seed(2))
    with torch.autocast("cpu", torch.bfloat16):
        found = router(x)  # type: ignore[operator]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, router(x), rtol=0, atol=0)  # type: ignore[operator]


def test_model_with_experts_in_bfloat16_predicts_tokens() -> None:
    """Weights may be cast whole for drawing."""
    assert model_of(n_expert=4).bfloat16()(some_ids()).shape[-1] == VOCAB
