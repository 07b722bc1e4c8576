"""Laws of GGUF files: whatever model is written, the library that llama.cpp's own tools use reads the same model back, or it is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_playground.core.error_handling import ConfigError
from ml_playground.core.values import ModelContext
from ml_playground.models.core.gpt import GptModel, build
from ml_playground.models.settings import Gpt

gguf = pytest.importorskip("gguf", reason="the extra `export` is not installed: make setup")

from ml_playground.export.gguf_file import write_gguf  # noqa: E402

TOLERANCE = {"float32": 0.0, "bfloat16": 2.0**-8, "int8": 2.0**-7}
"""Of the largest number of a tensor: rounding to 8 bits of mantissa, and to 127 steps in a block of 32."""

shapes = st.fixed_dictionaries(
    {
        "n_layer": st.integers(1, 3),
        "n_head": st.sampled_from([2, 4]),
        "n_kv_head": st.sampled_from([None, 1, 2]),
        "n_embd": st.sampled_from([16, 32, 40]),
        "head_dim": st.sampled_from([None, 8]),
        "n_inner": st.sampled_from([None, 24, 64]),
        "tied_head": st.booleans(),
        "bias": st.booleans(),
    }
)
precisions = st.sampled_from(sorted(TOLERANCE))
families = st.sampled_from(
    [
        {"position": "rotary", "norm": "rms_norm", "feed_forward": "swiglu", "qk_norm": True, "bias": False},
        {"feed_forward": "gelu_tanh"},
        # No architecture of llama.cpp has these.
        {"feed_forward": "relu2"},
        {"position": "rotary"},
    ]
)


def model_of(table: dict[str, Any], vocab_size: int, seed: int) -> GptModel:
    """With random weights, biases among them."""
    model = build(Gpt(**table), ModelContext({"vocab_size": vocab_size, "sequence_tokens": 8}))
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return model.eval()


def read_back(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The facts of a file, and its tensors as numbers."""
    reader = gguf.GGUFReader(path)
    tensors = {tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}
    return {name: field.contents() for name, field in reader.fields.items()}, tensors


def is_refused(model: GptModel, precision: Any, path: Path) -> bool:
    """Whether llama.cpp knows no such model; then nothing is there."""
    try:
        write_gguf(model.settings, model.state_dict(), precision, path)
    except ConfigError as error:
        return "llama.cpp runs no model like this one" in str(error) and not path.parent.exists()
    return False


@settings(max_examples=25)
@given(shape=shapes, family=families, vocab_size=st.integers(2, 50), precision=precisions, seed=st.integers(0, 9))
def test_written_model_is_read_back_or_refused(
    shape: dict[str, Any],
    family: dict[str, Any],
    vocab_size: int,
    precision: Any,
    seed: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Its sizes, and every number: of float32 the very ones, in other types as exactly as they hold them; or nothing is written."""
    folder = tmp_path_factory.mktemp("gguf")
    model = model_of({**shape, **family}, vocab_size, seed)
    if is_refused(model, "float32", folder / "whole" / "model.gguf"):
        assert is_refused(model, precision, folder / "model" / "model.gguf")
        return
    facts, whole = read_back(folder / "whole" / "model.gguf")
    arch = facts["general.architecture"]
    assert (facts[f"{arch}.block_count"], facts[f"{arch}.embedding_length"]) == (shape["n_layer"], shape["n_embd"])
    assert (facts[f"{arch}.vocab_size"], facts[f"{arch}.context_length"]) == (vocab_size, 8)
    # What lies stacked here is apart there, and what a layout demands and we lack is zero: the numbers are the same.
    ours = np.concatenate([tensor.numpy().flatten() for tensor in model.state_dict().values()])
    theirs = np.concatenate([values.flatten() for values in whole.values()])
    np.testing.assert_array_equal(np.sort(theirs[theirs != 0]), np.sort(ours[ours != 0]))
    assert not is_refused(model, precision, folder / "model" / "model.gguf")
    _, rounded = read_back(folder / "model" / "model.gguf")
    assert rounded.keys() == whole.keys()
    for name, values in whole.items():
        assert np.abs(rounded[name] - values).max() <= TOLERANCE[precision] * np.abs(values).max()
