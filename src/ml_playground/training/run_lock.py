"""One process for each run; a start that fails leaves nothing behind."""

import json
import shutil
import traceback
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ml_playground.configuration.models import JobConfig
from ml_playground.core.atomic import write_file
from ml_playground.core.error_handling import PlaygroundError, RunError
from ml_playground.core.file_locks import is_locked, locked_file
from ml_playground.core.run_folder import RunFolder, cache_folder
from ml_playground.core.storage_errors import storage_errors
from ml_playground.training.memory import what_to_change


@contextmanager
def one_start_at_a_time(experiment: str) -> Generator[None]:
    """Whoever starts an experiment waits here until a start before it has claimed its run, and so finds it.

    Two that choose in the same second would both find none, and begin twins.

    Raises:
        StorageError: Nothing can be written there.
    """
    path = cache_folder() / "starting" / f"{experiment}.lock"
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = locked_file(path)
    with lock:
        yield


@contextmanager
def nothing_left_of_a_false_start(run: RunFolder, job: JobConfig) -> Generator[None]:
    """A run is found by other processes from here on; one that was refused before it began leaves no folder behind.

    Without that a second start would begin a twin while the first is still being built and checked. Who breaks off the start of a
    run that lay there before does not mean to lose it.
    """
    found = run.config.exists()
    # Also one that was killed before it began, whatever it left: it holds nothing that was computed.
    begun = run.environment.exists() or run.checkpoints.exists()
    try:
        if not found:
            write_job(run, job)
        yield
    except BaseException as error:
        broken_off = found and isinstance(error, KeyboardInterrupt)
        # Its environment is the first that is written of a run that begins.
        if not (begun or broken_off or run.environment.exists()):
            shutil.rmtree(run.path)
        raise


def write_job(run: RunFolder, job: JobConfig) -> None:
    """Keep the resolved job of a run, by which later starts find it."""
    write_file(run.config, json.dumps(job.model_dump(mode="json"), indent=2) + "\n")


@contextmanager
def traceback_in(log: Path, job: JobConfig) -> Generator[None]:
    """An unexpected failure leaves its traceback in the run's log; a lack of memory says what to change.

    Raises:
        MemoryError: Memory ran out, while the parts were being built.
    """
    try:
        yield
    except PlaygroundError:
        raise
    except Exception as error:
        if advice := what_to_change(error, job, by_rows=False):
            raise MemoryError(advice) from error
        if log.parent.is_dir():
            # A disk that is full must not put its own complaint in the place of the failure.
            with suppress(OSError), log.open("a", encoding="utf-8") as stream:
                traceback.print_exc(file=stream)
        raise


def held(run: RunFolder) -> AbstractContextManager[Any]:
    """Hold a run until the end of the block, or of the process, however it ends.

    Raises:
        RunError: Another process trains it.
        StorageError: Nothing can be written there.
    """
    with storage_errors(run.lock):
        run.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(run.lock)
        while True:
            try:
                # Another process may be on its way out: wait a little before refusing.
                return lock.acquire(timeout=1)
            except Timeout:
                # Who only looks whether the run lives holds the lock for microseconds, or as long as it is stopped there.
                if is_locked(run.lock):
                    break
    raise RunError(
        f"The run {run.id} is being trained by another process; wait for it, pause it (mlp control {run.id} pause), "
        "or start another run beside it: --fresh."
    )
