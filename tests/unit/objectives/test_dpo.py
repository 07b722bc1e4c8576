"""DPO against its formulas written out: values, gradients, what is reported, and that no split of a batch changes it."""

import math
from collections.abc import Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from ml_playground.data_pipeline.batches import NO_TARGET, PairBatch, TokenBatch
from ml_playground.models.core.gpt import GptModel
from ml_playground.objectives.dpo import build
from ml_playground.objectives.log_probabilities import row_likelihoods
from ml_playground.objectives.settings import Dpo
from tests.unit.models.test_gpt import LENGTH, VOCAB, model_of

PAIRS = 3


def policy(**options: object) -> GptModel:
    """A model in float64, so that differences are mistakes."""
    return model_of(**options).double()


def tokens_of(seed: int = 0, *, weighted: bool = False) -> TokenBatch:
    """Rows whose first third is a prompt, of unequal lengths."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(VOCAB, (2 * PAIRS, LENGTH), generator=generator)
    labels = torch.randint(VOCAB, (2 * PAIRS, LENGTH), generator=generator)
    labels[:, : LENGTH // 3] = NO_TARGET
    for row in range(2 * PAIRS):
        labels[row, LENGTH - row :] = NO_TARGET
    weights = torch.where(labels == NO_TARGET, 0.0, torch.rand(labels.shape, generator=generator) + 0.5)
    return TokenBatch(ids, labels, weights.double() if weighted else None)


def naive(model: GptModel, tokens: TokenBatch) -> list[Tensor]:
    """Log-probability of each row's targets, one token at a time."""
    found = []
    for row in range(len(tokens.ids)):
        log_softmax = model(tokens.ids[row : row + 1])[0].log_softmax(-1)
        total = torch.zeros((), dtype=torch.float64)
        for place, label in enumerate(tokens.labels[row].tolist()):
            if label != NO_TARGET:
                weight = 1.0 if tokens.weights is None else tokens.weights[row, place].item()
                total = total + weight * log_softmax[place, label]
        found.append(total)
    return found


def batch_of(seed: int = 0, *, weighted: bool = False, reference: Tensor | None = None) -> PairBatch:
    """With a reference of its own."""
    tokens = tokens_of(seed, weighted=weighted)
    if reference is None:
        reference = -40 - 5 * torch.rand(2 * PAIRS, generator=torch.Generator().manual_seed(seed)).double()
    return PairBatch(tokens, reference)


def gradients(model: GptModel, loss: Tensor) -> dict[str, Tensor]:
    """Of a loss."""
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


VARIANTS: Mapping[str, Dpo] = {
    "sigmoid": Dpo(beta=0.3),
    "smoothed": Dpo(beta=0.3, label_smoothing=0.1),
    "ipo": Dpo(beta=0.2, variant="ipo"),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_loss_and_gradient_equal_the_formulas_written_out(variant: str, weighted: bool) -> None:
    """As trl's DPOTrainer has them: `sigmoid` with label smoothing, `ipo` of log-ratios per target."""
    options, model, batch = VARIANTS[variant], policy(), batch_of(weighted=weighted)
    loss = build(options).loss_sum(model, batch)
    ours = gradients(model, loss)
    total, ratios = (
        torch.zeros((), dtype=torch.float64),
        [a - b for a, b in zip(naive(model, batch.tokens), batch.reference, strict=True)],
    )
    counts = (batch.tokens.labels != NO_TARGET).double() if batch.tokens.weights is None else batch.tokens.weights
    for pair in range(PAIRS):
        chosen, rejected = ratios[2 * pair], ratios[2 * pair + 1]
        logits = chosen - rejected
        if options.variant == "ipo":
            logits = chosen / counts[2 * pair].sum() - rejected / counts[2 * pair + 1].sum()
            total = total + (logits - 1 / (2 * options.beta)) ** 2
        else:
            up, down = torch.sigmoid(options.beta * logits).log(), torch.sigmoid(-options.beta * logits).log()
            total = total - (1 - options.label_smoothing) * up - options.label_smoothing * down
    torch.testing.assert_close(loss, total)
    torch.testing.assert_close(ours, gradients(model, total))


@pytest.mark.parametrize(
    ("variant", "expected"), [("sigmoid", math.log(2)), ("smoothed", math.log(2)), ("ipo", 1 / (4 * 0.2**2))]
)
def test_at_the_start_the_loss_is_known_and_half_of_the_pairs_count_as_right(variant: str, expected: float) -> None:
    """A policy that is the reference knows nothing of any pair: ln 2, or the square of the whole margin that is wanted."""
    model, tokens = policy(), tokens_of()
    reference = row_likelihoods(model, tokens).log_probabilities.detach()
    objective, batch = build(VARIANTS[variant]), batch_of(reference=reference)
    sums = objective.sums(model, batch)
    assert objective.loss_sum(model, batch).item() / objective.targets(batch) == pytest.approx(expected, abs=1e-12)
    means = {name: (total / count).item() for name, (total, count) in sums.items()}
    assert means == pytest.approx({"loss": expected, "accuracy": 0.5, "margin": 0.0}, abs=1e-12)


def test_reported_are_the_loss_without_smoothing_the_share_of_right_pairs_and_their_margin() -> None:
    """An evaluation says how well pairs are told apart, whatever the training was told to believe."""
    model, tokens = policy(), tokens_of()
    likelihoods = row_likelihoods(model, tokens).log_probabilities.detach()
    # The model prefers the better answer of the first two pairs by 3 and 1 nats, and the worse one of the third by 2.
    shift = torch.tensor([-3.0, 0.0, -1.0, 0.0, 0.0, -2.0], dtype=torch.float64)
    sums = build(Dpo(beta=0.5, label_smoothing=0.2)).sums(model, batch_of(reference=likelihoods + shift))
    margins = torch.tensor([1.5, 0.5, -1.0], dtype=torch.float64)
    assert {name: tuple(pair.tolist()) for name, pair in sums.items()} == {
        "loss": (pytest.approx(-torch.sigmoid(margins).log().sum().item()), PAIRS),
        "accuracy": (pytest.approx(2), PAIRS),
        "margin": (pytest.approx(1.0), PAIRS),
    }


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("parts", [1, 2, 3, 5])
def test_a_batch_in_parts_is_the_same_step_and_no_pair_is_torn(parts: int, weighted: bool) -> None:
    """What `runtime.on_out_of_memory = "split"` relies on."""
    model, batch, objective = policy(), batch_of(weighted=weighted), build(VARIANTS["smoothed"])
    pieces = batch.split(parts)
    assert sum(piece.rows for piece in pieces) == batch.rows == PAIRS and len(pieces) == min(parts, PAIRS)
    whole = gradients(model, objective.loss_sum(model, batch))
    split = [gradients(model, objective.loss_sum(model, piece)) for piece in pieces]
    torch.testing.assert_close({name: sum(part[name] for part in split) for name in whole}, whole)


@given(most=st.integers(1, 40), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_logits_in_parts_change_neither_likelihoods_nor_gradients(most: int, seed: int) -> None:
    """However few exist at once; what is forgotten is computed again on the way back."""
    model, tokens = policy(), tokens_of(seed)
    whole = row_likelihoods(model, tokens).log_probabilities
    parts = row_likelihoods(model, tokens, largest_logits=most * VOCAB).log_probabilities
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(gradients(model, parts.square().sum()), gradients(model, whole.square().sum()))


def test_what_experts_add_is_in_the_gradient_and_not_in_the_value() -> None:
    """A router must stay balanced while preferences are learnt; the loss stays that of the pairs."""
    model, batch, objective = policy(n_expert=4, n_expert_used=2, expert_balance=0.5), batch_of(), build(Dpo(beta=0.3))
    found = row_likelihoods(model, batch.tokens)
    assert found.auxiliary is not None
    loss = objective.loss_sum(model, batch)
    ratios = found.log_probabilities - batch.reference
    plain = -torch.nn.functional.logsigmoid(0.3 * (ratios[::2] - ratios[1::2])).sum()
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(gradients(model, loss), gradients(model, plain + found.auxiliary.sum() / 2))


def test_label_smoothing_of_ipo_is_refused() -> None:
    """A setting without an effect would be a lie."""
    with pytest.raises(
        ValidationError,
        match=r"label_smoothing = 0.1 does not go with variant = 'ipo', which has no label to smooth; set label_smoothing = 0, "
        "or variant = 'sigmoid'",
    ):
        Dpo(variant="ipo", label_smoothing=0.1)
