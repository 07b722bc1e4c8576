"""Several processes: the same bytes as one, and nothing left of them whatever happens."""

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from ml_playground.configuration.families import TOKENIZERS
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import WorkerError
from ml_playground.core.registry import load_object
from ml_playground.core.run_folder import data_folder
from ml_playground.core.tokenizer_protocol import SharedKind
from ml_playground.data_pipeline.building import MOST_WORKERS, SHARED_FROM_BYTES, workers_for
from ml_playground.data_pipeline.encoding import Chunk, in_order
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.data_pipeline.process_team import process_team
from ml_playground.data_pipeline.progress import PrepareProgress
from ml_playground.data_pipeline.team_member import ENCODE, LEARN, LEARNT, LOAD, read_message, serve, write_message
from ml_playground.tokenization.byte_bpe import ByteBpeTokenizer
from ml_playground.tokenization.settings import ByteBpe
from tests.fakes.prepared_text import text_settings, write_texts

KIND = TOKENIZERS["byte_bpe"].build
TEXT = "".join(
    f"{number} bottles of böer on the wall,\n\n   take {number % 7} down, 你好 {number}\n" for number in range(60_000)
)
BPE = {"kind": "byte_bpe", "vocab_size": 500}


def bytes_of(folder: Path) -> dict[str, bytes]:
    """All files but the manifest, which names the date."""
    return {
        path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "dataset.json"
    }


def children_of(process: int) -> list[int]:
    """Processes that a process has started and not yet waited for."""
    found = Path(f"/proc/{process}/task/{process}/children")
    return [int(number) for number in found.read_text().split()]


def is_running(process: int) -> bool:
    """Whether there is such a process, zombies left out."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def names_in(folder: Path) -> list[str]:
    """What lies there, locks left out."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


linux = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are looked up in /proc")


def test_prepare_with_any_number_of_workers_writes_the_same_bytes(tmp_path: Path) -> None:
    """The number of processes is a matter of time alone: token files, indexes, vocabulary and counts are equal."""
    folder = write_texts(tmp_path, {"a.txt": TEXT, "b.txt": "short", "c.txt": TEXT[:1000]})
    settings = text_settings(folder, tokenizer=BPE, val_fraction=0.2, test_fraction=0.1)
    made = {number: prepare(settings, Deps(), workers=number, fresh=True) for number in (1, 2, 3)}
    places = {1: made[2].set_aside, 2: made[3].set_aside, 3: made[3].folder}
    contents = [bytes_of(place) for place in places.values() if place]
    assert contents[0] == contents[1] == contents[2]
    assert made[1].manifest.ledger == made[2].manifest.ledger == made[3].manifest.ledger
    assert len({one.fingerprint for one in made.values()}) == 1


@linux
@pytest.mark.parametrize("phase", ["learning", "encoding"])
def test_prepare_whose_worker_is_killed_says_so_and_leaves_nothing(tmp_path: Path, phase: str) -> None:
    """As the kernel does when the memory gives out."""
    path = write_texts(tmp_path, {"text.txt": TEXT * 2}) / "text.txt"
    before = set(children_of(os.getpid()))

    def kill_one(progress: PrepareProgress) -> None:
        if progress.phase == phase:
            for child in set(children_of(os.getpid())) - before:
                # One that has ended between the look and the blow is dead too.
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)

    with pytest.raises(WorkerError, match=r"was killed by signal 9, perhaps for want of memory; .* --workers 1"):
        prepare(text_settings(path, tokenizer=BPE), Deps(), workers=2, report=kill_one)
    assert names_in(data_folder()) == []
    assert set(children_of(os.getpid())) <= before


SLOW = """
import signal, sys, time
from pathlib import Path
from ml_playground.core.deps import Deps
from ml_playground.data_pipeline.preparer import prepare
from tests.fakes.prepared_text import text_settings

def report(progress):
    if progress.phase == "encoding":
        print("encoding", flush=True)
        time.sleep(600)

# A shell that starts the tests in the background has Ctrl-C ignored, and its children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
prepare(text_settings(Path(sys.argv[1]), tokenizer={"kind": "byte_bpe", "vocab_size": 300}), Deps(), workers=2, report=report)
"""


@pytest.mark.usefixtures("uncovered")
@linux
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_prepare_that_is_ended_takes_its_workers_with_it(tmp_path: Path, home: Path, how: signal.Signals) -> None:
    """Ctrl-C, an end asked for, or no chance to clean up: no process stays, no data set appears."""
    path = write_texts(tmp_path, {"text.txt": TEXT}) / "text.txt"
    command = [sys.executable, "-c", SLOW, str(path)]
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "encoding\n"
        workers = children_of(process.pid)
        process.send_signal(how)
        _, errors = process.communicate(timeout=600)
    assert len(workers) == 2
    deadline = time.monotonic() + 600
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, workers))
    assert "team_member" not in errors
    assert [name for name in names_in(data_folder()) if not name.startswith(".")] == []


def test_prepare_worker_that_cannot_start_says_how_it_ended() -> None:
    """A kind that is no kind ends the process at once."""
    batch = [Chunk("train", "text", starts=True, ends=True, document=0, offset=0)]
    with (
        process_team("ml_playground.core.values:Document", 1) as team,
        pytest.raises(WorkerError, match="ended with code 1"),
    ):
        team.learn([[chunk.text for chunk in batch]], ByteBpeTokenizer.learner())


def test_serve_answers_each_request_in_turn(tmp_path: Path) -> None:
    """What one process learnt and encodes is what the class itself does; then its input ends, and so does it."""
    text = "the cat sat on the mat, the cat's hat\n" * 20
    tokenizer = ByteBpeTokenizer.train([text], ByteBpe(vocab_size=300))
    tokenizer.save(tmp_path)
    requests, replies = io.BytesIO(), io.BytesIO()
    for message in ([LEARN, text.encode()], [LEARNT], [LOAD, os.fsencode(tmp_path)], [ENCODE, b"the cat", b""]):
        write_message(requests, message)
    requests.seek(0)
    serve(load_object(KIND), requests, replies)
    replies.seek(0)
    answers = [read_message(replies) for _ in range(4)]
    learner = ByteBpeTokenizer.learner()
    learner.absorb((answers[1] or [b""])[0])
    assert answers[0] == answers[2] == []
    assert ByteBpeTokenizer.learnt(learner, ByteBpe(vocab_size=300)).fingerprint == tokenizer.fingerprint
    assert answers[3] == [ids.tobytes() for ids in tokenizer.encode_arrays(["the cat", ""])]
    assert read_message(replies) is None


def test_worker_whose_answer_nobody_waits_for_leaves_in_silence() -> None:
    """Who prepares was killed meanwhile: its user has a prompt before him by now, and no use for a traceback."""
    command = [sys.executable, "-m", "ml_playground.data_pipeline.team_member", KIND]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    ) as worker:
        assert worker.stdin and worker.stdout and worker.stderr
        worker.stdout.close()
        request = io.BytesIO()
        write_message(request, [LEARNT])
        worker.stdin.write(request.getvalue())
        assert (worker.stderr.read(), worker.wait(600)) == (b"", 0)


@pytest.mark.parametrize("cut", [3, 12, 30])
def test_read_message_that_was_cut_is_no_message(cut: int) -> None:
    """The other side was killed while it wrote."""
    stream = io.BytesIO()
    write_message(stream, [b"eight by", b"tes"])
    assert read_message(io.BytesIO(stream.getvalue()[:cut])) is None
    assert read_message(io.BytesIO(stream.getvalue())) == [b"eight by", b"tes"]


def test_in_order_holds_few_and_keeps_the_order() -> None:
    """Memory does not grow with the text, whoever is slow."""
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            yield number

    with ThreadPoolExecutor(4) as threads:
        ahead: list[int] = []
        results: list[tuple[int, int]] = []
        for item, result in in_order(
            threads, lambda number: (time.sleep(0.002 * (number % 3)), number * 2)[1], items(), 3
        ):
            results.append((item, result))
            ahead.append(len(taken) - len(results))
    assert results == [(number, number * 2) for number in range(20)]
    assert max(ahead) <= 2


def test_workers_for_shares_long_texts_of_kinds_that_are_worth_it() -> None:
    """Characters are encoded faster than they could be sent; a short text is done before a process has started."""
    bpe, char = load_object(KIND), load_object(TOKENIZERS["char"].build)
    assert isinstance(bpe, SharedKind)
    assert not isinstance(char, SharedKind)
    assert workers_for(char, 4, 1 << 40) == 0
    assert workers_for(bpe, 1, 1 << 40) == 0
    assert workers_for(bpe, 3, 10) == 3
    assert workers_for(bpe, None, SHARED_FROM_BYTES - 1) == 0
    assert workers_for(bpe, None, 1 << 40) <= MOST_WORKERS
