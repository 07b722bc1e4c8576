"""Hashes of settings: the name of a prepared data set, and the mark of a whole job."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from ml_playground.configuration.chat_settings import ChatSettings
from ml_playground.configuration.models import JobConfig, PrepareSettings
from ml_playground.core.error_handling import DataError
from ml_playground.core.run_folder import data_folder

FORMAT_VERSION = 1
"""Raised when token files, index or tokenizer folders change so that old ones must not be read."""


NO_CONTENT = ("max_loss_fraction",)
"""Decides whether there is a data set, not what is in it."""
AS_EVER: Mapping[str, object] = {"duplicates": "keep", "profile": None, "chat": ChatSettings()}
"""Where a setting has this value, data sets are what they were before it existed, and keep their names."""


def prepare_fingerprint(settings: PrepareSettings) -> str:
    """16 hex digits over the `[prepare]` settings that decide the content, and the version of the format."""
    as_ever = {name for name, value in AS_EVER.items() if getattr(settings, name) == value}
    text = f"{FORMAT_VERSION}\n{settings.model_dump_json(exclude={*NO_CONTENT, *as_ever})}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def prepared_folder(settings: PrepareSettings) -> Path:
    """Where the data set of these settings lies, or will lie."""
    return data_folder() / prepare_fingerprint(settings)


def existing_data(job: JobConfig) -> Path:
    """Where the prepared data of a job lie; none of them is opened.

    Raises:
        DataError: They are not prepared.
    """
    folder = prepared_folder(job.prepare)
    if not folder.is_dir():
        raise DataError(f"The data of {job.name!r} are not prepared ({folder} is missing); run: mlp prepare {job.name}")
    return folder


def config_hash(job: JobConfig) -> str:
    """16 hex digits over the whole resolved job; equal jobs have equal hashes, in whatever order their keys were set."""
    text = json.dumps(job.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
