"""Files of a run and of its data that are cut short or have a flipped bit: named, and never trained on in silence."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from ml_playground.configuration.models import JobConfig
from ml_playground.core.error_handling import DataError, PlaygroundError
from ml_playground.data_pipeline.preparer import prepared_folder
from ml_playground.monitoring.reader import list_runs
from tests.faults.conftest import Tried
from tests.faults.forking import faults_of_a_resumed, rows_of, tensors_of
from tests.faults.training import disturbed, kinds_of, place_of, prepared_job, train


def flipped(path: Path) -> None:
    """One bit in the middle is another one."""
    content = bytearray(path.read_bytes() or b"\0")
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    """The second half is gone."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def emptied(path: Path) -> None:
    """As after a power cut without a flush."""
    path.write_bytes(b"")


Damage = Callable[[Path], None]
DAMAGES: list[Damage] = [flipped, cut, emptied]


def damages_in_turn(files: Sequence[str], first: int) -> list[tuple[str, Damage]]:
    """Each file with one of the damages; with `first` 0, 1 and 2 each file with each."""
    return [(name, DAMAGES[(first + place) % len(DAMAGES)]) for place, name in enumerate(files)]


TURNS = [0, pytest.param(1, marks=pytest.mark.long), pytest.param(2, marks=pytest.mark.long)]
"""The quick tests damage every file in one way, the long ones in all."""


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[JobConfig, Path]]:
    """A job, and a home with its whole run and one that was stopped at step 8, with checkpoints of steps 6 and 8."""
    home = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLP_HOME", str(home))
        job = prepared_job(home)
        train(job, "whole")
        train(job, "stopped", disturbed({}, stop_after=8))
        yield job, home


@pytest.fixture
def job(stopped: tuple[JobConfig, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> JobConfig:
    """The job, in a copy of that home."""
    shutil.copytree(stopped[1], tmp_path / "copy")
    monkeypatch.setenv("MLP_HOME", str(tmp_path / "copy"))
    return stopped[0]


CHECKPOINT_FILES = [
    "MANIFEST.json",
    "progress.json",
    "config.json",
    "hooks.json",
    "model.safetensors",
    "optimizer.safetensors",
    "tokenizer/tokenizer.json",
]


@pytest.mark.parametrize("turn", TURNS)
def test_checkpoint_damaged_in_any_file_is_passed_over_and_the_run_ends_with_the_same_bits(
    turn: int, stopped: tuple[JobConfig, Path], job: JobConfig, tmp_path: Path, tried: Tried
) -> None:
    """Each file in turn: the checkpoint before it is used, and this is written down."""
    run, whole = place_of(job, "stopped"), place_of(job, "whole")
    kept = tmp_path / "kept"
    shutil.copytree(run.path, kept)
    present = {
        path.relative_to(run.checkpoints / "step_000008").as_posix()
        for path in (run.checkpoints / "step_000008").rglob("*.*")
    }
    assert present == set(CHECKPOINT_FILES)
    for name, damage in damages_in_turn(CHECKPOINT_FILES, turn):
        damage(run.checkpoints / "step_000008" / name)
        assert train(job, "stopped").reason == "completed"
        assert rows_of(run) == rows_of(whole), name
        assert tensors_of(run) == tensors_of(whole), name
        (resumed,) = [line for line in run.events.read_text().splitlines() if '"resumed"' in line]
        assert '"step":6' in resumed
        assert name in resumed
        shutil.rmtree(run.path)
        shutil.copytree(kept, run.path)
        tried("damaged file of a checkpoint")


FILES_OF_A_RUN = [
    "status.json",
    "metrics.jsonl",
    "events.jsonl",
    "environment.json",
    "result.json",
    "samples/live.jsonl",
    ".lock",
]


@pytest.mark.parametrize("turn", TURNS)
def test_run_damaged_in_any_other_file_goes_on_or_says_what_to_do(
    turn: int, job: JobConfig, tmp_path: Path, tried: Tried
) -> None:
    """What can be written anew is; what cannot is named, with what to do; and `mlp runs` shows the run beside its neighbours."""
    run, whole = place_of(job, "stopped"), place_of(job, "whole")
    kept = tmp_path / "kept"
    shutil.copytree(run.path, kept)
    for name, damage in damages_in_turn(FILES_OF_A_RUN, turn):
        damage(run.path / name)
        assert len(list_runs(run.path.parent.parent)) == 2
        refused = ""
        try:
            train(job, "stopped")
        except PlaygroundError as error:
            refused = str(error)
        if refused:
            assert str(run.path / name) in refused, name
            assert "remove" in refused or "delete" in refused, name
        else:
            assert tensors_of(run) == tensors_of(whole), name
            if name not in ("metrics.jsonl", "samples/live.jsonl"):
                assert rows_of(run) == rows_of(whole), name
        if name in ("status.json", "environment.json", ".lock", "metrics.jsonl", "samples/live.jsonl"):
            assert not refused
        shutil.rmtree(run.path)
        shutil.copytree(kept, run.path)
        tried("damaged file of a run")


@pytest.mark.parametrize("turn", TURNS)
def test_data_damaged_in_any_file_are_named_and_not_trained_on(turn: int, job: JobConfig, tried: Tried) -> None:
    """A resume on other data would end with other bits, in silence."""
    folder = prepared_folder(job.prepare)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    assert len(files) >= 5
    for name, damage in damages_in_turn([str(path) for path in files], turn):
        path = Path(name)
        content = path.read_bytes()
        damage(path)
        with pytest.raises(DataError, match=path.name):
            train(job, "stopped")
        path.write_bytes(content)
        tried("damaged file of a data set")
    assert train(job, "stopped").reason == "completed"
    assert faults_of_a_resumed(place_of(job, "stopped"), place_of(job, "whole")) == []


@pytest.mark.parametrize("turn", TURNS)
def test_data_written_into_while_training_end_the_run_with_the_reason_and_the_next_start_goes_on(
    turn: int, tmp_path: Path, tried: Tried
) -> None:
    """The last checkpoint has not seen the change; with the old file back the run ends with the same bits."""
    job = prepared_job(tmp_path)
    train(job, "whole")
    for name, damage in damages_in_turn(["train.tokens", "val.tokens"], turn):
        path = prepared_folder(job.prepare) / name
        content = path.read_bytes()
        with pytest.raises(DataError, match=rf"{name} was written into while it was trained on"):
            train(job, name, disturbed({7: partial(damage, path)}))
        assert kinds_of(place_of(job, name))[-1] == "failed"
        with pytest.raises(DataError, match=name):
            train(job, name)
        path.write_bytes(content)
        assert train(job, name).reason == "completed"
        assert faults_of_a_resumed(place_of(job, name), place_of(job, "whole")) == []
        tried("data file written into while training")


def test_data_replaced_while_training_are_still_those_that_were_opened(tmp_path: Path, tried: Tried) -> None:
    """The run ends with the same bits; the next start refuses what lies there now."""
    job = prepared_job(tmp_path)
    train(job, "whole")
    folder = prepared_folder(job.prepare)

    def replace() -> None:
        for name in ("train.tokens", "val.tokens"):
            (folder / "other").write_bytes(bytes(len((folder / name).read_bytes())))
            (folder / "other").replace(folder / name)

    assert train(job, "replaced", disturbed({5: replace})).reason == "completed"
    assert faults_of_a_resumed(place_of(job, "replaced"), place_of(job, "whole")) == []
    with pytest.raises(DataError, match=r"val\.tokens|train\.tokens"):
        train(job, "another")
    tried("data file replaced while training")
