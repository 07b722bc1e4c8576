"""Folders and settings that do not fit: everything wrong is named at once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ml_playground.core.error_handling import CheckpointError, ConfigError
from ml_playground.core.values import ModelContext
from ml_playground.models.core.gpt import GptModel, build
from ml_playground.models.settings import Gpt
from ml_playground.models.weights.hugging_face import load_hugging_face, to_hugging_face
from tests.unit.models.test_gpt import VARIANTS, model_of


def folder_of(variant: str, folder: Path) -> GptModel:
    """One of our models, written to `folder`."""
    model = model_of(**VARIANTS[variant])
    to_hugging_face(model.settings, model.state_dict(), folder)
    return model


def change_config(folder: Path, **changes: Any) -> None:
    """Set keys of config.json; None removes one."""
    path = folder / "config.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change what model.safetensors holds."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, path)


UNSUPPORTED: list[tuple[str, dict[str, Any], str]] = [
    ("gpt2", {"model_type": "bloom"}, r"model_type = 'bloom' is not supported \(allowed: gpt2, llama, qwen3\)"),
    ("gpt2", {"model_type": None}, r"model_type = 'None' is not supported"),
    ("gpt2", {"activation_function": "silu"}, r"activation_function = 'silu' \(supported: 'gelu_new' or"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, r"scale_attn_by_inverse_layer_idx = True \(supported: False\)"),
    ("gpt2", {"n_embd": None}, r"config.json lacks the key 'n_embd'; is it complete\?"),
    ("gpt2", {"n_head": 5}, r"config.json is not valid:\n  .*n_embd = 16 is not a multiple of n_head = 5"),
    ("llama", {"hidden_act": "relu"}, r"hidden_act = 'relu' \(supported: 'silu'\)"),
    ("llama", {"rope_parameters": {"rope_type": "llama3"}}, r"rope_type = 'llama3' \(supported: 'default'\)"),
    ("llama", {"rope_parameters": None, "rope_scaling": {"type": "linear"}}, r"rope_type = 'linear'"),
    ("llama", {"attention_bias": True}, r"attention_bias and mlp_bias differ"),
    ("llama", {"quantization_config": {"bits": 4}}, r"quantization_config = {'bits': 4} \(supported: None\)"),
    ("qwen3", {"use_sliding_window": True}, r"use_sliding_window = True \(supported: False\)"),
    ("qwen3", {"layer_types": ["full_attention", "sliding_attention"]}, r"layer_types has 'sliding_attention'"),
    ("qwen3", {"attention_bias": True}, r"attention_bias and mlp_bias differ"),
    # What a layout looks into may be of any type, and of any size.
    ("llama", {"rope_parameters": "default"}, r"config.json is not valid: "),
    ("llama", {"rope_scaling": [1]}, r"config.json is not valid: "),
    ("qwen3", {"layer_types": 3}, r"config.json is not valid: "),
    ("qwen3", {"layer_types": ["a", 3, None]}, r"config.json is not valid: "),
    ("qwen3", {"layer_types": [[]]}, r"config.json is not valid: "),
    ("gpt2", {"activation_function": ["gelu"]}, r"activation_function = \['gelu'\] \(supported"),
    ("gpt2", {"n_layer": "2"}, r"config.json is not valid:\n  n_layer: "),
    ("gpt2", {"n_layer": 10**9}, r"n_layer: Input should be less than or equal to 2000"),
    ("gpt2", {"vocab_size": 10**12}, r"vocab_size: Input should be less than or equal to 4294967296"),
    ("gpt2", {"n_positions": -1}, r"block_size: Input should be greater than or equal to 1"),
    ("llama", {"rms_norm_eps": float("nan")}, r"norm_eps: Input should be a finite number"),
]


@pytest.mark.parametrize(("variant", "changes", "message"), UNSUPPORTED)
def test_config_that_is_not_supported_is_refused(
    variant: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """What would silently compute something else is an error."""
    folder_of(variant, tmp_path)
    change_config(tmp_path, **changes)
    with pytest.raises(ConfigError, match=message):
        load_hugging_face(tmp_path)


def test_tensors_that_do_not_fit_are_all_named(tmp_path: Path) -> None:
    """Missing, misshapen and unknown ones, in one message."""
    folder_of("llama", tmp_path)

    def damage(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["model.norm.weight"]
        tensors["model.layers.1.self_attn.k_proj.weight"] = torch.ones(3, 16)
        tensors["model.layers.9.strange"] = torch.ones(2)

    change_tensors(tmp_path, damage)
    with pytest.raises(CheckpointError) as caught:
        load_hugging_face(tmp_path)
    assert "do not fit its config.json" in str(caught.value)
    assert "model.norm.weight: missing" in str(caught.value)
    assert "model.layers.1.self_attn.k_proj.weight: shape (3, 16), expected (8, 16)" in str(caught.value)
    assert "model.layers.9.strange: unknown" in str(caught.value)


def test_transposed_shape_is_told_as_it_stands_in_the_file(tmp_path: Path) -> None:
    """GPT-2's matrices are (in, out) there."""
    folder_of("gpt2", tmp_path)
    change_tensors(tmp_path, lambda tensors: tensors.update({"transformer.h.0.mlp.c_fc.weight": torch.ones(64, 16)}))
    with pytest.raises(CheckpointError, match=r"mlp.c_fc.weight: shape \(64, 16\), expected \(16, 64\)"):
        load_hugging_face(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "config.json",
            None,
            r"config.json cannot be read \(No such file or directory\); name a folder in Hugging Face",
        ),
        ("config.json", "{", r"config.json is not the JSON that it should be: Expecting property name"),
        ("config.json", "[]", r"config.json is not the JSON that it should be: it holds no JSON object"),
        ("model.safetensors", None, r"model.safetensors is missing. Weights are read from safetensors only"),
        ("model.safetensors", "no tensors", r"model.safetensors cannot be read"),
        ("config.json", "[" * 100_000, r"config.json is not the JSON that it should be: it is nested too deeply"),
        ("model.safetensors.index.json", "{}", r"model.safetensors.index.json has no weight_map"),
        ("model.safetensors.index.json", '{"weight_map": {}}', r"model.safetensors.index.json has no weight_map"),
        (
            "model.safetensors.index.json",
            '{"weight_map": {"a": 3, "b": "c"}}',
            r"has no weight_map from names of tensors",
        ),
        ("model.safetensors.index.json", '{"weight_map": {"a": [[]]}}', r"has no weight_map from names of tensors"),
        (
            "model.safetensors.index.json",
            '{"weight_map": {"a": ""}}',
            r"names '', which is not a file of its own folder",
        ),
        ("model.safetensors.index.json", '{"weight_map": {"a": ".."}}', r"names '..', which is not a file of its own"),
        ("model.safetensors.index.json", '{"weight_map": {"a": "b\\u0000"}}', r"which is not a file of its own folder"),
        ("model.safetensors.index.json", '{"weight_map": {"a": "c:\\\\d"}}', r"which is not a file of its own folder"),
        (
            "model.safetensors.index.json",
            '{"weight_map": {"a": "../elsewhere.safetensors"}}',
            r"names '../elsewhere.safetensors', which is not a file of its own folder",
        ),
    ],
)
def test_files_missing_or_damaged_are_named(name: str, content: str | None, message: str, tmp_path: Path) -> None:
    """The message names the file."""
    folder_of("gpt2", tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(content)
    with pytest.raises(CheckpointError, match=message):
        load_hugging_face(tmp_path)


def test_build_with_settings_other_than_the_folder_names_every_difference(tmp_path: Path) -> None:
    """A stated setting is never overruled in silence."""
    folder_of("gpt2", tmp_path)
    settings = Gpt(n_layer=3, n_head=4, n_embd=16, feed_forward="gelu_tanh", block_size=40, weights=tmp_path)
    with pytest.raises(ConfigError) as caught:
        build(settings, ModelContext({"vocab_size": 50, "sequence_tokens": 12}))
    message = str(caught.value)
    assert message.startswith(
        f"[model] does not describe the weights in {tmp_path}:\n  n_layer = 3, the folder has 2\n"
    )
    assert "feed_forward = 'gelu_tanh', the folder has 'gelu'" in message
    assert "vocab_size = 50, the folder has 31" in message
    assert "block_size = 40, the folder has only 12 positions" in message
    assert "n_head" not in message


def test_build_with_another_rope_theta_than_the_folder_raises(tmp_path: Path) -> None:
    """The base of the wavelengths is part of what was trained."""
    folder_of("llama", tmp_path)
    settings = load_hugging_face(tmp_path).settings.model_copy(update={"rope_theta": 77.0, "weights": tmp_path})
    with pytest.raises(ConfigError, match=r"rope_theta = 77.0, the folder has 10000.0"):
        build(settings, ModelContext({"vocab_size": 31, "sequence_tokens": 12}))


def test_export_of_a_model_that_no_architecture_holds_says_why(tmp_path: Path) -> None:
    """For each architecture, what it cannot say."""
    model = model_of(**VARIANTS["speedrun"])
    with pytest.raises(ConfigError) as caught:
        to_hugging_face(model.settings, model.state_dict(), tmp_path)
    message = str(caught.value)
    assert (
        "gpt2: model.position = 'rotary' (it has 'learned'); model.norm = 'rms_norm' (it has 'layer_norm')" in message
    )
    assert "llama: model.feed_forward = 'relu2' (it has 'swiglu'); model.qk_norm = True (it has False)" in message
    assert "qwen3: model.feed_forward = 'relu2' (it has 'swiglu')" in message
    assert not list(tmp_path.iterdir())


def test_export_of_tensors_that_do_not_fit_names_all(tmp_path: Path) -> None:
    """Nothing is written from a state that is not the model's."""
    model = model_of()
    tensors = dict(model.state_dict())
    del tensors["final_norm.weight"]
    tensors["blocks.0.feed_forward.up.weight"] = torch.ones(3, 3)
    tensors["stray"] = torch.ones(1)
    with pytest.raises(CheckpointError) as caught:
        to_hugging_face(model.settings, tensors, tmp_path)
    message = str(caught.value)
    assert "final_norm.weight: missing" in message
    assert "blocks.0.feed_forward.up.weight: shape (3, 3), expected (64, 16)" in message
    assert "stray: unknown" in message
    assert not list(tmp_path.iterdir())


def test_export_of_settings_without_sizes_is_a_mistake_of_the_program(tmp_path: Path) -> None:
    """A model's own settings always state them."""
    with pytest.raises(ValueError, match="vocab_size and block_size must be filled in"):
        to_hugging_face(Gpt(), model_of().state_dict(), tmp_path)


@pytest.mark.parametrize("variant", ["window", "window_of_shared_keys", "experts", "gated_experts"])
def test_model_with_windows_or_experts_is_not_exported(variant: str, tmp_path: Path) -> None:
    """No layout that is written here says them, and a reader would compute something else."""
    named = "n_expert" if "expert" in variant else "attention_window"
    with pytest.raises(ConfigError, match=rf"No Hugging Face architecture holds this model:(.|\n)*model\.{named} = "):
        folder_of(variant, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "named"), [({"attention_window": 5}, "attention_window"), ({"n_expert": 2}, "n_expert")]
)
def test_weights_for_a_model_with_windows_or_experts_are_refused(
    options: dict[str, Any], named: str, tmp_path: Path
) -> None:
    """A folder of weights describes another model."""
    folder_of("gpt2", tmp_path)
    with pytest.raises(ConfigError, match=rf"{named} = {options[named]}, the folder has (None|0)"):
        model_of(weights=tmp_path, **options)
