"""A model that was not trained here: a folder in Hugging Face form, with a job that says how it is run."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ml_playground.configuration import families
from ml_playground.configuration.loading import NAME, assemble
from ml_playground.configuration.models import JobConfig
from ml_playground.configuration.origins import Layer
from ml_playground.core.checkpoint_format import CheckpointFolder
from ml_playground.core.registry import load_object
from ml_playground.core.tokenizer_protocol import Tokenizer
from ml_playground.core.values import ModelContext, Progress
from ml_playground.models.hugging_face.folder import is_model_folder, read_config
from ml_playground.sampling.execution import Execution
from ml_playground.sampling.recorded import merged_over

KIND, TOKENIZER_KIND = "hf_causal_lm", "hugging_face"


def foreign_folder(target: str | Path) -> Path | None:
    """The folder of a model from elsewhere that a target names; None where it names something of ours, or nothing."""
    path = Path(os.path.expanduser(target)).absolute()  # noqa: PTH111 - raises for no text
    return path if is_model_folder(path) else None


def foreign_job(folder: Path, layers: Sequence[Layer], open_keys: Sequence[str]) -> JobConfig:
    """What `mlp sample` and `mlp evaluate` need of a job: the shared defaults, and the folder as tokenizer and model.

    Raises:
        ConfigError: The folder holds no such model, or a layer sets something else than `open_keys`, or a wrong value.
    """
    table: dict[str, Any] = {
        "name": folder.name if NAME.fullmatch(folder.name) else "model",
        # A job has a source; nothing is prepared for this one.
        "prepare": {"source": {"kind": "python_stdlib"}, "tokenizer": {"kind": TOKENIZER_KIND, "path": str(folder)}},
        # Given with the path, so that gigabytes are not hashed for a record that nobody keeps.
        "model": {"kind": KIND, "path": str(folder), "config": read_config(folder)},
    }
    shared = Layer("shared defaults", assemble(None, environ={}).tree, folder)
    return merged_over([shared, Layer("model folder", table, folder)], layers, open_keys)


def foreign_checkpoint(folder: Path) -> CheckpointFolder:
    """The folder in the place of a checkpoint: of step 0, never evaluated, trained on nobody knows what."""
    progress = Progress(step=0, max_steps=0, epoch=0.0, targets=0.0, elapsed_s=0.0)
    return CheckpointFolder(folder, progress, metrics=None, lr_factor=1.0, data_fingerprint="", groups=())


def foreign_tokenizer(job: JobConfig) -> Tokenizer:
    """The folder's own.

    Raises:
        ConfigError, DataError: It holds none that can be read.
    """
    # Nothing is learnt; the family asks for some text.
    return load_object(families.TOKENIZERS[TOKENIZER_KIND].build).train(("any",), job.prepare.tokenizer)


def foreign_model(job: JobConfig, tokenizer: Tokenizer, execution: Execution) -> nn.Module:
    """The folder's model with its weights, on the CPU.

    Raises:
        ConfigError: The library cannot build it.
        CheckpointError: Its tensors are not those of its config.json.
    """
    context = ModelContext({"vocab_size": tokenizer.vocab_size}, attention=execution.attention)
    return load_object(families.MODELS[KIND].build)(job.model, context)
