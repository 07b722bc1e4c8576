"""A model as a GGUF file: the form that llama.cpp reads.

The file holds no tokenizer: ids go in and logits come out, so that any tokenizer of ours serves, each with its own rules.
Source: the GGUF specification of ggml, and the names that the gguf library gives to those of Hugging Face.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFWriter
from numpy.typing import NDArray
from torch import Tensor

from ml_playground.core import atomic
from ml_playground.models.layers.packed_linear import Precision
from ml_playground.models.settings import Gpt
from ml_playground.models.weights.gpt2 import GPT2
from ml_playground.models.weights.layout import Layout, first_that_holds, stated
from ml_playground.models.weights.llama_qwen import QWEN3

TYPES: Mapping[Precision, Type] = {"float32": Type.F32, "bfloat16": Type.BF16, "int8": Type.Q8_0}
"""Of the matrices; vectors and learned positions stay float32."""

ROW_OF_BLOCKS = 32
"""Q8_0 has a scale for each 32 numbers of a row; a matrix with other rows stays float32."""


class Architecture(NamedTuple):
    """A model that llama.cpp knows."""

    id: gguf.MODEL_ARCH
    layout: Layout
    """Whose names the gguf library translates."""
    missing: Callable[[Gpt], list[str]]
    """What in our settings has no counterpart there, in words."""


def _gpt2_missing(settings: Gpt) -> list[str]:
    problems = GPT2.missing(settings)
    if settings.feed_forward != "gelu_tanh":
        problems.append(f"model.feed_forward = {settings.feed_forward!r} (it has 'gelu_tanh')")
    return problems


ARCHITECTURES: Mapping[str, Architecture] = {
    "qwen3": Architecture(gguf.MODEL_ARCH.QWEN3, QWEN3, QWEN3.missing),
    "gpt2": Architecture(gguf.MODEL_ARCH.GPT2, GPT2, _gpt2_missing),
}


def architecture_for(settings: Gpt) -> str:
    """The name of the architecture that can say what `settings` say.

    Raises:
        ConfigError: None can; says why for each.
    """
    missing = {name: architecture.missing(settings) for name, architecture in ARCHITECTURES.items()}
    return first_that_holds(
        missing,
        refusal="llama.cpp runs no model like this one",
        remedy="Use sample.engine = 'torch', or train a model with the settings of one of them.",
    )


def write_gguf(settings: Gpt, tensors: Mapping[str, Tensor], precision: Precision, path: Path) -> None:
    """Write a model, complete or not at all.

    Args:
        settings: Of the model; vocab_size and block_size are filled in, as in `GptModel.settings`.
        tensors: The model's state under our names.
        precision: Of its matrices.
        path: Of the file; missing folders are made.

    Raises:
        ConfigError: llama.cpp knows no such model.
        StorageError: It could not be written.
    """
    name = architecture_for(settings)
    architecture = ARCHITECTURES[name]
    with atomic.folder(path.parent) as folder:
        # The library writes to a path of its own choice of moment; a file counts once its folder has its name.
        writer = GGUFWriter(folder / path.name, name)
        _add_settings(writer, settings)
        for tensor_name, values in _named(architecture, settings, tensors):
            kind = _type_of(tensor_name, values, precision)
            writer.add_tensor(tensor_name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def _add_settings(writer: GGUFWriter, settings: Gpt) -> None:
    vocab_size, block_size = stated(settings)
    writer.add_vocab_size(vocab_size)
    writer.add_context_length(block_size)
    writer.add_embedding_length(settings.n_embd)
    writer.add_block_count(settings.n_layer)
    writer.add_feed_forward_length(settings.inner_width)
    writer.add_head_count(settings.n_head)
    writer.add_head_count_kv(settings.key_heads)
    if settings.norm == "rms_norm":
        writer.add_layer_norm_rms_eps(settings.norm_eps)
    else:
        writer.add_layer_norm_eps(settings.norm_eps)
    if settings.position == "rotary":
        writer.add_key_length(settings.head_width)
        writer.add_value_length(settings.head_width)
        writer.add_rope_freq_base(settings.rope_theta)
    writer.add_tokenizer_model("no_vocab")


def _named(
    architecture: Architecture, settings: Gpt, tensors: Mapping[str, Tensor]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Every tensor under its name there, in float32; what lies stacked here and apart there is cut."""
    names = gguf.get_tensor_name_map(architecture.id, settings.n_layer)
    for piece in architecture.layout.pieces(settings):
        # A layout with biases everywhere holds a model without them as zeros.
        whole = tensors[piece.ours].detach().float().cpu().numpy() if piece.ours in tensors else np.zeros(piece.shape)
        starts = np.cumsum(piece.rows)[:-1]
        for theirs, part in zip(piece.theirs, np.split(whole, starts), strict=True):
            name = names.get_name(theirs, try_suffixes=(".weight", ".bias"))
            if name is None:
                raise ValueError(f"gguf has no name for {theirs}")
            yield name, np.ascontiguousarray(part, dtype=np.float32)


def _type_of(name: str, values: NDArray[np.float32], precision: Precision) -> Type:
    if values.ndim == 1 or name == "position_embd.weight":
        return Type.F32
    if precision == "int8" and values.shape[1] % ROW_OF_BLOCKS:
        return Type.F32
    return TYPES[precision]
