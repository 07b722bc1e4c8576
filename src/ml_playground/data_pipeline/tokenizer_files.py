"""The files that a tokenizer's settings name: they decide about a data set as its source does."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_playground.configuration.base import Component
from ml_playground.configuration.chat_settings import OWN_TEMPLATES
from ml_playground.configuration.families import TOKENIZERS
from ml_playground.configuration.models import PrepareSettings
from ml_playground.core.error_handling import DataError
from ml_playground.core.registry import kind_of, load_object
from ml_playground.core.tokenizer_protocol import NamedFilesKind
from ml_playground.data_pipeline.manifest import account_of
from ml_playground.data_pipeline.source_protocol import Provenance, SourceFile, changes


def tokenizer_files(settings: Component | None) -> tuple[SourceFile, ...]:
    """Names, sizes and hashes of the files that a tokenizer is made of; empty where it learns from the text alone.

    Raises:
        DataError: One is missing or cannot be read.
        ConfigError: A library that the kind needs is not installed.
    """
    if settings is None:
        return ()
    kind: Any = load_object(kind_of(TOKENIZERS, settings.kind_name).build)
    if not isinstance(kind, NamedFilesKind):
        return ()
    return tuple(_account(path) for path in kind.named_files(settings))


def files_named_by(settings: PrepareSettings) -> tuple[SourceFile, ...]:
    """Those that tokenizer and chat template are made of: other ones, another data set.

    Raises:
        DataError: As for `tokenizer_files`.
        ConfigError: As for `tokenizer_files`.
    """
    found = tokenizer_files(settings.tokenizer)
    template = Path(settings.chat.template)
    if settings.source.modality != "chats" or settings.chat.template in OWN_TEMPLATES or not template.is_file():
        return found
    return (*found, _account(template))


def _account(path: Path) -> SourceFile:
    try:
        found = account_of(path)
    except OSError as error:
        raise DataError(
            f"{path}, of which the tokenizer is made, cannot be read: {error.strerror or error}; "
            "give yourself the right to read it, or name another one in prepare.tokenizer."
        ) from error
    return SourceFile(name=path.name, size_bytes=found.size_bytes, sha256=found.sha256)


def changed_files(old: Sequence[SourceFile], new: Sequence[SourceFile]) -> str | None:
    """What differs, in words; None: nothing."""
    before, after = (Provenance(kind="tokenizer", files=tuple(files)) for files in (old, new))
    return None if before.content == after.content else changes(before, after)
