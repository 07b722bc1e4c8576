"""A process of its own that trains a run folder: watched by the files that it writes, and killed at a moment of choice."""

import subprocess
import sys
from collections.abc import Callable
from types import TracebackType
from typing import BinaryIO, Self

from ml_playground.core.atomic import read_lines
from ml_playground.core.certificate import Kill
from ml_playground.core.checkpoint_format import list_complete, steps_in
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import WorkerError
from ml_playground.core.leaving import interrupted_afterwards
from ml_playground.core.run_folder import RunFolder
from ml_playground.core.run_schema import MetricRow
from ml_playground.monitoring.reader import read_status

POLL_S = 0.002
SHOW_S = 0.5
SIGNAL, KILLED = ("TerminateProcess", 1) if sys.platform == "win32" else ("SIGKILL", -9)
"""What `Popen.kill` sends, and the exit code of a process that it ended."""
ENDED = (0, 3)
"""Exit codes of a training that came to an end of its own; 3 is that of numbers or memory that gave out."""
TOLD_LINES = 8
"""Of the last words of a process that failed."""


class TrainingProcess:
    """Runs from the beginning of a `with` block to its end at the latest. Of the run it holds nothing but the folder."""

    def __init__(self, run: RunFolder, deps: Deps, show: Callable[[str], None]) -> None:
        """`show` hears now and then how far it has come."""
        self._run = run
        self._deps = deps
        self._show = show
        self._shown_s = 0.0

    def __enter__(self) -> Self:
        self._output: BinaryIO = self._run.log.open("a+b")
        command = [sys.executable, "-m", "ml_playground.commands.train_folder", str(self._run.path)]
        # In a session of its own Ctrl-C reaches us alone: we end the child, and it does not pause half-way.
        process: subprocess.Popen[bytes] | None = None
        try:
            # Interrupted in its midst, the library forgets a process that has begun, which would train to its end.
            with interrupted_afterwards():
                process = subprocess.Popen(  # noqa: S603 - our own program
                    command, stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._output, start_new_session=True
                )
            self._process = process
            self._began_s = self._deps.clock.tick()
            return self
        except BaseException:
            if process is not None:
                _end(process)
            self._output.close()
            raise

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        _end(self._process)
        self._output.close()

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return self._deps.clock.tick() - self._began_s

    def wait_until(self, moment: Callable[[], bool]) -> bool:
        """Wait for a moment; false when the process ended before it.

        Raises:
            WorkerError: It failed.
        """
        while not moment():
            if self._process.poll() is not None:
                self._check(self._process.wait())
                return False
            self._say_how_far()
            self._deps.sleep(POLL_S)
        return True

    def wait_for_seconds(self, seconds: float) -> bool:
        """Wait until so much time has passed since it was started; false when it ended before.

        Raises:
            WorkerError: It failed.
        """
        return self.wait_until(lambda: self.seconds >= seconds)

    def wait(self) -> None:
        """Wait for its end.

        Raises:
            WorkerError: It failed; with its last words.
        """
        self.wait_until(lambda: False)

    def kill(self) -> Kill | None:
        """End it between any two instructions; None when it had come to its end before.

        Raises:
            WorkerError: It had failed.
        """
        seconds = self.seconds
        self._process.kill()
        code = self._process.wait()
        if code != KILLED:
            self._check(code)
            return None
        return Kill(
            signal=SIGNAL,
            seconds=round(seconds, 3),
            written_step=written_step(self._run),
            saving=any(self._run.checkpoints.glob(".step_*.partial")),
            resumed_at=max((saved.progress.step for saved in list_complete(self._run.checkpoints)), default=0),
        )

    def _say_how_far(self) -> None:
        if self.seconds - self._shown_s > SHOW_S:
            self._shown_s = self.seconds
            status = read_status(self._run)
            self._show("starting" if status is None else f"step {status.step:,} of {status.max_steps:,}")

    def _check(self, code: int) -> None:
        if code not in ENDED:
            # A run that ends before its first step takes its folder with it, but not what is open.
            self._output.seek(0)
            lines = self._output.read().decode(errors="replace").splitlines()
            words = "\n".join(f"  {line}" for line in lines[-TOLD_LINES:])
            raise WorkerError(f"The training that was to be verified failed (exit code {code}):\n{words}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    with interrupted_afterwards():
        process.kill()
        process.wait()


def saved_step(run: RunFolder) -> int:
    """The step of the newest checkpoint; 0 where there is none."""
    return max(steps_in(run.checkpoints), default=0)


def written_step(run: RunFolder) -> int:
    """The step of the last row of metrics; 0 where there is none."""
    lines = read_lines(run.metrics)
    return MetricRow.model_validate_json(lines[-1]).step if lines else 0
