"""Words that nobody reads cost nobody anything."""

import contextlib
import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread, get_ident

import pytest

from ml_playground.core.standard_error import MOST_LINES, PATIENCE_S, PatientStderr, Speaker, say_at_once, takes_words
from tests.fakes.no_threads import no_threads


@contextmanager
def stderr_into_a_full_pipe() -> Iterator[int]:
    """Descriptor 2 is a pipe that takes nothing more; its other end."""
    reading, writing = os.pipe()
    kept = os.dup(2)
    os.dup2(writing, 2)
    os.set_blocking(writing, False)
    while takes_words(writing):
        os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    os.close(writing)
    try:
        yield reading
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(reading)


def test_takes_words_tells_a_full_pipe_from_one_with_room() -> None:
    """Asked without waiting."""
    with stderr_into_a_full_pipe() as reading:
        assert not takes_words(2)
        os.read(reading, 1 << 16)
        assert takes_words(2)


def test_say_at_once_full_pipe_does_not_wait() -> None:
    """The handler of Ctrl-C must come to its end for the run to save."""
    with stderr_into_a_full_pipe():
        say_at_once("stopping")


def test_speaker_says_lines_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    """At once, where somebody listens."""
    speaker = Speaker()
    for number in range(5):
        speaker.say(f"line {number}")
        assert capsys.readouterr().err == f"line {number}\n"


class Late(io.StringIO):
    """Takes words late, as they come from a thread that gets no processor."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()

    def write(self, text: str, /) -> int:
        """Much later than a moment."""
        self.asked.set()
        time.sleep(3 * PATIENCE_S)
        return super().write(text)


def test_speaker_is_waited_for_where_somebody_listens() -> None:
    """What happens next is said after it."""
    with contextlib.redirect_stderr(Late()) as heard:
        Speaker().say("at last")
        assert heard.getvalue() == "at last\n"


def test_speaker_is_waited_for_behind_the_words_of_another_thread() -> None:
    """Two have something to say at once: a hook beside the training, and the training."""
    speaker = Speaker()
    with contextlib.redirect_stderr(Late()) as heard:
        other = threading.Thread(target=speaker.say, args=("one",))
        other.start()
        assert heard.asked.wait(600)
        speaker.say("two")
        assert heard.getvalue() == "one\ntwo\n"
        other.join()


def test_speaker_without_room_for_a_thread_says_all_the_same(capfd: pytest.CaptureFixture[str]) -> None:
    """Where somebody listens; where nobody does, with the next line for which there is a thread."""
    speaker = Speaker()
    with no_threads():
        speaker.say("at once")
    assert capfd.readouterr().err == "at once\n"
    with no_threads(), stderr_into_a_full_pipe():
        speaker.say("waits")
    speaker.say("with it")
    assert capfd.readouterr().err == "waits\nwith it\n"


def test_speaker_without_room_for_a_thread_after_stderr_was_closed_says_nothing(tmp_path: Path) -> None:
    """Words that nobody can hear end no run."""
    closed = (tmp_path / "stderr").open("w")
    closed.close()
    with no_threads(), contextlib.redirect_stderr(closed):
        Speaker().say("to nobody")


BLOCKED = """
import os, sys, threading
from ml_playground.core.standard_error import PatientStderr, Speaker
speaker = Speaker()
for number in range({lines}):
    speaker.say(f"line {{number}} " + "x" * 200)
threading.Thread(target=PatientStderr().write, args=("y" * 200_000,), daemon=True).start()
print("done", flush=True)
sys.stdin.read(1)
"""


def test_speaker_reader_that_does_not_read_costs_a_moment_and_the_program_can_exit() -> None:
    """Threads that wait for the reader hold nothing that the exit of the program needs."""
    code = BLOCKED.format(lines=MOST_LINES)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline() == b"done\n"
        child.stdin.close()
        assert child.wait(600) == 0
        said = child.stderr.read()
    assert said.startswith(b"line 0 xxx")


class Slow(io.StringIO):
    """Takes a moment for each write; notes who looks for room, and who has written."""

    def __init__(self) -> None:
        super().__init__()
        self.looked: list[int] = []
        self.written: list[int] = []

    def fileno(self) -> int:
        """Asked for by who looks for room; no look comes before the write of the one before it is over."""
        assert len(self.looked) == len(self.written)
        self.looked.append(get_ident())
        raise io.UnsupportedOperation

    def write(self, text: str, /) -> int:
        """Long enough for everybody else to look."""
        time.sleep(0.01)
        self.written.append(get_ident())
        return super().write(text)


def test_patient_stderr_who_has_found_room_writes_before_another_looks() -> None:
    """Of two threads that find the last 4,096 bytes of a pipe, the second would hang in its write, and the exit of the program with it."""
    with contextlib.redirect_stderr(Slow()) as heard:
        threads = [Thread(target=PatientStderr().write, args=("x" * 2500,)) for _ in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    assert heard.looked == heard.written
    assert len(heard.written) == 4 * 3


class Complaining(io.StringIO):
    """Has something to say itself when it is written to, as a finalizer that fails while a live picture stands in for stderr."""

    def write(self, text: str, /) -> int:
        """A complaint comes before it."""
        if text != "complaint\n":
            PatientStderr().write("complaint\n")
        return super().write(text)


def test_patient_stderr_who_writes_may_have_to_write_in_the_midst_of_it() -> None:
    """A lock that it waits for itself would stop a training for ever."""
    with contextlib.redirect_stderr(Complaining()) as heard:
        thread = Thread(target=PatientStderr().write, args=("word\n",), daemon=True)
        thread.start()
        thread.join(60)
        assert heard.getvalue() == "complaint\nword\n"


def test_patient_stderr_closed_before_the_program_began_takes_words_and_drops_them() -> None:
    """`mlp train X 2>&-`: descriptor 2 is by then some other file, into which nothing may be written."""
    code = (
        "import sys; from ml_playground.core.standard_error import *; open('other', 'w'); say_at_once('x'); p = PatientStderr();"
        "p.write('x'); p.flush(); print(sys.stderr, p.isatty(), open('other').read())"
    )
    done = subprocess.run(
        f"""exec 2>&-; cd "$(mktemp -d)"; exec {sys.executable} -W ignore -c "{code}" """,
        shell=True,
        check=False,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.stdout == "None False \n"


def test_patient_stderr_has_the_encoding_of_stderr() -> None:
    """What it cannot show is replaced before it is written."""
    assert PatientStderr().encoding == (sys.stderr.encoding or "utf-8")
