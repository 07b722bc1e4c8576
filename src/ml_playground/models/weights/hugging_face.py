"""Weights from and to folders that the transformers library reads; that library itself is not needed.

Only GPT-2, Llama and Qwen3 layouts, and only safetensors: a pickle is never opened.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from ml_playground.core.atomic import write_file
from ml_playground.core.error_handling import CheckpointError, ConfigError
from ml_playground.core.foreign_files import is_plain, json_table, read_at_most
from ml_playground.models.settings import Gpt
from ml_playground.models.weights.gpt2 import GPT2
from ml_playground.models.weights.layout import Layout, Piece, first_that_holds, stated
from ml_playground.models.weights.llama_qwen import LLAMA, QWEN3
from ml_playground.models.weights.shards import LARGEST_FILE_BYTES, write_tensors

LAYOUTS: Mapping[str, Layout] = {"gpt2": GPT2, "llama": LLAMA, "qwen3": QWEN3}
"""`model_type` of a config.json -> what it means."""


@dataclass(frozen=True, slots=True)
class Pretrained:
    """What a folder holds, in our terms."""

    settings: Gpt
    """Its architecture; vocab_size and block_size are stated."""
    tensors: Mapping[str, Tensor]
    """float32, under our names."""


def load_hugging_face(folder: Path) -> Pretrained:
    """Read config.json and the safetensors files of `folder`.

    Raises:
        ConfigError: The architecture, or an option of it, has no counterpart here; all are listed.
        CheckpointError: A file or tensor is missing, unreadable, unknown or of another shape; all are listed.
    """
    config = _read_json(folder / "config.json")
    kind = str(config.get("model_type"))
    if kind not in LAYOUTS:
        raise ConfigError(
            f"{folder / 'config.json'}: model_type = {kind!r} is not supported (allowed: {', '.join(LAYOUTS)})."
        )
    layout = LAYOUTS[kind]
    settings = _settings(layout, config, folder)
    return Pretrained(settings, _ours(layout, settings, _read_tensors(folder), folder))


def check_fits(stated: Gpt, implied: Gpt, folder: Path) -> None:
    """Compare the settings of a model with those that a folder implies; ours may read fewer positions.

    Raises:
        ConfigError: They differ; names every field with both values.
    """
    fields = ["n_layer", "n_head", "key_heads", "n_embd", "head_width", "inner_width", "position", "norm", "norm_eps"]
    fields += ["feed_forward", "qk_norm", "bias", "tied_head", "bigram_rows", "vocab_size"]
    fields += ["attention_window", "n_expert"]
    fields += ["rope_theta"] if implied.position == "rotary" else []
    settings_of = {"key_heads": "n_kv_head", "head_width": "head_dim", "inner_width": "n_inner"}
    problems = [
        f"{settings_of.get(field, field)} = {getattr(stated, field)!r}, the folder has {getattr(implied, field)!r}"
        for field in fields
        if getattr(stated, field) != getattr(implied, field)
    ]
    if (stated.block_size or 0) > (implied.block_size or 0):
        problems.append(f"block_size = {stated.block_size}, the folder has only {implied.block_size} positions")
    if problems:
        raise ConfigError(
            f"[model] does not describe the weights in {folder}:\n  " + "\n  ".join(problems) + "\n"
            "State the folder's values under [model] (vocab_size follows from the tokenizer), or choose other weights."
        )


def layout_for(settings: Gpt) -> str:
    """The `model_type` that can say what `settings` say.

    Raises:
        ConfigError: None can; says why for each.
    """
    missing = {kind: layout.missing(settings) for kind, layout in LAYOUTS.items()}
    return first_that_holds(
        missing,
        refusal="No Hugging Face architecture holds this model",
        remedy="Export it from a model with these settings instead.",
    )


def to_hugging_face(
    settings: Gpt, tensors: Mapping[str, Tensor], folder: Path, *, largest_file_bytes: int = LARGEST_FILE_BYTES
) -> None:
    """Write config.json and the tensors, so that `AutoModelForCausalLM.from_pretrained(folder)` gives this model.

    Args:
        settings: Of the model; vocab_size and block_size are filled in, as in `GptModel.settings`.
        tensors: The model's state under our names, in one float type.
        folder: Made if it is missing; its other files stay.
        largest_file_bytes: Of tensors in one file.

    Raises:
        ConfigError: No architecture there can say what the settings say.
        CheckpointError: Tensors do not fit the settings; all are listed.
        StorageError: A file could not be written; the one before stands.
    """
    kind = layout_for(settings)
    layout = LAYOUTS[kind]
    theirs = _theirs(layout, settings, tensors)
    dtype = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    # Token ids with a meaning belong to the tokenizer; the library's own defaults would lie outside a small vocabulary.
    specials = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    config = {"model_type": kind, "architectures": [layout.architecture], "dtype": dtype, **specials}
    write_tensors(theirs, folder, largest_file_bytes=largest_file_bytes)
    text = json.dumps(config | layout.config(settings), indent=2, sort_keys=True)
    write_file(folder / "config.json", f"{text}\n")


def _settings(layout: Layout, config: Mapping[str, Any], folder: Path) -> Gpt:
    path = folder / "config.json"
    try:
        problems = layout.unsupported(config)
        if problems:
            raise ConfigError(f"{path} asks for what is not supported:\n  " + "\n  ".join(problems))
        settings = layout.settings(config)
        stated(settings)
        return settings
    except KeyError as error:
        raise ConfigError(f"{path} lacks the key {error}; is it complete?") from error
    except ValidationError as error:
        details = "\n  ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise ConfigError(f"{path} is not valid:\n  {details}") from error
    except (TypeError, ValueError) as error:
        # What a layout looks into is of another type than that architecture writes.
        raise ConfigError(f"{path} is not valid: {error}.") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json_table(read_at_most(path))
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}); name a folder in Hugging Face form."
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not the JSON that it should be: {error}.") from error


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of the one file, or of the files that the index names."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        weight_map = _read_json(index).get("weight_map")
        files = set(cast(dict[str, Any], weight_map).values()) if _names_files(weight_map) else set[str]()
        if not files:
            raise CheckpointError(f"{index} has no weight_map from names of tensors to names of files.")
        names = sorted(files)
    else:
        names = ["model.safetensors"]
    tensors: dict[str, Tensor] = {}
    for name in names:
        if not is_plain(name) or "/" in name:
            raise CheckpointError(f"{index} names {name!r:.80}, which is not a file of its own folder.")
        try:
            tensors |= load_file(folder / name)
        except FileNotFoundError as error:
            raise CheckpointError(
                f"{folder / name} is missing. Weights are read from safetensors only; pytorch_model.bin is a pickle."
            ) from error
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            raise CheckpointError(f"{folder / name} cannot be read: {error}.") from error
    return tensors


def _names_files(weight_map: Any) -> bool:
    return isinstance(weight_map, dict) and all(
        isinstance(name, str) for name in cast(dict[str, Any], weight_map).values()
    )


def _ours(layout: Layout, settings: Gpt, there: dict[str, Tensor], folder: Path) -> dict[str, Tensor]:
    # The hub's own GPT-2 file was saved from the bare transformer, without this prefix.
    if layout is GPT2 and "wte.weight" in there:
        there = {f"transformer.{name}": tensor for name, tensor in there.items()}
    pieces = list(layout.pieces(settings))
    problems = list(_misfits(pieces, there))
    known = {name for piece in pieces for name in piece.theirs}
    ignored = (*layout.ignored, "lm_head.weight") if settings.tied_head else layout.ignored
    problems += [f"{name}: unknown" for name in sorted(there) if name not in known and not name.endswith(ignored)]
    if problems:
        raise CheckpointError(f"The tensors in {folder} do not fit its config.json:\n  " + "\n  ".join(problems))
    ours: dict[str, Tensor] = {}
    for piece in pieces:
        parts = [there[name].to(torch.float32) for name in piece.theirs]
        ours[piece.ours] = torch.cat([part.t() if piece.transposed else part for part in parts])
    return ours


def _misfits(pieces: list[Piece], there: Mapping[str, Tensor]) -> Iterator[str]:
    for piece in pieces:
        for number, name in enumerate(piece.theirs):
            if name not in there:
                yield f"{name}: missing"
            elif tuple(there[name].shape) != piece.shape_there(number):
                yield f"{name}: shape {tuple(there[name].shape)}, expected {piece.shape_there(number)}"


def _theirs(layout: Layout, settings: Gpt, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    theirs: dict[str, Tensor] = {}
    problems: list[str] = []
    pieces = list(layout.pieces(settings))
    for piece in pieces:
        if piece.ours.endswith(".bias") and not settings.bias:
            whole = torch.zeros(piece.shape, dtype=next(iter(tensors.values())).dtype)
        elif piece.ours not in tensors:
            problems.append(f"{piece.ours}: missing")
            continue
        else:
            whole = tensors[piece.ours].detach().cpu()
        if tuple(whole.shape) != piece.shape:
            problems.append(f"{piece.ours}: shape {tuple(whole.shape)}, expected {piece.shape}")
            continue
        for name, part in zip(piece.theirs, torch.split(whole, list(piece.rows)), strict=True):
            theirs[name] = (part.t() if piece.transposed else part).contiguous()
    problems += [f"{name}: unknown" for name in sorted(set(tensors) - {piece.ours for piece in pieces})]
    if problems:
        raise CheckpointError("The tensors do not fit the settings:\n  " + "\n  ".join(problems))
    return theirs
