"""A network of the transformers library, written by that library itself: it knows how its tensors are named in files."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.utils import logging

from ml_playground.core.atomic import write_file
from ml_playground.core.foreign_files import json_table, read_at_most
from ml_playground.core.storage_errors import storage_errors
from ml_playground.models.hugging_face.folder import CONFIG


def write_network(model: Any, folder: Path, *, dtype: torch.dtype, largest_file_bytes: int) -> None:
    """Config and tensors of a model of kind hf_causal_lm.

    Args:
        model: An `HfCausalLmModel`; an adapter is merged into its weights already.
        folder: Made if it is missing.
        dtype: Of the tensors in the files, and what config.json says.
        largest_file_bytes: Of tensors in one file.

    Raises:
        StorageError: A file could not be written.
    """
    logging.disable_progress_bar()
    network = model.network
    with storage_errors(folder):
        network.save_pretrained(folder, state_dict=_as(dtype, network.state_dict()), max_shard_size=largest_file_bytes)
        config = json_table(read_at_most(folder / CONFIG))
    # The library writes the type that the network has in memory.
    config["dtype"] = str(dtype).removeprefix("torch.")
    write_file(folder / CONFIG, json.dumps(config, indent=2, sort_keys=True) + "\n")


def _as(dtype: torch.dtype, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors in another type; what is one tensor under two names stays one, for so the library sees that it is tied."""
    converted: dict[int, Tensor] = {}
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        key = tensor.data_ptr()
        if key not in converted or converted[key].shape != tensor.shape:
            converted[key] = tensor.detach().cpu().to(dtype)
        found[name] = converted[key]
    return found
