"""Errors that a user can act on."""

import pytest

from ml_playground.core.error_handling import (
    CheckpointError,
    ConfigError,
    DataError,
    PlaygroundError,
    RunError,
    StorageError,
)


@pytest.mark.parametrize("kind", [ConfigError, DataError, CheckpointError, RunError, StorageError])
def test_every_error_of_ours_is_its_text(kind: type[PlaygroundError]) -> None:
    """The command line shows the text alone, and maps one base class to one exit code."""
    error = kind("what, where, what to do")
    assert isinstance(error, PlaygroundError)
    assert str(error) == "what, where, what to do"


def test_storage_error_is_no_os_error() -> None:
    """A handler for raw failures of the disk does not take it for one again."""
    assert not issubclass(StorageError, OSError)
