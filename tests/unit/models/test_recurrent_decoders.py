"""Drawing from recurrent models: states of constant size, invisible padding, the same texts as without a state."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from ml_playground.configuration.sample_settings import SampleSettings
from ml_playground.core.error_handling import DataError
from ml_playground.models.layers.packed_linear import Precision
from ml_playground.sampling.generate import generate, generate_uncached
from tests.unit.models.test_recurrent_models import LENGTH, VARIANTS, VOCAB, model_of, roughened, some_ids

DIVERGENCE: dict[Precision, float] = {"float32": 1e-6, "bfloat16": 2e-3, "int8": 1e-2}
"""Nats between the distributions of model and decoder, at most."""
PROMPTS = [[1, 2, 3, 4, 5, 6, 7, 8, 9], [4], [11, 3, 11], list(range(17))]


def stepwise(model: Any, ids: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    """Logits (B, steps, V) after each of the steps, which take `sizes` tokens."""
    decoder = model.decoder("float32")
    state = decoder.new_state(ids.shape[0], ids.shape[1])
    return torch.stack([decoder.step(part, state) for part in torch.split(ids, list(sizes), dim=1)], dim=1)


@pytest.mark.parametrize("sizes", [[1] * LENGTH, [LENGTH], [5, 1, 1, 4, 1]])
@pytest.mark.parametrize("variant", VARIANTS)
def test_steps_of_any_size_give_the_logits_of_the_full_forward(variant: str, sizes: list[int]) -> None:
    """The carried state is a matter of speed alone."""
    model = roughened(model_of(variant)).double()
    ends = torch.tensor(sizes).cumsum(0) - 1
    torch.testing.assert_close(stepwise(model, some_ids(), sizes), model(some_ids())[:, ends], rtol=0, atol=1e-9)


@pytest.mark.parametrize("sizes", [[7], [2, 4, 1], [1] * 7])
@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_padded_on_the_left_equal_their_own_runs(variant: str, sizes: list[int]) -> None:
    """Prompts of unequal length share a batch without knowing of each other or of the padding, however it is cut."""
    model = roughened(model_of(variant)).double()
    starts, new = [4, 0, 2], 4
    rows = some_ids(3, 7 + new)
    padded = rows.clone()
    for row, start in enumerate(starts):
        padded[row, :start] = 0
    decoder = model.decoder("float32")
    state = decoder.new_state(3, 7 + new, torch.tensor(starts))
    together = [decoder.step(part, state) for part in torch.split(padded, [*sizes, *[1] * new], dim=1)][-new - 1 :]
    for row, start in enumerate(starts):
        alone = model(rows[row : row + 1, start:])[0]
        torch.testing.assert_close(torch.stack(together)[:, row], alone[-new - 1 :], rtol=0, atol=1e-9)


@pytest.mark.parametrize("precision", DIVERGENCE)
@pytest.mark.parametrize("variant", VARIANTS)
def test_decoder_at_each_precision_predicts_what_the_model_predicts(variant: str, precision: Precision) -> None:
    """A lower precision may cost this much and no more."""
    model = model_of(variant)
    ids = some_ids()
    with torch.no_grad():
        expected = model(ids).log_softmax(-1)
        found = model.decoder(precision).logits(ids).float().log_softmax(-1)
    assert float((expected.exp() * (expected - found)).sum(-1).mean()) < DIVERGENCE[precision]


@pytest.mark.parametrize("variant", VARIANTS)
def test_state_has_one_size_however_long_the_text(variant: str) -> None:
    """What a transformer's cache cannot: nothing grows with the tokens seen, and no end comes."""
    model = model_of(variant)
    decoder = model.decoder("float32")
    state = decoder.new_state(2, 4)
    sizes = []
    for length in (1, 100, 1):
        decoder.step(some_ids(2, length), state)
        sizes.append(sum(part.numel() for layer in state.layers for part in layer))
    assert sizes[0] == sizes[1] == sizes[2]
    assert (model.max_context, decoder.max_context) == (None, None)


@pytest.mark.parametrize("variant", VARIANTS)
def test_decoder_is_a_snapshot(variant: str) -> None:
    """What is learnt later in layers and gates is another decoder's."""
    model = roughened(model_of(variant))
    decoder = model.decoder("float32")
    before = decoder.logits(some_ids())
    with torch.no_grad():
        for matrix in model.hidden_matrices():
            matrix.mul_(3)
    assert not torch.allclose(model.decoder("float32").logits(some_ids()), before)


def talkative(variant: str) -> Any:
    """A model in float64 whose matrices are so large that its texts vary."""
    model = model_of(variant).double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(generator=torch.Generator().manual_seed(parameter.numel()))
    return model


def texts(how: Any, model: Any, prompts: list[list[int]], seeds: list[int], temperature: float) -> list[list[int]]:
    """All tokens of each row."""
    rows: list[list[int]] = [[] for _ in prompts]
    way = model.decoder("float32") if how is generate else model
    settings = SampleSettings(max_new_tokens=20, temperature=temperature)
    for tokens in how(way, prompts, settings, seeds=seeds):
        for token in tokens:
            rows[token.row].append(token.id)
    return rows


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("variant", VARIANTS)
def test_texts_with_a_state_equal_those_without_in_a_batch_and_alone(variant: str, temperature: float) -> None:
    """A seed means one text: carried or computed anew, whatever else is in the batch."""
    model, seeds = talkative(variant), [0, 1, 2, 3]
    together = texts(generate, model, PROMPTS, seeds, temperature)
    assert together == texts(generate_uncached, model, PROMPTS, seeds, temperature)
    alone = [texts(generate, model, [prompt], [row], temperature)[0] for row, prompt in enumerate(PROMPTS)]
    assert together == alone
    assert len({token for row in together for token in row}) > 3


def test_step_with_other_rows_or_without_tokens_raises() -> None:
    """A state belongs to its rows, and there must be a last token to go on from."""
    decoder = model_of("lstm").decoder("float32")
    with pytest.raises(DataError, match=r"made for 2 rows, but 3 rows of ids came; make a new state"):
        decoder.step(some_ids(3, 1), decoder.new_state(2, 4))
    with pytest.raises(DataError, match="at least one token in each row, got none"):
        decoder.step(some_ids(1, 0), decoder.new_state(1, 4))


@pytest.mark.parametrize("starts", [[0], [-1, 0], [0, 6]])
def test_new_state_with_impossible_starts_raises(starts: list[int]) -> None:
    """One number a row, inside the row."""
    with pytest.raises(DataError, match="one number from 0 to 5 for each of 2 rows, got"):
        model_of("min_gru").decoder("float32").new_state(2, 6, torch.tensor(starts))


def test_logits_of_the_decoder_are_those_of_the_vocabulary() -> None:
    """Sampling reads the width from the decoder."""
    decoder = model_of("gru").decoder("float32")
    assert decoder.logits(some_ids()).shape == (*some_ids().shape, VOCAB)
    assert decoder.vocab_size == VOCAB
