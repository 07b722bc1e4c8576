"""Several live writers of one name never mix their contents."""

import threading
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ml_playground.core.atomic import file, folder, sweep
from ml_playground.core.error_handling import StorageError

WRITERS = 4
ROUNDS = 40
MEMORY_DISK = Path("/dev/shm")


@pytest.fixture
def fast(tmp_path: Path) -> Path:
    """A folder in memory where there is one: waiting for the disk would only keep the writers apart."""
    return MEMORY_DISK if MEMORY_DISK.is_dir() else tmp_path


def in_threads(work: object, faults: list[str]) -> None:
    """Run `work(number)` in several threads; what a thread raises is a fault."""

    def guarded(number: int) -> None:
        try:
            work(number)  # type: ignore[operator]
        except (OSError, AssertionError) as error:
            faults.append(repr(error))

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_folder_written_by_many_at_once_is_always_one_of_theirs(fast: Path) -> None:
    """Each writer finishes or is refused; what stands is whole, and nothing is left over."""
    faults: list[str] = []
    finished: list[int] = []
    with TemporaryDirectory(dir=fast) as place:
        path = Path(place) / "data"

        def work(number: int) -> None:
            for _ in range(ROUNDS):
                try:
                    with folder(path) as partial:
                        for name in "abc":
                            (partial / name).write_text(str(number))
                    finished.append(number)
                except StorageError as error:
                    assert "is being written by another process" in str(error)  # noqa: PT017

        in_threads(work, faults)
        sweep(path.parent)
        assert faults == []
        assert finished
        assert len({(path / name).read_text() for name in "abc"}) == 1
        assert [entry.name for entry in path.parent.iterdir()] == ["data"]


def test_file_written_by_many_at_once_is_always_one_of_theirs(fast: Path) -> None:
    """Writers of a file wait for each other; a reader sees whole contents only."""
    faults: list[str] = []
    with TemporaryDirectory(dir=fast) as place:
        path = Path(place) / "a.txt"

        def work(number: int) -> None:
            for _ in range(ROUNDS):
                with file(path) as stream:
                    stream.write(str(number).encode() * 500)
                    stream.flush()
                    stream.write(str(number).encode() * 500)
                seen = path.read_text()
                assert seen == seen[0] * 1000

        in_threads(work, faults)
        assert faults == []
        assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]
