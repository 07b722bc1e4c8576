"""The loss of next tokens: what it counts, in which precision, and in how many parts."""

import math

import pytest
import torch
from torch import Tensor, nn

from ml_playground.data_pipeline.batches import NO_TARGET, TokenBatch
from ml_playground.models.protocols import Layout, States
from ml_playground.objectives.next_token import NextTokenObjective, build
from ml_playground.objectives.settings import NextToken


class Bigrams(nn.Module):
    """A table of logits: each token alone decides what follows."""

    vocab_size = 11
    max_context = None
    largest_head = 0

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(self.vocab_size, 5)
        self.out = nn.Linear(5, self.vocab_size, bias=False)

    def hidden(self, ids: Tensor) -> Tensor:
        """(B, T, 5)."""
        return self.table(ids)

    def head(self, hidden: Tensor) -> Tensor:
        """(..., 11), remembering how many positions came at once."""
        self.largest_head = max(self.largest_head, hidden.numel() // 5)
        return self.out(hidden)


def a_batch(rows: int = 4, length: int = 6) -> TokenBatch:
    """Random ids; every third label is missing."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(11, (rows, length), generator=generator)
    labels = torch.randint(11, (rows, length), generator=generator)
    labels.view(-1)[::3] = NO_TARGET
    return TokenBatch(ids, labels)


def test_targets_counts_labels() -> None:
    """Positions without a label are no targets."""
    objective = build(NextToken())
    assert objective.targets(a_batch()) == 16
    assert objective.unit == "token"


def test_loss_sum_is_nats_summed_over_targets() -> None:
    """Negative log-probabilities of the labels, added up."""
    model, batch = Bigrams(), a_batch()
    logs = torch.log_softmax(model.head(model.hidden(batch.ids)), dim=-1)
    known = batch.labels != NO_TARGET
    expected = -logs[known].gather(1, batch.labels[known].unsqueeze(1)).sum()
    loss = build(NextToken()).loss_sum(model, batch)
    assert loss.shape == ()
    torch.testing.assert_close(loss, expected)


def test_sums_gives_nats_and_targets_without_z_loss_or_gradient() -> None:
    """An evaluation is comparable whatever the training adds to the loss."""
    model, batch = Bigrams(), a_batch()
    sums = build(NextToken(z_loss=0.5)).sums(model, batch)
    assert sums["loss"].tolist() == [pytest.approx(build(NextToken()).loss_sum(model, batch).item()), 16.0]


def test_z_loss_adds_squared_log_partitions_of_targets() -> None:
    """Only positions with a label are pulled."""
    model, batch = Bigrams(), a_batch()
    partitions = torch.logsumexp(model.head(model.hidden(batch.ids)), dim=-1)[batch.labels != NO_TARGET]
    added = build(NextToken(z_loss=0.5)).loss_sum(model, batch) - build(NextToken()).loss_sum(model, batch)
    torch.testing.assert_close(added, 0.5 * partitions.square().sum())


def test_loss_sum_without_any_target_is_zero_with_zero_gradient() -> None:
    """A batch of padding alone neither counts nor breaks a step."""
    model, batch = Bigrams(), a_batch()
    loss = build(NextToken(z_loss=0.1)).loss_sum(model, TokenBatch(batch.ids, torch.full_like(batch.labels, NO_TARGET)))
    loss.backward()
    assert loss.item() == 0
    assert model.out.weight.grad is not None
    assert not model.out.weight.grad.any()


def test_loss_sum_under_bfloat16_autocast_is_float32() -> None:
    """Logits may be rough, their sum must not be."""
    model, batch = Bigrams(), a_batch()
    with torch.autocast("cpu", torch.bfloat16):
        loss = build(NextToken()).loss_sum(model, batch)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(build(NextToken()).loss_sum(model, batch).item(), rel=0.01)


@pytest.mark.parametrize("z_loss", [0.0, 0.1])
@pytest.mark.parametrize("positions", [1, 5, 16])
def test_loss_sum_in_parts_equals_the_whole(positions: int, z_loss: float) -> None:
    """Value and gradients; no part of the head sees more positions than asked for."""
    results = []
    for largest in (11 * positions, 10**9):
        model = Bigrams().double()
        loss = NextTokenObjective(NextToken(z_loss=z_loss), largest_logits=largest).loss_sum(model, a_batch())
        loss.backward()
        results.append((loss, model.out.weight.grad, model.table.weight.grad))
        assert model.largest_head == min(16, largest // 11)
    torch.testing.assert_close(results[0], results[1])


def test_sums_in_parts_equals_the_whole() -> None:
    """An evaluation is cut the same way, without a gradient."""
    model = Bigrams()
    parts = NextTokenObjective(NextToken(), largest_logits=22).sums(model, a_batch())["loss"]
    assert model.largest_head == 2
    torch.testing.assert_close(parts, build(NextToken()).sums(model, a_batch())["loss"])


def test_vocabulary_beyond_the_limit_still_goes_one_position_at_a_time() -> None:
    """The limit is a wish; a single position is the least."""
    model = Bigrams()
    loss = NextTokenObjective(NextToken(), largest_logits=1).loss_sum(model, a_batch(1, 2))
    assert math.isfinite(loss.item())
    assert model.largest_head == 1


class Opinionated(Bigrams):
    """Adds to its loss what its embeddings come to, row by row, and reports it."""

    def states(self, ids: Tensor) -> States:
        """As it should be: of the row's own ids alone."""
        hidden = self.hidden(ids)
        rows = hidden.square().mean((1, 2))
        return States(hidden, auxiliary=0.5 * rows, measures={"size": rows})


def test_auxiliary_loss_counts_in_the_gradient_once_a_target_and_not_in_the_value() -> None:
    """What is reported stays the loss of the text; what is minimised has both."""
    model, batch = Opinionated().double(), a_batch()
    loss = build(NextToken()).loss_sum(model, batch)
    loss.backward()
    plain = Bigrams().double()
    nats = build(NextToken()).loss_sum(plain, batch)
    targets = (batch.labels != NO_TARGET).sum(-1)
    added = 0.5 * (plain.hidden(batch.ids).square().mean((1, 2)) * targets).sum()
    (nats + added).backward()
    assert loss.item() == nats.item()
    torch.testing.assert_close(model.table.weight.grad, plain.table.weight.grad)


def test_auxiliary_loss_of_rows_apart_is_that_of_the_rows_together() -> None:
    """Gradients do not tell how rows were spread over micro-batches, however unequal their targets."""
    gradients = []
    for parts in (1, 4):
        model = Opinionated().double()
        for part in a_batch().split(parts):
            build(NextToken()).loss_sum(model, part).backward()
        gradients.append(model.table.weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


def test_sums_reports_what_a_model_measures_as_the_mean_over_rows() -> None:
    """Beside the loss, which stays what it is without."""
    model, batch = Opinionated(), a_batch()
    sums = build(NextToken()).sums(model, batch)
    assert sums["loss"].tolist() == build(NextToken()).sums(Bigrams(), batch)["loss"].tolist()
    total, rows = sums["size"].tolist()
    assert rows == 4
    assert total == pytest.approx(model.states(batch.ids).measures["size"].sum().item())


def weighted(batch: TokenBatch, weights: Tensor) -> TokenBatch:
    """The same batch, each target with a weight; what is no target weighs nothing."""
    return TokenBatch(batch.ids, batch.labels, weights * (batch.labels != NO_TARGET))


def results_of(batch: TokenBatch, z_loss: float = 0.1, largest_logits: int = 10**9) -> tuple[Tensor, ...]:
    """Loss and gradients in float64."""
    model = Bigrams().double()
    loss = NextTokenObjective(NextToken(z_loss=z_loss), largest_logits=largest_logits).loss_sum(model, batch)
    loss.backward()
    return loss.detach(), *(parameter.grad for parameter in model.parameters() if parameter.grad is not None)


def test_targets_of_weighted_labels_is_the_sum_of_their_weights() -> None:
    """The normaliser of a step: a target of weight 2 counts twice."""
    batch = weighted(a_batch(), torch.full((4, 6), 0.5))
    assert build(NextToken()).targets(batch) == 8
    assert build(NextToken()).sums(Bigrams(), batch)["loss"][1] == 8


@pytest.mark.parametrize("largest_logits", [11, 55, 10**9])
def test_weights_of_one_change_nothing(largest_logits: int) -> None:
    """Value and gradients, whole and in parts."""
    batch = weighted(a_batch(), torch.ones(4, 6))
    torch.testing.assert_close(results_of(batch, largest_logits=largest_logits), results_of(a_batch()))


@pytest.mark.parametrize("largest_logits", [11, 55, 10**9])
def test_weighted_loss_is_that_of_labels_given_so_often(largest_logits: int) -> None:
    """A weight of 3 is three targets, one of 0 is none, with z_loss too."""
    generator = torch.Generator().manual_seed(5)
    often = torch.randint(4, (4, 6), generator=generator)
    batch, copies = a_batch(), []
    for more in range(3):
        labels = torch.where(often > more, batch.labels, NO_TARGET)
        copies.append(TokenBatch(batch.ids, labels))
    repeated = [sum(parts) for parts in zip(*map(results_of, copies), strict=True)]
    got = results_of(weighted(batch, often.double()), largest_logits=largest_logits)
    torch.testing.assert_close(list(got), repeated)


def test_auxiliary_loss_counts_once_for_the_weight_of_each_target() -> None:
    """It is added to what is divided by the sum of weights."""
    batch = weighted(a_batch(), torch.full((4, 6), 0.25))
    model = Opinionated().double()
    build(NextToken()).loss_sum(model, batch).backward()
    whole = Opinionated().double()
    build(NextToken()).loss_sum(whole, a_batch()).backward()
    assert model.table.weight.grad is not None
    torch.testing.assert_close(4 * model.table.weight.grad, whole.table.weight.grad)


def test_head_sees_labelled_positions_alone() -> None:
    """Logits that no label asks for are not computed; where each position has a label, nothing is gathered."""
    model, batch = Bigrams(), a_batch()
    build(NextToken()).loss_sum(model, batch)
    assert model.largest_head == 16
    full = TokenBatch(batch.ids, batch.ids)
    build(NextToken()).loss_sum(model, full)
    assert model.largest_head == 24


def test_labelled_positions_that_came_with_the_batch_are_believed() -> None:
    """A device is not asked how many there are: whoever moved the batch there has counted them."""
    batch = a_batch()
    counted = TokenBatch(batch.ids, batch.labels, labelled=torch.arange(24)[batch.labels.flatten() != NO_TARGET][:3])
    model = Bigrams()
    build(NextToken()).loss_sum(model, counted)
    assert model.largest_head == 3


class Separating(Bigrams):
    """Remembers the layout that it was given."""

    layout: Layout | None = None

    def hidden(self, ids: Tensor, layout: Layout | None = None) -> Tensor:
        """As without; a table knows no neighbours."""
        self.layout = layout
        return self.table(ids)


def test_documents_of_a_batch_reach_the_model() -> None:
    """In training and in an evaluation."""
    batch = a_batch()
    positions, documents = torch.arange(6).expand(4, 6) % 3, torch.arange(6).expand(4, 6) // 3
    packed = TokenBatch(batch.ids, batch.labels, positions=positions, documents=documents)
    for ask in (build(NextToken()).loss_sum, build(NextToken()).sums):
        model = Separating()
        ask(model, packed)
        assert model.layout is not None
        assert torch.equal(model.layout.positions, positions)
        assert torch.equal(model.layout.documents, documents)
