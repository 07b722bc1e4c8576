"""Embeddings of token pairs: which row a pair has, on every machine, and what the first token gets."""

import pytest
import torch

from ml_playground.core.error_handling import ConfigError
from ml_playground.models.layers.bigram import NO_TOKEN, pair_rows, previous_of
from ml_playground.models.settings import Gpt
from ml_playground.models.weights.hugging_face import layout_for
from tests.unit.models.test_gpt import LENGTH, VOCAB, model_of, roughened, some_ids


def all_pairs(vocab: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Every (previous, current), a missing predecessor among them."""
    return torch.arange(vocab).repeat(vocab + 1), torch.arange(NO_TOKEN, vocab).repeat_interleave(vocab)


@pytest.mark.parametrize("vocab", [1, 2, 65])
def test_pairs_that_fit_have_each_a_row_of_its_own(vocab: int) -> None:
    """No collision where there is room, and no row is left over."""
    room = (vocab + 1) * vocab
    rows = pair_rows(*all_pairs(vocab), vocab_size=vocab, rows=room)
    assert sorted(rows.tolist()) == list(range(room))


@pytest.mark.parametrize("rows", [1000, 16_384, 50_021, 65_536])
def test_hashed_pairs_spread_like_random_draws(rows: int) -> None:
    """How full the rows are scatters as chance has it: by a variance equal to the mean."""
    vocab = 600
    filled = torch.bincount(pair_rows(*all_pairs(vocab), vocab_size=vocab, rows=rows), minlength=rows).double()
    assert len(filled) == rows
    assert (filled.var() / filled.mean()).item() == pytest.approx(1, abs=0.2)


def test_hash_is_the_same_on_every_machine() -> None:
    """A checkpoint means the same rows wherever it is opened; the numbers were worked out with Python's own integers."""
    ids = torch.tensor([0, 1, 50_256, 50_256, 300_000, 2**31 - 2])
    previous = torch.tensor([NO_TOKEN, 0, 50_256, NO_TOKEN, 299_999, 2**31 - 2])

    def by_hand(current: int, before: int) -> int:
        mixed = (before + 1) * 0x85EBCA6B
        mixed = ((mixed ^ (mixed >> 15) ^ current) & 0x7FFFFFFF) * 0xC2B2AE35
        return (mixed ^ (mixed >> 16)) % 65_536

    rows = pair_rows(ids, previous, vocab_size=2**31 - 1, rows=65_536).tolist()
    assert rows == [by_hand(*pair) for pair in zip(ids.tolist(), previous.tolist(), strict=True)]
    assert rows == [0, 10899, 46917, 41383, 6882, 24833]


def test_first_token_of_a_row_has_no_predecessor() -> None:
    """A window may begin anywhere in a text, so nothing is guessed."""
    ids = torch.tensor([[4, 5, 6], [7, 8, 9]])
    assert previous_of(ids).tolist() == [[NO_TOKEN, 4, 5], [NO_TOKEN, 7, 8]]


@pytest.mark.parametrize("rows", [100, 10_000])
def test_input_is_the_sum_of_token_and_pair(rows: int) -> None:
    """With blocks that are the identity, the logits come from that sum alone."""
    model = model_of(bigram_rows=rows, zero_init=True, position="rotary")
    table = model.bigram_embedding
    assert table is not None
    with torch.no_grad():
        table.weight.normal_()
    ids = some_ids()
    pairs = pair_rows(ids, previous_of(ids), vocab_size=VOCAB, rows=len(table.weight))
    expected = model.head(model.final_norm(model.token_embedding(ids) + table.weight[pairs]))
    torch.testing.assert_close(model(ids), expected)


def test_table_is_never_larger_than_there_are_pairs() -> None:
    """Memory is for rows that can be reached."""
    sizes = {
        rows: table.weight.shape
        for rows in (1, 100, 1000)
        if (table := model_of(bigram_rows=rows).bigram_embedding) is not None
    }
    assert sizes == {1: (1, 16), 100: (100, 16), 1000: ((VOCAB + 1) * VOCAB, 16)}
    assert model_of().bigram_embedding is None


def test_generation_remembers_the_last_token_between_steps() -> None:
    """Without it, the second step would see a token without a predecessor."""
    model = roughened(model_of(bigram_rows=1000).double())
    ids = some_ids()
    decoder = model.decoder("float32")
    state = decoder.new_state(len(ids), LENGTH)
    decoder.step(ids[:, :4], state)
    torch.testing.assert_close(state.last, ids[:, 3])
    torch.testing.assert_close(decoder.step(ids[:, 4:5], state), model(ids[:, :5])[:, -1], rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen3"])
def test_export_with_a_table_of_pairs_is_refused(kind: str) -> None:
    """What is shipped must be what was trained; no layout there has such a table."""
    settings = Gpt(n_layer=1, n_head=1, n_embd=8, bigram_rows=64)
    with pytest.raises(ConfigError, match=rf"{kind}: .*model.bigram_rows = 64 \(it has 0\)"):
        layout_for(settings)
