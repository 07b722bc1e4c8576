"""The trial flight: a step, an evaluation and a text on the run's own parts, which are then put back to the bit."""

import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from operator import length_hint
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from ml_playground.core.deps import Clock
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.file_locks import locked_folder, remove_tree
from ml_playground.core.machine import probe
from ml_playground.core.process_memory import forget_peak, peak_bytes, resident_bytes
from ml_playground.core.storage_errors import storage_errors
from ml_playground.core.values import Progress
from ml_playground.training.assembly import Assembly, Opened
from ml_playground.training.checkpoint_protocols import NotSaved, Snapshot
from ml_playground.training.checkpointing.directory_store import DirectoryStore
from ml_playground.training.checkpointing.snapshot_buffer import SnapshotBuffer
from ml_playground.training.flight_ahead import Pace, prompts_of
from ml_playground.training.flight_check import memory_advice
from ml_playground.training.flight_kept import kept_of, refuse_differences
from ml_playground.training.flight_report import Memory, Speed, Written
from ml_playground.training.hook_protocols import Hook, Preview
from ml_playground.training.memory import UpdateOutOfMemoryError, is_out_of_memory, smaller_update
from ml_playground.training.protocols import KnowsItsLargest

Tell = Callable[[str], None]

AGAIN_BELOW_S = 0.1
"""What took less is done a second time: the first time also builds what later ones find ready."""
DRAWN_TOKENS = 8
"""Length of the trial's text."""
TRIED_NAME = ".flight-check-"
"""Begins the name of the folder of the trial's checkpoint."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long steps are timed, one at least: a share of the run, as its second step foretells it, within bounds."""

    share: float
    least_s: float
    most_s: float
    most_steps: int


BEFORE_A_RUN = Effort(share=0.005, least_s=0.15, most_s=2.0, most_steps=8)
"""Hardly noticed by who waits for the first step."""
ALONE = Effort(share=1.0, least_s=3.0, most_s=3.0, most_steps=100)
"""Somebody asked for it."""


@dataclass(slots=True)
class Tried:
    """What the trial showed."""

    memory: Memory
    """Of the device that computes."""
    host: Memory | None = None
    """Of the machine, where the device has a memory of its own."""
    done: list[str] = field(default_factory=list[str])
    """What was tried, in words."""
    notes: list[str] = field(default_factory=list[str])
    """What did not fit, and how the run will help itself."""
    steps_s: list[float] = field(default_factory=list[float])
    """Of each step that was timed."""
    targets: float = 0.0
    """Of a step."""
    evaluation_s: float = 0.0
    """Of a whole evaluation."""
    token_s: float = 0.0
    """Of a drawn token; 0 where no text is drawn."""
    copy_s: float = 0.0
    """For which training stands still when it is saved."""
    written: Written | None = None

    @property
    def speed(self) -> Speed | None:
        """What was timed, if a step was."""
        if not self.steps_s:
            return None
        middle = sorted(self.steps_s)[len(self.steps_s) // 2]
        return Speed(self.targets / max(middle, 1e-9), len(self.steps_s), self.evaluation_s, self.token_s)

    def pace(self, tokens_to_draw: int) -> Pace:
        """The seconds that an estimate of the whole run adds up."""
        last_save = self.copy_s if self.written is None else self.written.write_s
        return Pace(self.steps_s, self.evaluation_s, tokens_to_draw * self.token_s, self.copy_s, last_save)


class Trial:
    """One flight over the parts of a run; `fly` leaves them as they were."""

    def __init__(self, opened: Opened, parts: Assembly, clock: Clock, effort: Effort, tell: Tell) -> None:
        self._opened, self._parts, self._clock = opened, parts, clock
        self._effort, self._tell = effort, tell
        self._peak = PeakMemory(parts.device)
        self._tried = Tried(self._peak.of_device())

    def fly(self, place: Path | None = None, hooks: Mapping[str, Hook] | None = None) -> Tried | None:
        """Try everything that the run does; None where there is no memory for the copy from which it is put back.

        Args:
            place: Where a checkpoint is written and read again; none: it is not.
            hooks: Whose state belongs to a checkpoint.

        Raises:
            ConfigError: The memory does not suffice; says which setting makes it.
            StorageError: The checkpoint could not be written.
            CheckpointError: What was read or put back is not what it was.
        """
        learner, tried = self._parts.learner, self._tried
        kept = kept_of(learner.state_dict(), self._parts.buffer, self._parts.checkpoint, self._clock)
        if kept is None:
            return None
        tried.copy_s = kept.copy_s
        self._attempt("one training step", self._steps)
        # Before the text: a batch that is not finite would leave no weights to draw from, and the run knows what to do about it.
        learner.load_state_dict(kept.state())
        self._attempt("an evaluation", self._evaluation)
        if self._parts.preview is not None:
            preview = self._parts.preview
            self._attempt("a text", lambda: self._text(preview))
        tried.memory, tried.host = self._peak.of_device(), self._peak.of_host()
        if place is not None:
            self._attempt("a checkpoint", lambda: self._checkpoint(place, hooks or {}))
            learner.load_state_dict(kept.state())
        refuse_differences("put back after the trial", kept.state(), learner.state_dict())
        return tried

    def _attempt(self, what: str, work: Callable[[], None]) -> None:
        """Do one thing; a lack of memory becomes advice, or a note where the run divides its batches itself.

        Raises:
            ConfigError: The memory gave out.
        """
        self._tell(what)
        opened = self._opened
        try:
            work()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            problem = f"{what} does not fit into the memory ({str(error).partition(chr(10))[0]})"
            if isinstance(error, UpdateOutOfMemoryError):
                raise ConfigError(f"{problem}; {smaller_update(opened.job)}") from error
            if opened.job.runtime.on_out_of_memory != "split":
                advice = memory_advice(opened.job, opened.data.facts, opened.free_bytes or 0)
                raise ConfigError(f"{problem}; {advice}") from error
            self._tried.notes.append(f"{problem}; the run will compute it in parts")
            return
        self._tried.done.append(what)

    def _steps(self) -> None:
        effort, first = self._effort, self._parts.start.step
        # The first one builds what the others find ready, and may compile.
        self._step(first)
        times = [self._step(first + 1)]
        run_s = times[0] * (self._opened.max_steps - first)
        limit_s = min(effort.most_s, max(effort.least_s, effort.share * run_s))
        while len(times) < effort.most_steps and sum(times) < limit_s:
            times.append(self._step(first + 1 + len(times)))
        self._tried.steps_s = times

    def _step(self, number: int) -> float:
        """Seconds of one step, its numbers read."""
        data, count = self._opened.data, self._opened.job.train.micro_batches_per_step
        began_s = self._clock.tick()
        if isinstance(data, KnowsItsLargest):
            batches = [data.train.batch_at(data.largest_micro_batch)] * count
        else:
            batches = [data.train.batch_at(number * count + offset) for offset in range(count)]
        numbers = self._parts.learner.train_step(batches, step=number, lr_factor=1.0)
        numbers.loss.item()
        self._tried.targets = numbers.targets
        return self._clock.tick() - began_s

    def _evaluation(self) -> None:
        """Its largest batch, which is the first."""
        data, most = self._opened.data, self._opened.job.train.evaluation_batches
        count = length_hint(data.split("val", max_batches=most)) or sum(1 for _ in data.split("val", max_batches=most))
        evaluate = self._parts.learner.evaluate
        self._tried.evaluation_s = count * self._seconds(
            lambda: evaluate(islice(data.split("val", max_batches=most), 1))
        )

    def _text(self, preview: Preview) -> None:
        prompt = next((prompt for prompt in prompts_of(self._opened.job) if not preview.notes(prompt)), "")
        draw = self._seconds(lambda: preview(prompt, max_new_tokens=DRAWN_TOKENS, seed=0))
        self._tried.token_s = draw / DRAWN_TOKENS

    def _checkpoint(self, place: Path, hooks: Mapping[str, Hook]) -> None:
        """Write the learner as a step has left it, with moments that are not zero, read it again, and compare."""
        learner, data = self._parts.learner, self._opened.data
        self._step(self._parts.start.step)
        with _beside(place) as folder:
            # Written from where the tensors are: the block for the copy holds what is to be put back.
            store = DirectoryStore(folder, self._opened.job.checkpointing, buffer=SnapshotBuffer(most_bytes=0))
            snapshot = Snapshot(
                progress=Progress(self._parts.start.step + 1, self._opened.max_steps, 0.0, 0.0, 0.0),
                tensors=learner.state_dict(),
                hooks={name: hook.state_dict() for name, hook in hooks.items()},
                config=self._opened.job.model_dump_json(),
                data_fingerprint=data.fingerprint,
                attachments=data.attachments,
            )
            began_s = self._clock.tick()
            store.begin_save(snapshot)
            for outcome in store.drain():
                if isinstance(outcome, NotSaved):
                    raise outcome.error
            written_s = self._clock.tick()
            tensors = store.open(snapshot.progress.step).tensors()
            read_s = self._clock.tick()
            size_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        refuse_differences("read from its checkpoint", learner.state_dict(), tensors)
        learner.load_state_dict(tensors)
        refuse_differences("restored from its checkpoint", tensors, learner.state_dict())
        self._tried.written = Written(size_bytes, written_s - began_s, read_s - written_s)

    def _seconds(self, work: Callable[[], object]) -> float:
        """Of some work; of its second time, where the first did not take long."""
        seconds = 0.0
        for _ in range(2):
            began_s = self._clock.tick()
            work()
            seconds = self._clock.tick() - began_s
            if seconds > AGAIN_BELOW_S:
                break
        return seconds


@contextmanager
def _beside(place: Path) -> Generator[Path]:
    """A folder for a moment, on the disk where `place` is or would be; what killed checks have left there goes."""
    there = next(folder for folder in (place, *place.parents) if folder.is_dir())
    with storage_errors(there):
        for left in there.glob(f"{TRIED_NAME}*/"):
            if not left.is_symlink() and (lock := locked_folder(left)) is not None:
                remove_tree(left)
                os.close(lock)
        with TemporaryDirectory(prefix=TRIED_NAME, dir=there) as name:
            lock = locked_folder(Path(name))
            try:
                yield Path(name)
            finally:
                if lock is not None:
                    os.close(lock)


class PeakMemory:
    """The most that is held from here on."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        available, held = probe().available_bytes, resident_bytes()
        self._there = None if available is None or held is None else available + held
        forget_peak()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def of_device(self) -> Memory:
        """Of the device that computes."""
        if self._device.type != "cuda":
            return self._of_process()
        # What the allocator has reserved is what others cannot have.
        there = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved()
        return Memory(torch.cuda.max_memory_reserved(), there, measured=True)

    def of_host(self) -> Memory | None:
        """Of the machine, where the device has a memory of its own."""
        return self._of_process() if self._device.type == "cuda" else None

    def _of_process(self) -> Memory:
        return Memory(peak_bytes() or 0, self._there, measured=True)
