"""Weights from and to transformers: the same logits there and here, both ways."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from ml_playground.core.values import ModelContext
from ml_playground.models.core.gpt import GptModel, build
from ml_playground.models.settings import Gpt
from ml_playground.models.weights.hugging_face import load_hugging_face, to_hugging_face
from tests.unit.models.test_gpt import LENGTH, VARIANTS, VOCAB, model_of, roughened, some_ids

GPT2_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB, "n_positions": 20, "n_embd": 16, "n_layer": 2, "n_head": 4, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
MODERN_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB, "max_position_embeddings": 20, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 4, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip


def gpt2(**options: Any) -> PreTrainedModel:
    """A random GPT-2."""
    return GPT2LMHeadModel(GPT2Config(**GPT2_SIZES | options))


def llama(**options: Any) -> PreTrainedModel:
    """A random Llama."""
    return LlamaForCausalLM(LlamaConfig(**MODERN_SIZES | options))


def qwen3(**options: Any) -> PreTrainedModel:
    """A random Qwen3, its heads wider than the usual ones."""
    return Qwen3ForCausalLM(Qwen3Config(**MODERN_SIZES | {"head_dim": 8} | options))


THEIRS = {
    "gpt2": gpt2,
    "gpt2_untied": lambda: gpt2(tie_word_embeddings=False, n_inner=24, activation_function="gelu"),
    "gpt2_relu2": lambda: gpt2(activation_function="relu2", layer_norm_epsilon=1e-3),
    "llama": lambda: llama(num_key_value_heads=2),
    "llama_tied": lambda: llama(tie_word_embeddings=True, attention_bias=True, mlp_bias=True),
    "llama_theta": lambda: llama(
        num_key_value_heads=1, rope_parameters={"rope_type": "default", "rope_theta": 500.0}, rms_norm_eps=1e-3
    ),
    "qwen3": lambda: qwen3(num_key_value_heads=2),
    "qwen3_tied": lambda: qwen3(num_key_value_heads=4, tie_word_embeddings=True, head_dim=4),
}


def saved(name: str, folder: Path) -> torch.nn.Module:
    """One of THEIRS with weights far from their first values, and its folder."""
    torch.manual_seed(0)
    model = roughened(THEIRS[name]()).eval()  # type: ignore[arg-type]
    model.save_pretrained(folder)  # type: ignore[operator]
    return model


def loaded(folder: Path, **changes: Any) -> GptModel:
    """Our model with the settings and weights of a folder."""
    settings = load_hugging_face(folder).settings.model_copy(update={"weights": folder} | changes)
    facts = {"vocab_size": VOCAB, "sequence_tokens": LENGTH}
    return build(settings, ModelContext(facts)).eval()


@pytest.mark.parametrize("name", THEIRS)
def test_their_weights_give_their_logits_here_and_back_there(name: str, tmp_path: Path) -> None:
    """Architecture, names and tensors are read and written as the library means them."""
    theirs = saved(name, tmp_path / "theirs")
    expected = theirs(some_ids()).logits
    ours = loaded(tmp_path / "theirs")
    torch.testing.assert_close(ours(some_ids()), expected, rtol=0, atol=1e-4)
    to_hugging_face(ours.settings, ours.state_dict(), tmp_path / "ours")
    back = AutoModelForCausalLM.from_pretrained(tmp_path / "ours").eval()
    assert type(back) is type(theirs)
    torch.testing.assert_close(back(some_ids()).logits, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("variant", ["gpt2", "without_bias", "llama", "qwen3"])
def test_our_weights_give_our_logits_there(variant: str, tmp_path: Path) -> None:
    """A model trained here can be shipped; biases that it lacks are zeros where GPT-2 wants them."""
    ours = roughened(model_of(**VARIANTS[variant]))
    to_hugging_face(ours.settings, ours.state_dict(), tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(theirs(some_ids()).logits, ours(some_ids()), rtol=0, atol=1e-4)


def test_exported_bfloat16_weights_keep_their_type(tmp_path: Path) -> None:
    """The file says what it holds."""
    ours = model_of().bfloat16()
    to_hugging_face(ours.settings, ours.state_dict(), tmp_path)
    assert AutoModelForCausalLM.from_pretrained(tmp_path).dtype == torch.bfloat16
    assert all(tensor.dtype == torch.float32 for tensor in load_hugging_face(tmp_path).tensors.values())


def test_weights_in_several_files_are_read_by_their_index(tmp_path: Path) -> None:
    """Large models come in shards."""
    theirs = saved("llama", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    theirs.save_pretrained(tmp_path, max_shard_size="4KB")  # type: ignore[operator]
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    torch.testing.assert_close(loaded(tmp_path)(some_ids()), theirs(some_ids()).logits, rtol=0, atol=1e-4)


def test_hub_gpt2_names_without_prefix_and_with_masks_are_read(tmp_path: Path) -> None:
    """The published GPT-2 was saved from the bare transformer, its causal masks beside the weights."""
    from safetensors.torch import load_file, save_file

    theirs = saved("gpt2", tmp_path)
    file = tmp_path / "model.safetensors"
    bare = {name.removeprefix("transformer."): tensor for name, tensor in load_file(file).items()}
    save_file(bare | {"h.0.attn.bias": torch.ones(1, 1, 20, 20)}, file)
    torch.testing.assert_close(loaded(tmp_path)(some_ids()), theirs(some_ids()).logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_shorter_block_size_crops_positions(name: str, tmp_path: Path) -> None:
    """Fewer positions than the folder has are a smaller model, not an error."""
    theirs = saved(name, tmp_path)
    ours = loaded(tmp_path, block_size=LENGTH)
    assert ours.max_context == LENGTH
    torch.testing.assert_close(ours(some_ids()), theirs(some_ids()).logits, rtol=0, atol=1e-4)


def test_weights_are_not_read_where_a_checkpoint_follows(tmp_path: Path) -> None:
    """The folder need not exist any more once a run holds the weights."""
    settings = Gpt(n_layer=1, n_head=2, n_embd=8, weights=tmp_path / "gone")
    context = ModelContext({"vocab_size": VOCAB, "sequence_tokens": LENGTH}, load_pretrained=False)
    assert build(settings, context)(some_ids()).shape == (3, LENGTH, VOCAB)


def test_rope_settings_of_older_files_are_understood(tmp_path: Path) -> None:
    """Before version 5 the base stood alone, without a table."""
    import json

    theirs = saved("llama_theta", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["rope_parameters"]
    (tmp_path / "config.json").write_text(json.dumps(config | {"rope_theta": 500.0, "rope_scaling": None}))
    torch.testing.assert_close(loaded(tmp_path)(some_ids()), theirs(some_ids()).logits, rtol=0, atol=1e-4)
