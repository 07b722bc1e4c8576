"""What the flight check found, as values and as the line that a run begins with."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ml_playground.core.humanise import duration
from ml_playground.core.storage_errors import readable_size
from ml_playground.training.flight_ahead import Ahead, Span
from ml_playground.training.flight_check import DiskNeed

CHECKED, NOTES, PASSED_OVER = "checked", "notes", "passed over"
"""Facts of a start that the console shows on lines of their own."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Of a device, or of the machine beside it."""

    peak_bytes: int
    """The most that this process takes."""
    there_bytes: int | None
    """What it may take; none: unknown."""
    measured: bool
    """Whether the peak was seen in the trial; else it is planned."""

    def __str__(self) -> str:
        peak = f"{'' if self.measured else 'about '}{readable_size(self.peak_bytes)}"
        return peak if self.there_bytes is None else f"{peak} of {readable_size(self.there_bytes)}"


@dataclass(frozen=True, slots=True)
class Written:
    """The checkpoint of the trial, which was read again and restored the learner to the bit."""

    size_bytes: int
    write_s: float
    read_s: float


@dataclass(frozen=True, slots=True)
class Speed:
    """What was timed."""

    targets_per_s: float
    steps: int
    """How many were timed."""
    evaluation_s: float
    """Of a whole evaluation."""
    token_s: float
    """Of a drawn token; 0 where the objective draws no text."""


@dataclass(frozen=True, slots=True)
class FlightReport:
    """What a run needs, and what is there."""

    parameters: int
    trained: int
    """How many of them."""
    unit: str
    """What a target is: token, image."""
    tried: Sequence[str]
    """What was done on the run's own parts, in words; empty: the figures are planned."""
    memory: Memory | None
    """Of the device that computes; none: nothing was tried, and what this kind of model takes is unknown."""
    host: Memory | None
    """Of the machine, where the device has its own memory."""
    disk: DiskNeed
    free_disk_bytes: int
    ahead: Ahead
    speed: Speed | None
    """None where nothing was tried."""
    time: Span | None
    """From the first step to the end of the run."""
    written: Written | None
    """None where no checkpoint was written."""
    notes: Sequence[str]
    """What does not stop the run, but its user should know."""

    @property
    def line(self) -> str:
        """All of it in a few words."""
        return ", ".join(self._parts())

    def _parts(self) -> Iterator[str]:
        if self.tried:
            *others, last = self.tried
            yield f"{', '.join(others)} and {last} tried" if others else f"{last} tried"
        yield f"peak {self.memory or 'unknown'}"
        yield f"checkpoints {readable_size(self.disk.checkpoint_bytes)}"
        yield f"needs {readable_size(self.disk.more_bytes)} of {readable_size(self.free_disk_bytes)} disk"
        if self.time is not None:
            yield f"about {duration(self.time.likely_s)} ({duration(self.time.low_s)} to {duration(self.time.high_s)})"
