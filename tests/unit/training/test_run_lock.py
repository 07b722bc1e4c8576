"""One process for each run."""

import fcntl
from pathlib import Path
from threading import Event, Timer

import pytest

from ml_playground.core.error_handling import RunError
from ml_playground.core.run_folder import RunFolder
from ml_playground.training.run_lock import held


def test_held_by_another_is_refused(tmp_path: Path) -> None:
    """With what can be done."""
    run = RunFolder(tmp_path / "toy" / "20260101-000000-aaaa")
    with held(run), pytest.raises(RunError, match="is being trained by another process; wait for it, pause it"):
        held(run)
    with held(run):
        assert run.lock.exists()


def test_held_while_somebody_looks_waits_however_long_that_takes(tmp_path: Path) -> None:
    """A viewer that was stopped in the midst of a look trains nothing."""
    run = RunFolder(tmp_path / "toy" / "20260101-000000-aaaa")
    run.path.mkdir(parents=True)
    with run.lock.open("wb") as viewer:
        fcntl.flock(viewer, fcntl.LOCK_SH)
        gone = Event()

        def go() -> None:
            gone.set()
            fcntl.flock(viewer, fcntl.LOCK_UN)

        # Longer than one that trains is waited for.
        going = Timer(1.5, go)
        going.start()
        with held(run):
            assert gone.is_set()
        going.join()
