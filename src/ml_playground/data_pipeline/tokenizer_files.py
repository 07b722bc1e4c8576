"""The files that a tokenizer's settings name: they decide about a data set as its source does."""

from collections.abc import Sequence
from typing import Any

from ml_playground.configuration.base import Component
from ml_playground.configuration.families import TOKENIZERS
from ml_playground.core.registry import kind_of, load_object
from ml_playground.core.tokenizer_protocol import NamedFilesKind
from ml_playground.data_pipeline.source_protocol import Provenance, SourceFile, changes
from ml_playground.data_pipeline.sources.text_pieces import file_account


def tokenizer_files(settings: Component | None) -> tuple[SourceFile, ...]:
    """Names, sizes and hashes of the files that a tokenizer is made of; empty where it learns from the text alone.

    Raises:
        DataError: One is missing or cannot be read.
        ConfigError: A library that the kind needs is not installed.
    """
    if settings is None:
        return ()
    kind: Any = load_object(kind_of("tokenizer", TOKENIZERS, settings.kind_name).build)
    if not isinstance(kind, NamedFilesKind):
        return ()
    return tuple(file_account(path, path.name) for path in kind.named_files(settings))


def changed_files(old: Sequence[SourceFile], new: Sequence[SourceFile]) -> str | None:
    """What differs, in words; None: nothing."""
    before, after = (Provenance(kind="tokenizer", files=tuple(files)) for files in (old, new))
    return None if before.content == after.content else changes(before, after)
