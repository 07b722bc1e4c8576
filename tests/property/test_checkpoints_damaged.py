"""Damage anywhere in a checkpoint is found and named, and the one before is used."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.configuration.models import CheckpointingSettings
from ml_playground.core.checkpoint_format import latest
from ml_playground.core.error_handling import CheckpointError
from ml_playground.core.values import Progress
from ml_playground.training.checkpoint_protocols import Snapshot
from ml_playground.training.checkpointing.directory_store import DirectoryStore
from tests.fakes.saving import save

SETTINGS = CheckpointingSettings(keep_last=9)


@pytest.fixture(scope="module")
def saved() -> Iterator[Path]:
    """Two whole checkpoints, of steps 1 and 2."""
    with TemporaryDirectory() as folder:
        tokenizer = Path(folder) / "tokenizer"
        tokenizer.mkdir()
        (tokenizer / "tokenizer.json").write_text('{"kind": "byte"}')
        store = DirectoryStore(Path(folder) / "checkpoints", SETTINGS)
        for step in (1, 2):
            save(
                store,
                Snapshot(
                    progress=Progress(step, 10, 0.0, 1.0, 2.0),
                    tensors={"model": {"w": torch.arange(8.0)}, "optimizer": {"m": torch.arange(8.0)}},
                    hooks={"a": {"b": 1}},
                    config='{"name": "x"}',
                    data_fingerprint="f",
                    metrics={"loss": 1.0},
                    attachments={"tokenizer": tokenizer},
                ),
            )
        yield Path(folder) / "checkpoints"


def damaged_copy(saved: Path, place: Path, data: st.DataObject) -> tuple[Path, str]:
    """A copy whose newest checkpoint has one flipped byte or one file cut short, and that file's name."""
    folder = place / "checkpoints"
    shutil.copytree(saved, folder)
    newest = folder / "step_000002"
    names = sorted(file.relative_to(newest).as_posix() for file in newest.rglob("*") if file.is_file())
    name = data.draw(st.sampled_from(names))
    content = bytearray((newest / name).read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[position] ^= data.draw(st.integers(1, 255))
    else:
        del content[position:]
    (newest / name).write_bytes(content)
    return folder, name


@given(data=st.data())
def test_byte_flipped_or_file_cut_anywhere_is_named_and_passed_over(saved: Path, data: st.DataObject) -> None:
    """No byte of a checkpoint can change unnoticed, its manifest included."""
    with TemporaryDirectory() as place:
        folder, name = damaged_copy(saved, Path(place), data)
        store = DirectoryStore(folder, SETTINGS)
        found = store.latest()
        assert found is not None
        assert found.progress.step == 1
        (problem,) = store.problems
        assert "step_000002" in problem
        assert name in problem
        assert [kept.step for kept in store.list()] == [1]
        with pytest.raises(CheckpointError, match=name):
            store.open(2)
        other = latest(folder)
        assert other is not None
        assert other.passed_over == (problem,)
