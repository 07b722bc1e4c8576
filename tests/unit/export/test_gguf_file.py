"""GGUF files: what is in them, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ml_playground.core.error_handling import ConfigError
from ml_playground.core.values import ModelContext
from ml_playground.models.core.gpt import GptModel, build
from ml_playground.models.settings import Gpt

gguf = pytest.importorskip("gguf", reason="the extra `export` is not installed: make setup")

from ml_playground.export.gguf_file import architecture_for, write_gguf  # noqa: E402

QWEN3: dict[str, Any] = {
    "position": "rotary",
    "norm": "rms_norm",
    "feed_forward": "swiglu",
    "qk_norm": True,
    "bias": False,
}
GPT2: dict[str, Any] = {"feed_forward": "gelu_tanh"}


def model_of(seed: int = 0, **settings: Any) -> GptModel:
    """Two blocks of width 32, a context of 16, 23 symbols; weights large enough that texts vary."""
    model = build(
        Gpt(**{"n_layer": 2, "n_head": 2, "n_embd": 32, **settings}),
        ModelContext({"vocab_size": 23, "sequence_tokens": 16}),
    )
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) / 2
    return model.eval()


@pytest.mark.parametrize(
    "settings", [QWEN3, QWEN3 | {"tied_head": False, "n_kv_head": 1}, GPT2, GPT2 | {"bias": False}]
)
def test_write_gguf_holds_every_weight_in_float32(settings: dict[str, Any], tmp_path: Path) -> None:
    """As many numbers as the model has, sums and all; biases that a layout demands are zeros."""
    model = model_of(**settings)
    path = tmp_path / "there" / "model.gguf"
    write_gguf(model.settings, model.state_dict(), "float32", path)
    tensors = gguf.GGUFReader(path).tensors
    ours = sum(float(tensor.double().abs().sum()) for tensor in model.state_dict().values())
    assert sum(float(abs(tensor.data.astype("float64")).sum()) for tensor in tensors) == pytest.approx(ours, rel=1e-12)
    assert {tensor.tensor_type for tensor in tensors} == {gguf.GGMLQuantizationType.F32}


def test_write_gguf_int8_leaves_vectors_and_odd_rows_alone(tmp_path: Path) -> None:
    """A block of Q8_0 is 32 numbers of a row."""
    model = model_of(**QWEN3, n_inner=40)
    path = tmp_path / "there" / "model.gguf"
    write_gguf(model.settings, model.state_dict(), "int8", path)
    kinds = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}
    assert kinds["blk.0.ffn_up.weight"] == kinds["token_embd.weight"] == "Q8_0"
    assert kinds["blk.0.ffn_down.weight"] == kinds["blk.0.attn_norm.weight"] == "F32"


def test_architecture_for_a_model_that_llama_cpp_lacks_names_the_settings() -> None:
    """For each architecture what it lacks, and what to do."""
    with pytest.raises(ConfigError) as caught:
        architecture_for(Gpt(feed_forward="relu2", position="rotary", bigram_rows=8))
    text = str(caught.value)
    assert text.startswith("llama.cpp runs no model like this one:\n  qwen3: ")
    assert "model.feed_forward = 'relu2'" in text
    assert "model.bigram_rows = 8" in text
    assert "\n  gpt2: model.position = 'rotary'" in text
    assert text.endswith("Use sample.engine = 'torch', or train a model with the settings of one of them.")


def test_architecture_for_exact_gelu_is_refused() -> None:
    """llama.cpp's GPT-2 computes the approximation; texts would differ."""
    with pytest.raises(ConfigError, match=r"model.feed_forward = 'gelu' \(it has 'gelu_tanh'\)"):
        architecture_for(Gpt(feed_forward="gelu"))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"attention_window": 64}, r"model.attention_window = 64 \(it has None\)"),
        ({"n_expert": 4}, r"model.n_expert = 4 \(it has 0\)"),
    ],
)
def test_architecture_for_windows_and_experts_is_refused(options: dict[str, Any], named: str) -> None:
    """What the reader does not compute is never written; each architecture says why."""
    with pytest.raises(ConfigError, match=rf"runs no model like this one:\n  qwen3: .*{named}") as refusal:
        architecture_for(Gpt.model_validate(options))
    assert "gpt2: " in str(refusal.value)
