"""The name of a prepared data set: a hash of what decides its content."""

import hashlib

from ml_playground.configuration.models import PrepareSettings

FORMAT_VERSION = 1
"""Raised when token files, index or tokenizer folders change so that old ones must not be read."""


def prepare_fingerprint(settings: PrepareSettings) -> str:
    """16 hex digits over the `[prepare]` settings and the version of the format."""
    text = f"{FORMAT_VERSION}\n{settings.model_dump_json()}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
