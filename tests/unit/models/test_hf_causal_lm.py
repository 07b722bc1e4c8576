"""Models of the transformers library as ours: logits, loss and gradients are the library's own, whatever the runtime."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, Lfm2Config

from ml_playground.core.error_handling import CheckpointError, ConfigError, DataError
from ml_playground.core.values import ModelContext
from ml_playground.data_pipeline.batches import NO_TARGET, TokenBatch
from ml_playground.models.core.hf_causal_lm import HfCausalLmModel, build
from ml_playground.models.core.hf_causal_lm_loading import cost
from ml_playground.models.hugging_face.settings import HfCausalLm
from ml_playground.objectives.next_token import NextTokenObjective
from ml_playground.objectives.settings import NextToken
from ml_playground.training.optim.adamw import build as build_adamw
from ml_playground.training.optim.muon import build as build_muon
from ml_playground.training.settings import AdamW, Muon
from tests.fakes.hugging_face_folders import CONTEXT, MODELS, PADDED, VOCAB, gpt2, saved, settings_of

LENGTH = 12


def some_ids(rows: int = 3, length: int = LENGTH) -> Tensor:
    """Random ids from a fixed seed."""
    return torch.randint(VOCAB, (rows, length), generator=torch.Generator().manual_seed(7))


def loaded(folder: Path, *, settings: HfCausalLm | None = None, **context: Any) -> HfCausalLmModel:
    """The model of a folder, in training mode as the learner has it."""
    facts = {"vocab_size": VOCAB, "sequence_tokens": LENGTH}
    return build(settings or settings_of(folder), ModelContext(facts, **context)).train()


def a_batch() -> TokenBatch:
    """Rows with some positions that are no target."""
    ids = some_ids()
    labels = some_ids().roll(-1, dims=1)
    labels[0, :5] = NO_TARGET
    return TokenBatch(ids, labels)


@pytest.mark.parametrize("attention", ["math", "fused"])
@pytest.mark.parametrize("kind", MODELS)
def test_logits_loss_and_gradients_are_the_librarys_own(kind: str, attention: str, tmp_path: Path) -> None:
    """Through our states and our head in parts, as through its forward and its loss."""
    theirs = saved(kind, tmp_path).train()
    ours = loaded(tmp_path, attention=attention)
    batch = a_batch()
    torch.testing.assert_close(ours(batch.ids), theirs(batch.ids).logits, rtol=1e-5, atol=1e-5)

    # The library shifts labels itself.
    shifted = torch.cat([torch.full((3, 1), NO_TARGET), batch.labels[:, :-1]], dim=1)
    expected = theirs(batch.ids, labels=shifted).loss
    labels = batch.labels.clone()
    labels[:, -1] = NO_TARGET
    loss = NextTokenObjective(NextToken(), largest_logits=7 * ours.vocab_size).loss_sum(
        ours, TokenBatch(batch.ids, labels)
    )
    loss = loss / (labels != NO_TARGET).sum()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    loss.backward()
    expected.backward()
    wanted = dict(theirs.named_parameters())
    found = dict(ours.network.named_parameters())
    assert found.keys() == wanted.keys()
    for name, parameter in wanted.items():
        torch.testing.assert_close(found[name].grad, parameter.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", MODELS)
def test_recomputed_layers_give_the_same_gradients_with_dropout_too(kind: str, tmp_path: Path) -> None:
    """Less memory, the same step: what is dropped is dropped again."""
    saved(kind, tmp_path)
    gradients: list[list[Tensor]] = []
    for recompute in (False, True):
        model = loaded(tmp_path, settings=settings_of(tmp_path, dropout=0.3), activation_checkpointing=recompute)
        torch.manual_seed(5)
        NextTokenObjective(NextToken()).loss_sum(model, a_batch()).backward()
        gradients.append([parameter.grad for parameter in model.parameters() if parameter.grad is not None])
    torch.testing.assert_close(gradients[1], gradients[0])


def test_dropout_is_what_is_set_else_what_the_folder_says(tmp_path: Path) -> None:
    """Two passes in training mode differ where something is dropped, and only there."""
    saved("gpt2", tmp_path / "without")
    saved("gpt2", tmp_path / "with", resid_pdrop=0.5)
    for folder, dropout, drops in (
        ("without", None, False),
        ("with", None, True),
        ("with", 0.0, False),
        ("without", 0.4, True),
    ):
        model = loaded(tmp_path / folder, settings=settings_of(tmp_path / folder, dropout=dropout))
        with torch.no_grad():
            assert torch.equal(model(some_ids()), model(some_ids())) is not drops


def test_weights_in_half_precision_are_trained_in_float32(tmp_path: Path) -> None:
    """Published weights are bfloat16; ours are masters, whose small updates must not be lost."""
    saved("qwen3", tmp_path).to(torch.bfloat16).save_pretrained(tmp_path)
    ours = loaded(tmp_path).eval()
    assert {parameter.dtype for parameter in ours.parameters()} == {torch.float32}
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    torch.testing.assert_close(ours(some_ids()), theirs(some_ids()).logits, rtol=1e-5, atol=1e-5)


def test_weights_in_several_files_are_read_by_their_index(tmp_path: Path) -> None:
    """Large models come in shards."""
    theirs = saved("llama", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    torch.testing.assert_close(loaded(tmp_path)(some_ids()), theirs(some_ids()).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_are_copies_that_no_writer_of_the_file_changes(dtype: torch.dtype, tmp_path: Path) -> None:
    """The library's tensors are windows into the file: a download that begins anew would reach into a training."""
    saved("qwen3", tmp_path).to(dtype).save_pretrained(tmp_path)
    ours = loaded(tmp_path).eval()
    size = (tmp_path / "model.safetensors").stat().st_size
    before = [parameter.detach().clone() for parameter in ours.parameters()]
    with (tmp_path / "model.safetensors").open("r+b") as stream:
        stream.write(b"\0" * size)
    assert all(torch.equal(one, other) for one, other in zip(before, ours.parameters(), strict=True))


@pytest.mark.parametrize("kind", MODELS)
def test_without_pretrained_weights_the_folder_is_not_needed(kind: str, tmp_path: Path) -> None:
    """A checkpoint brings the weights, under names that hold a tied one once; its config is in the job."""
    saved(kind, tmp_path / "base")
    settings = settings_of(tmp_path / "base")
    first = loaded(tmp_path / "base").eval()
    shutil.rmtree(tmp_path / "base")
    again = loaded(tmp_path, settings=HfCausalLm.model_validate_json(settings.model_dump_json()), load_pretrained=False)
    tensors = dict(first.named_parameters())
    assert tensors.keys() == dict(again.named_parameters()).keys()
    again.load_state_dict(tensors, strict=False)
    with torch.no_grad():
        assert torch.equal(again.eval()(some_ids()), first(some_ids()))


@pytest.mark.parametrize("kind", MODELS)
def test_cost_counts_what_is_there(kind: str, tmp_path: Path) -> None:
    """Parameters to the last one; a token costs six operations for each weight it is multiplied by, and attention."""
    saved(kind, tmp_path)
    model = loaded(tmp_path)
    costs = cost(settings_of(tmp_path), {"vocab_size": VOCAB, "sequence_tokens": LENGTH})
    assert costs.parameters == sum(parameter.numel() for parameter in model.parameters())
    matrices = sum(matrix.numel() for matrix in model.hidden_matrices())
    text = model.network.config
    head = text.hidden_size // text.num_attention_heads if kind in {"gpt2", "llama"} else 8
    attention = 12 * 2 * 4 * head * LENGTH
    assert costs.matrix_parameters == matrices
    assert costs.flops_per_token == 6 * (matrices + text.vocab_size * 16) + attention
    assert costs.vocab_size == (PADDED if kind == "llama" else VOCAB)


@pytest.mark.parametrize("kind", MODELS)
def test_weights_decay_and_gains_do_not_and_muon_has_the_matrices_between_states(kind: str, tmp_path: Path) -> None:
    """Tables of tokens and positions, the output layer, gains and biases are AdamW's."""
    saved(kind, tmp_path)
    model = loaded(tmp_path)
    decay, plain = build_adamw(AdamW(weight_decay=0.1), model, torch.float32)._parts
    assert (decay._rule._weight_decay, plain._rule._weight_decay) == (0.1, 0.0)
    assert all(parameter.ndim > 1 for parameter in decay.flat.parameters.values())
    assert all("norm" in name or "ln_" in name or "bias" in name for name in plain.flat.parameters)
    *_, muon = build_muon(Muon(), loaded(tmp_path), torch.float32)._parts
    parts = ("attn", "mlp", "self_attn")
    assert muon.flat.parameters
    assert all(any(f".{part}." in name for part in parts) for name in muon.flat.parameters)
    assert not any(
        "wte" in name or "wpe" in name or "embed" in name or "lm_head" in name for name in muon.flat.parameters
    )


def test_optimizers_move_the_weights_of_the_network_in_place(tmp_path: Path) -> None:
    """Their flat memory is the network's own, tied weights included."""
    saved("gemma", tmp_path)
    model = loaded(tmp_path)
    optimizer = build_adamw(AdamW(lr=0.1), model, torch.float32)
    before = model(some_ids()).detach().clone()
    for gradient in optimizer.gradients.values():
        gradient.fill_(1.0)
    optimizer.step(1.0)
    assert not torch.allclose(model(some_ids()), before)
    assert model.network.lm_head.weight.data_ptr() == model.network.model.embed_tokens.weight.data_ptr()


def test_vocabulary_smaller_than_the_datas_is_refused(tmp_path: Path) -> None:
    """Ids beyond the table would read foreign memory; a larger vocabulary is padding and fits."""
    saved("gpt2", tmp_path)
    with pytest.raises(
        ConfigError, match=rf"vocabulary of {VOCAB + 1}, but the model in .* knows {VOCAB} ids; prepare with its own"
    ):
        build(settings_of(tmp_path), ModelContext({"vocab_size": VOCAB + 1, "sequence_tokens": LENGTH}))


def test_sequences_longer_than_the_positions_are_refused(tmp_path: Path) -> None:
    """Before anything starts, and in the model itself."""
    saved("gpt2", tmp_path)
    with pytest.raises(ConfigError, match=rf"data.sequence_tokens = 33 is longer than .* at once, {CONTEXT}; use"):
        build(settings_of(tmp_path), ModelContext({"vocab_size": VOCAB, "sequence_tokens": 33}))
    with pytest.raises(DataError, match=rf"reads at most {CONTEXT} tokens .* got rows of 33"):
        loaded(tmp_path).hidden(some_ids(1, 33))


def test_folder_that_changed_since_the_job_was_read_is_refused(tmp_path: Path) -> None:
    """The record would name another base than the one that was trained."""
    saved("gpt2", tmp_path)
    settings = settings_of(tmp_path)
    saved("gpt2", tmp_path, seed=1)
    assert settings_of(tmp_path).config == settings.config
    assert settings_of(tmp_path).files_sha256 != settings.files_sha256
    with pytest.raises(ConfigError, match=r"are not those that the job names \(model.files_sha256\)"):
        loaded(tmp_path, settings=settings)


def test_tensors_of_another_shape_or_missing_are_named(tmp_path: Path) -> None:
    """The library would fill them with random numbers and go on."""
    saved("gpt2", tmp_path)
    gpt2(n_layer=3, n_inner=32).config.save_pretrained(tmp_path)
    with pytest.raises(
        CheckpointError, match=r"do not fit its config.json: .*h\.2\..* is missing.*Get the folder anew"
    ):
        loaded(tmp_path)


def test_tensors_apart_that_config_json_ties_are_refused(tmp_path: Path) -> None:
    """The library trains them apart, and checkpoints of that fit no model that config.json describes."""
    saved("llama", tmp_path)
    changed_config(tmp_path, tie_word_embeddings=True)
    with pytest.raises(
        CheckpointError,
        match=r"lm_head\.weight is tied .* hold both, with different values.*tie_word_embeddings = false",
    ):
        loaded(tmp_path)


def test_model_that_reads_no_token_is_refused(tmp_path: Path) -> None:
    """Else rows of the data were said to be too long for it."""
    saved("llama", tmp_path)
    changed_config(tmp_path, max_position_embeddings=0)
    with pytest.raises(
        ConfigError, match=r"max_position_embeddings = 0 in config\.json: a model reads one token at least"
    ):
        loaded(tmp_path)


def changed_config(folder: Path, **fields: Any) -> None:
    """The config.json of a folder with other values."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


def test_dropout_of_an_architecture_without_any_is_refused(tmp_path: Path) -> None:
    """A setting without effect is a bug."""
    saved("gpt2", tmp_path)
    Lfm2Config(num_hidden_layers=1).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"model.dropout = 0.1 has no effect: models of type 'lfm2' have no dropout"):
        loaded(tmp_path, settings=settings_of(tmp_path, dropout=0.1))
