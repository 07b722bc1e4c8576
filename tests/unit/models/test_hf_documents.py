"""Chats through models of the transformers library: padded and packed, loss and gradients are those of its own classes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    BertConfig,
    BertLMHeadModel,
    DogeConfig,
    DogeForCausalLM,
    Lfm2Config,
    Lfm2ForCausalLM,
    PreTrainedModel,
)

from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.core.values import ModelContext
from ml_playground.models.core.hf_causal_lm import HfCausalLmModel, build
from ml_playground.models.core.hf_causal_lm_attention import NAMES
from ml_playground.models.protocols import Layout
from tests.fakes.chat_rows import (
    Chat,
    gradients_of,
    librarys_loss,
    librarys_padded_loss,
    our_loss,
    packed,
    padded,
    some_chats,
)
from tests.fakes.hugging_face_folders import CONTEXT, MODELS, MODERN, SPECIALS, VOCAB, saved, settings_of, tokenizer_of

ALIKE = {"rtol": 1e-5, "atol": 1e-5}


def loaded(folder: Path, **context: Any) -> HfCausalLmModel:
    """The model of a folder, in training mode as the learner has it."""
    return build(
        settings_of(folder), ModelContext({"vocab_size": VOCAB, "sequence_tokens": CONTEXT}, **context)
    ).train()


def two_rows(chats: list[Chat]) -> list[list[Chat]]:
    """Four chats as a packer might lay them."""
    return [[chats[0], chats[1], chats[2]], [chats[3]]]


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("attention", ["math", "fused"])
@pytest.mark.parametrize("kind", MODELS)
def test_chats_give_the_librarys_own_loss_and_gradients(
    kind: str, attention: str, recompute: bool, tmp_path: Path
) -> None:
    """Padded as it pads them, and packed as if each were alone; where layers are recomputed, too."""
    theirs = saved(kind, tmp_path).train()
    ours = loaded(tmp_path, attention=attention, activation_checkpointing=recompute)
    chats = some_chats(VOCAB)
    expected = librarys_loss(theirs, chats)
    wanted = gradients_of(expected, theirs)
    torch.testing.assert_close(librarys_padded_loss(theirs, chats), expected, **ALIKE)
    for batch in (padded(chats), packed(two_rows(chats)), packed([chats])):
        loss = our_loss(ours, batch)
        torch.testing.assert_close(loss, expected, **ALIKE)
        torch.testing.assert_close(gradients_of(loss, ours.network), wanted, **ALIKE)


@pytest.mark.parametrize("kind", MODELS)
def test_documents_are_told_apart_in_a_compiled_model(kind: str, tmp_path: Path) -> None:
    """By masks, as on a GPU."""
    saved(kind, tmp_path)
    ours = loaded(tmp_path)
    batch = packed(two_rows(some_chats(VOCAB)))
    assert batch.positions is not None
    assert batch.documents is not None
    layout = Layout(batch.positions, batch.documents)
    expected = ours.hidden(batch.ids, layout)
    ours._way = "masked"
    torch.testing.assert_close(ours.hidden(batch.ids, layout), expected, **ALIKE)


def test_bfloat16_reads_documents_apart_too(tmp_path: Path) -> None:
    """Products in bfloat16 are rounded; documents still do not see each other."""
    saved("qwen3", tmp_path)
    chats = some_chats(VOCAB)
    batch = packed([chats])
    assert batch.positions is not None
    assert batch.documents is not None
    ours = loaded(tmp_path)
    with torch.autocast("cpu", torch.bfloat16):
        first = ours.hidden(batch.ids, Layout(batch.positions, batch.documents))
        other = batch.ids.clone()
        other[:, : len(chats[0].ids)] = 5
        second = ours.hidden(other, Layout(batch.positions, batch.documents))
    assert ours._way == "alone"
    beyond = len(chats[0].ids)
    assert torch.equal(first[:, beyond:], second[:, beyond:])
    assert not torch.equal(first[:, :beyond], second[:, :beyond])


def lfm2(folder: Path) -> None:
    """Half of its layers are short convolutions over the row, which know nothing of documents."""
    config = Lfm2Config(
        **SPECIALS | MODERN | {"block_auto_adjust_ff_dim": False, "layer_types": ["conv", "full_attention"]}
    )
    torch.manual_seed(0)
    model = Lfm2ForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)
    tokenizer_of("lfm2").save_pretrained(folder)


def test_architecture_that_mixes_documents_is_refused(tmp_path: Path) -> None:
    """In words, before a step is taken; in rows of their own it trains as ever."""
    lfm2(tmp_path)
    ours = loaded(tmp_path)
    batch = packed(two_rows(some_chats(VOCAB)))
    with pytest.raises(
        ConfigError, match="Lfm2ForCausalLM lets several documents of a row see each other; use data that keep"
    ):
        our_loss(ours, batch)
    assert our_loss(ours, padded(some_chats(VOCAB))).isfinite()
    assert ours.training


def read_apart_and_by_themselves(network: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """States of two documents in one row, and of the same each in a row of its own; weights far from zero."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    ours = HfCausalLmModel(network, known_ids=VOCAB, vocab_size=VOCAB, max_context=CONTEXT).eval()
    one, two = torch.arange(3, 12)[None], torch.arange(20, 14, -1)[None]
    lengths = torch.tensor([one.shape[1], two.shape[1]])
    positions = torch.cat([torch.arange(int(length)) for length in lengths])[None]
    together = ours.hidden(
        torch.cat([one, two], 1), Layout(positions, torch.arange(2).repeat_interleave(lengths)[None])
    )
    return together, torch.cat([ours.hidden(one), ours.hidden(two)], 1)


def test_architecture_whose_layers_add_to_the_mask_keeps_what_they_add() -> None:
    """Doge's make likelier which keys are read: documents without that would be apart, and of another model."""
    config = DogeConfig(
        **SPECIALS | {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    )
    config._attn_implementation = NAMES["math"]
    together, by_themselves = read_apart_and_by_themselves(DogeForCausalLM(config))
    torch.testing.assert_close(together, by_themselves, **ALIKE)


def test_architecture_that_reads_what_follows_is_refused() -> None:
    """Causal attention in packed rows would be another model than the one that reads a row by itself."""
    config = BertConfig(
        **SPECIALS | {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    )
    config._attn_implementation = NAMES["math"]
    with pytest.raises(ConfigError, match="BertLMHeadModel lets several documents of a row see each other"):
        read_apart_and_by_themselves(BertLMHeadModel(config))


def test_documents_may_be_longer_together_than_the_context(tmp_path: Path) -> None:
    """What bounds a document is its own length."""
    theirs = saved("gpt2", tmp_path).train()
    ours = loaded(tmp_path)
    chats = some_chats(VOCAB, (CONTEXT, 9, CONTEXT - 3))
    torch.testing.assert_close(our_loss(ours, packed([chats])), librarys_loss(theirs, chats), **ALIKE)
    with pytest.raises(DataError, match=f"reads at most {CONTEXT} tokens .*got rows of {CONTEXT + 1}; shorten them"):
        our_loss(ours, packed([some_chats(VOCAB, (CONTEXT + 1, 4))]))


def kept_for_the_way_back(model: HfCausalLmModel, ids: Tensor) -> int:
    """Numbers in tensors that a forward pass saves."""
    sizes: list[int] = []

    def count(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        model.hidden(ids)
    return sum(sizes)


@pytest.mark.parametrize("kind", MODELS)
def test_recomputed_layers_keep_fewer_numbers(kind: str, tmp_path: Path) -> None:
    """The setting has its effect: the inputs of layers alone are kept."""
    saved(kind, tmp_path)
    ids = padded(some_chats(VOCAB)).ids
    kept = [kept_for_the_way_back(loaded(tmp_path, activation_checkpointing=some), ids) for some in (False, True)]
    assert kept[1] < kept[0] / 2
