"""Generation with a cache: in whatever steps, with whatever padding, the logits are those of the whole context."""

from collections.abc import Sequence

import pytest
import torch

from ml_playground.core.error_handling import DataError
from ml_playground.models.core.gpt import GptModel
from tests.unit.models.test_gpt import LENGTH, VARIANTS, VOCAB, model_of, roughened, some_ids


def stepwise(model: GptModel, ids: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    """Logits (B, steps, V) after each of the steps, which take `sizes` tokens."""
    decoder = model.decoder("float32")
    state = decoder.new_state(ids.shape[0], ids.shape[1])
    return torch.stack([decoder.step(part, state) for part in torch.split(ids, list(sizes), dim=1)], dim=1)


@pytest.mark.parametrize("sizes", [[1] * LENGTH, [LENGTH], [5, 1, 1, 4, 1]])
@pytest.mark.parametrize("variant", VARIANTS)
def test_steps_of_any_size_give_the_logits_of_the_full_forward(variant: str, sizes: list[int]) -> None:
    """The cache is a matter of speed alone."""
    model = roughened(model_of(**VARIANTS[variant]).double())
    ends = torch.tensor(sizes).cumsum(0) - 1
    torch.testing.assert_close(stepwise(model, some_ids(), sizes), model(some_ids())[:, ends], rtol=0, atol=1e-9)


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_padded_on_the_left_equal_their_own_runs(variant: str) -> None:
    """Prompts of unequal length share a batch without knowing of each other or of the padding."""
    model = roughened(model_of(**VARIANTS[variant]).double())
    lengths, prompt, new = [3, 7, 5], 7, 4
    rows = some_ids(3, prompt + new)
    padded = rows.clone()
    for row, length in enumerate(lengths):
        padded[row, : prompt - length] = 0
    starts = torch.tensor([prompt - length for length in lengths])
    decoder = model.decoder("float32")
    state = decoder.new_state(3, prompt + new, starts)
    together = [decoder.step(padded[:, :prompt], state)]
    together += [decoder.step(padded[:, at : at + 1], state) for at in range(prompt, prompt + new)]
    for row, start in enumerate(starts.tolist()):
        alone = model(rows[row : row + 1, start:])[0]
        torch.testing.assert_close(torch.stack(together)[:, row], alone[-new - 1 :], rtol=0, atol=1e-9)


def test_padded_rows_in_several_long_steps_equal_one() -> None:
    """A step may bring more than one token at any time, even some padding."""
    model = roughened(model_of(**VARIANTS["qwen3"]).double()).decoder("float32")
    starts = torch.tensor([0, 4])
    ids = some_ids(2, 10)
    whole, parts = model.new_state(2, 10, starts), model.new_state(2, 10, starts)
    expected = model.step(ids, whole)
    model.step(ids[:, :2], parts)
    model.step(ids[:, 2:7], parts)
    torch.testing.assert_close(model.step(ids[:, 7:], parts), expected, rtol=0, atol=1e-9)


def test_padding_may_exceed_what_the_model_reads() -> None:
    """Only real tokens count against block_size."""
    model = model_of()
    starts = torch.tensor([4, 5])
    decoder = model.decoder("float32")
    state = decoder.new_state(2, LENGTH + 4, starts)
    ids = some_ids(2, LENGTH + 4)
    torch.testing.assert_close(decoder.step(ids, state)[0], model(ids[:1, 4:])[0, -1])


def test_step_records_no_gradient_and_reserves_once() -> None:
    """The cache's memory is the same before and after."""
    model = model_of().decoder("float32")
    state = model.new_state(1, LENGTH)
    places = [tensor.data_ptr() for tensor in state.blocks]
    logits = model.step(some_ids(1, 3), state)
    assert logits.shape == (1, VOCAB)
    assert not logits.requires_grad
    assert state.seen == 3
    assert places == [tensor.data_ptr() for tensor in state.blocks]


def test_state_of_a_window_keeps_no_more_than_the_window() -> None:
    """However long a text becomes; blocks that attend to everything keep everything."""
    decoder = model_of(attention_window=3, full_attention_every=2, n_layer=4).decoder("float32")
    assert [block.shape[2] for block in decoder.new_state(1, LENGTH).blocks] == [3, LENGTH, 3, LENGTH]
    assert [block.shape[2] for block in decoder.new_state(1, 2).blocks] == [2, 2, 2, 2]


def test_step_beyond_the_reserved_positions_raises() -> None:
    """The message says how much to reserve."""
    model = model_of().decoder("float32")
    state = model.new_state(1, 4)
    model.step(some_ids(1, 3), state)
    with pytest.raises(
        DataError, match=r"reserves 4 positions and has seen 3, so 2 more do not fit; reserve at least 5"
    ):
        model.step(some_ids(1, 2), state)


def test_step_with_another_number_of_rows_raises() -> None:
    """A cache belongs to its rows."""
    model = model_of().decoder("float32")
    with pytest.raises(DataError, match=r"made for 2 rows, but 3 rows of ids came"):
        model.step(some_ids(3, 1), model.new_state(2, 4))


def test_step_without_tokens_raises() -> None:
    """There is no last token to go on from."""
    model = model_of().decoder("float32")
    with pytest.raises(DataError, match="at least one token in each row"):
        model.step(some_ids(1, 0), model.new_state(1, 4))


def test_new_state_longer_than_block_size_raises() -> None:
    """Positions beyond block_size do not exist."""
    with pytest.raises(DataError, match=r"at most block_size = 12 tokens, but 13 were asked for; shorten the prompt"):
        model_of().decoder("float32").new_state(1, LENGTH + 1)


@pytest.mark.parametrize("starts", [[0], [-1, 0], [0, 6]])
def test_new_state_with_impossible_starts_raises(starts: list[int]) -> None:
    """One number a row, inside the row."""
    with pytest.raises(DataError, match="one number from 0 to 5 for each of 2 rows, got"):
        model_of().decoder("float32").new_state(2, 6, torch.tensor(starts))
