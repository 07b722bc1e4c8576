"""Laws of model and objective over drawn shapes, in float64."""

from functools import cache

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ml_playground.core.values import ModelContext
from ml_playground.data_pipeline.batches import NO_TARGET, TokenBatch
from ml_playground.models.core.gpt import GptModel, build
from ml_playground.models.settings import Gpt
from ml_playground.objectives.next_token import NextTokenObjective
from ml_playground.objectives.settings import NextToken

VOCAB, LENGTH = 7, 6


@cache
def model() -> GptModel:
    """Two blocks in float64, rotary and grouped, the first with a window, with experts and hashed token pairs, roughened."""
    torch.manual_seed(0)
    chosen = Gpt(
        n_layer=2, n_head=2, n_kv_head=1, n_embd=8, position="rotary", norm="rms_norm", qk_norm=True,
        feed_forward="swiglu", bias=False, n_inner=8, bigram_rows=20, attention_window=3, full_attention_every=2,
        n_expert=3, expert_balance=0.5, expert_z_loss=0.1,
    )  # fmt: skip
    made = build(chosen, ModelContext({"vocab_size": VOCAB, "sequence_tokens": LENGTH})).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return made


ids = st.lists(st.integers(0, VOCAB - 1), min_size=LENGTH, max_size=LENGTH)
labels = st.lists(st.one_of(st.just(NO_TARGET), st.integers(0, VOCAB - 1)), min_size=LENGTH, max_size=LENGTH)
batches = st.lists(st.tuples(ids, labels), min_size=1, max_size=5).map(
    lambda rows: TokenBatch(torch.tensor([row[0] for row in rows]), torch.tensor([row[1] for row in rows]))
)
objectives = st.builds(
    lambda z, largest: NextTokenObjective(NextToken(z_loss=z), largest_logits=largest),
    st.sampled_from([0.0, 0.01]),
    st.integers(1, VOCAB * LENGTH * 6),
)


def gradient(objective: NextTokenObjective, parts: list[TokenBatch]) -> tuple[float, list[Tensor]]:
    """Loss and gradients, summed over the parts."""
    model().zero_grad()
    total = 0.0
    for part in parts:
        loss = objective.loss_sum(model(), part)
        loss.backward()
        total += loss.item()
    return total, [parameter.grad.clone() for parameter in model().parameters() if parameter.grad is not None]


@settings(max_examples=25)
@given(batches, objectives, st.data())
def test_loss_sum_of_a_split_batch_is_the_sum_of_its_parts(
    batch: TokenBatch, objective: NextTokenObjective, data: st.DataObject
) -> None:
    """Accumulating, and cutting the logits into parts, must not change loss or gradients, however labels are spread."""
    cut = data.draw(st.integers(1, len(batch.ids)))
    rows = [TokenBatch(a, b) for a, b in zip(batch.ids.split(cut), batch.labels.split(cut), strict=True)]
    whole = NextTokenObjective(NextToken(z_loss=objective._z_loss))
    torch.testing.assert_close(gradient(objective, rows), gradient(whole, [batch]), rtol=1e-10, atol=1e-12)
    assert sum(objective.targets(part) for part in rows) == whole.targets(batch)


@given(batches)
def test_labels_that_are_no_target_do_not_count(batch: TokenBatch) -> None:
    """Removing the labels of some rows leaves the loss of the others."""
    objective = NextTokenObjective(NextToken())
    silent = batch.labels.clone()
    silent[1:] = NO_TARGET
    with torch.no_grad():
        first = objective.loss_sum(model(), TokenBatch(batch.ids[:1], batch.labels[:1]))
        torch.testing.assert_close(objective.loss_sum(model(), TokenBatch(batch.ids, silent)), first)


@given(batches, st.data())
def test_steps_cut_anywhere_with_any_padding_end_in_equal_logits(batch: TokenBatch, data: st.DataObject) -> None:
    """Cached generation equals the uncached one, for every row its own padding and for any cut of the tokens."""
    rows = len(batch.ids)
    starts = data.draw(st.lists(st.integers(0, LENGTH - 1), min_size=rows, max_size=rows))
    sizes: list[int] = []
    while sum(sizes) < LENGTH:
        sizes.append(data.draw(st.integers(1, LENGTH - sum(sizes))))
    decoder = model().decoder("float32")
    state = decoder.new_state(rows, LENGTH, torch.tensor(starts))
    for part in torch.split(batch.ids, sizes, dim=1):
        logits = decoder.step(part, state)
    with torch.no_grad():
        for row, start in enumerate(starts):
            torch.testing.assert_close(logits[row], model()(batch.ids[row : row + 1, start:])[0, -1])
