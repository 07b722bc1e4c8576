"""Ctrl-C may come at any moment while a process is started: none is left that nobody knows of."""

import subprocess
import sys
from pathlib import Path

import pytest

from ml_playground.core.run_folder import RunFolder

INTERRUPTED = """
import gc, os, signal, sys
from pathlib import Path
from ml_playground.commands.training_process import TrainingProcess
from ml_playground.core.deps import Deps
from ml_playground.core.run_folder import RunFolder

children = Path(f"/proc/self/task/{os.getpid()}/children")
run = RunFolder(Path(sys.argv[1]))


def start(moment):
    "The process, and how many moments there were too few: Python hears a signal when it calls a function, and when one of C returns."
    left = moment

    def look(_frame, event, _argument):
        nonlocal left
        if event in ("call", "c_return"):
            left -= 1
            if left == 0:
                signal.raise_signal(signal.SIGINT)

    process = TrainingProcess(run, Deps(), lambda _text: None)
    sys.setprofile(look)
    try:
        process.__enter__()
    finally:
        sys.setprofile(None)
    return process, left


# The finalizers of what was left would be interrupted as well.
gc.disable()
# A shell that starts the tests in the background has Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
moment = left = 0
while left <= 0:
    moment += 1
    try:
        process, left = start(moment)
    except KeyboardInterrupt:
        assert not children.read_text(), f"at moment {moment} a process is left"
    else:
        process.__exit__(None, None, None)
        assert left > 0, f"at moment {moment} Ctrl-C is lost"
print(moment)
"""


@pytest.mark.usefixtures("uncovered")
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are looked up in /proc")
def test_training_process_interrupted_at_any_moment_of_its_start_is_none(tmp_path: Path) -> None:
    """One that was forgotten would train for hours; and no Ctrl-C is lost."""
    run = RunFolder(tmp_path / "runs" / "toy" / "20260101-000000-aaaa")
    run.path.mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, run.path], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 50
