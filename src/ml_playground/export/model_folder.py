"""A model as a folder that the transformers library opens: what each kind of ours is there, and why the others are nothing."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import nn

from ml_playground.core.atomic import write_file
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.humanise import json_text
from ml_playground.core.registry import load_object
from ml_playground.models.settings import Gpt
from ml_playground.models.weights.hugging_face import layout_for, to_hugging_face
from ml_playground.models.weights.shards import LARGEST_FILE_BYTES

Dtype = Literal["float32", "bfloat16"]
"""In which the tensors of a folder are written."""
DTYPES: Mapping[Dtype, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}

GENERATION = "generation_config.json"

WRITERS: Mapping[str, str] = {
    "gpt": "ml_playground.export.model_folder:write_gpt",
    "hf_causal_lm": "ml_playground.export.network_folder:write_network",
}
"""Kind of model -> `write(model, folder, largest_file_bytes=...)`."""

EXPORTABLE = (
    "models of kind 'hf_causal_lm', and of kind 'gpt' in the layouts of GPT-2 (the defaults), Llama (position = 'rotary', "
    "norm = 'rms_norm', feed_forward = 'swiglu') and Qwen3 (qk_norm = true beside them)"
)


def refuse_unknown(model: Any) -> None:
    """Say no before anything is loaded.

    Args:
        model: Settings of the job's model.

    Raises:
        ConfigError: No class of the library computes it; says why, and what can be exported.
    """
    if model.kind_name not in WRITERS:
        raise ConfigError(
            f"model.kind = {model.kind_name!r}: no class of the transformers library computes such a model. What can be exported: "
            f"{EXPORTABLE}."
        )
    if isinstance(model, Gpt):
        layout_for(model)


def write_model(
    kind: str, model: nn.Module, folder: Path, *, dtype: Dtype = "float32", largest_file_bytes: int = LARGEST_FILE_BYTES
) -> None:
    """Write config.json and the tensors, so that `AutoModelForCausalLM.from_pretrained(folder)` gives this model.

    Args:
        kind: Of the model, as `model.kind` says.
        model: Its parameters are rounded to `dtype` in place, and stay float32: it is what the folder holds from then on.
        folder: Made if it is missing; its other files stay.
        dtype: Of the tensors in the folder.
        largest_file_bytes: Of tensors in one file.

    Raises:
        ConfigError: No class of the library computes this model.
        StorageError: A file could not be written.
    """
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.to(DTYPES[dtype]))
    write: Callable[..., None] = load_object(WRITERS[kind])
    write(model, folder, dtype=DTYPES[dtype], largest_file_bytes=largest_file_bytes)


def write_gpt(model: Any, folder: Path, *, dtype: torch.dtype, largest_file_bytes: int) -> None:
    """A model of ours under the names that the library gives its tensors."""
    tensors = {name: tensor.detach().cpu().to(dtype) for name, tensor in model.state_dict().items()}
    to_hugging_face(cast(Gpt, model.settings), tensors, folder, largest_file_bytes=largest_file_bytes)


def write_generation(
    folder: Path, stop_ids: Sequence[int], *, bos: int | None, pad: int | None, unknown: Sequence[int] = ()
) -> None:
    """Write generation_config.json.

    Args:
        folder: Where to.
        stop_ids: Each ends a text.
        bos: Begins one; none: there is no such id.
        pad: Fills up rows that have ended; none: the first of `stop_ids`.
        unknown: Ids that the model has and its tokenizer has not, where a vocabulary was padded: they are never drawn, as here.

    Raises:
        StorageError: It could not be written.
    """
    stops = sorted(stop_ids)
    content = {
        "bos_token_id": bos,
        "eos_token_id": stops[0] if len(stops) == 1 else stops or None,
        # Rows that have ended are filled up with something; with what does not matter, for nobody reads it.
        "pad_token_id": pad if pad is not None else next(iter(stops), None),
        "suppress_tokens": list(unknown) or None,
    }
    present = {name: value for name, value in content.items() if value is not None}
    write_file(folder / GENERATION, json_text({"_from_model_config": False, **present}) + "\n")
