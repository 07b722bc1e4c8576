"""Which steps are bad, which batches a run goes on without or in parts, and when it gives up. Decides, and touches nothing."""

import hashlib
import json
import math
from bisect import insort
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from ml_playground.configuration.models import JobConfig, TrainSettings
from ml_playground.core.course import PLAIN, Course, Phase, RollBack, Split
from ml_playground.training.hook_protocols import StepReading
from ml_playground.training.resume import counting_settings
from ml_playground.training.spikes import WINDOW, spike_level

NEAR_STEPS = 100
"""Roll-backs whose steps lie less far apart than this are tries of the same trouble."""


class BadStep(NamedTuple):
    """A step whose numbers are not to be built upon."""

    step: int
    why: str
    """In words."""
    remedy: Literal["stop", "skipped", "roll_back"]
    """What is to be done about it; `skipped`: the learner has left it out already."""
    tried: int = 0
    """How often the remedy was tried before, where it is given up."""


class Guard:
    """Judges the steps of a run in their order, and knows its course; a checkpoint keeps `course`.

    What it says depends on the readings of steps and on nothing else: neither on when they are read, nor on how often the run
    was killed, nor on which checkpoint it went back to.
    """

    def __init__(self, settings: TrainSettings, cut: str, course: Course = PLAIN, recipe: str = "") -> None:
        """`course` is what a checkpoint and the journal remember; what belongs to another cut is left out.

        Tries under another recipe stay undone, but do not count: a branch with a lower learning rate has all its tries.
        """
        self._settings = settings
        self._cut = cut
        self._recipe = recipe
        self._roll_backs = [undone for undone in course.roll_backs if undone.cut == cut]
        self._splits = [split for split in course.splits if split.cut == cut]
        self._set_aside = sorted(number for undone in self._roll_backs for number in undone.batches)
        self._losses = deque(course.losses, maxlen=WINDOW)
        self._skipped = course.skipped_in_a_row if course.recipe == recipe else 0

    @property
    def course(self) -> Course:
        """All that it knows."""
        return Course(
            roll_backs=tuple(self._roll_backs),
            splits=tuple(self._splits),
            losses=tuple(self._losses),
            skipped_in_a_row=self._skipped,
            recipe=self._recipe,
        )

    def batch_number(self, position: int) -> int:
        """The number in the data of the micro-batch that is trained on as number `position`: those set aside do not count."""
        return remaining(position, self._set_aside)

    def judge(self, readings: Sequence[StepReading]) -> list[BadStep]:
        """The bad ones of consecutive steps; none is judged after one that ends the loop."""
        found: list[BadStep] = []
        for reading in readings:
            why = self._wrong(reading)
            if why:
                found.append(self._bad(reading.step, why))
                if found[-1].remedy != "skipped":
                    break
                self._skipped += 1
            else:
                self._skipped = 0
                if self._settings.spike_factor:
                    self._losses.append(reading.loss)
        return found

    def undo(self, bad: BadStep) -> RollBack:
        """Set the micro-batches of a step aside: step n takes the n-th of those that remain."""
        count = self._settings.micro_batches_per_step
        numbers = tuple(self.batch_number((bad.step - 1) * count + place) for place in range(count))
        undone = RollBack(step=bad.step, batches=numbers, why=bad.why, cut=self._cut, recipe=self._recipe)
        self._roll_backs.append(undone)
        for number in numbers:
            insort(self._set_aside, number)
        return undone

    def parts(self, phase: Phase, step: int) -> int:
        """In how many parts each micro-batch of a step, or of an evaluation after it, is computed."""
        return max((split.parts for split in self._splits if split.phase == phase and split.step <= step), default=1)

    def split(self, phase: Phase, step: int) -> Split:
        """Twice as many parts from here on."""
        split = Split(phase=phase, step=step, parts=2 * self.parts(phase, step), cut=self._cut)
        self._splits.append(split)
        return split

    @property
    def facts(self) -> dict[str, str]:
        """What is worth knowing at a start, in words."""
        facts: dict[str, str] = {}
        if self._set_aside:
            many = len(self._set_aside) != 1
            facts["set aside"] = f"{len(self._set_aside)} micro-batch{'es' if many else ''} of bad steps"
        if training := [split for split in self._splits if split.phase == "training"]:
            facts["micro-batches"] = f"in {training[-1].parts} parts from step {training[-1].step:,} on"
        return facts

    def _wrong(self, reading: StepReading) -> str:
        """What is wrong with a step; empty where nothing is."""
        if not (math.isfinite(reading.loss) and math.isfinite(reading.grad_norm)):
            return f"the loss was {reading.loss:g} and the gradient norm {reading.grad_norm:g}"
        factor = self._settings.spike_factor
        level = spike_level(list(self._losses), factor) if factor else None
        if level is None or reading.loss <= level:
            return ""
        return f"the loss was {reading.loss:.4g}, above {level:.4g}, the level of a spike (train.spike_factor = {factor:g})"

    def _bad(self, step: int, why: str) -> BadStep:
        tries = self._settings.bad_step_tries
        match self._settings.on_bad_step:
            case "stop":
                return BadStep(step, why, "stop")
            case "skip":
                tried = self._skipped
                return BadStep(step, why, "skipped") if tried < tries else BadStep(step, why, "stop", tried)
            case "roll_back":
                tried = tries_of(step, [undone.step for undone in self._roll_backs if undone.recipe == self._recipe])
                return BadStep(step, why, "roll_back") if tried < tries else BadStep(step, why, "stop", tried)


def remaining(position: int, set_aside: Sequence[int]) -> int:
    """The `position`-th number (from 0) of 0, 1, 2, ... without those set aside, which are sorted."""
    for number in set_aside:
        if number > position:
            break
        position += 1
    return position


def tries_of(step: int, undone: Sequence[int]) -> int:
    """How many of the newest undone steps, in their order, belong to the same trouble as a bad step: no gap of `NEAR_STEPS`."""
    tries = 0
    for earlier in reversed(undone):
        if step - earlier >= NEAR_STEPS:
            break
        tries, step = tries + 1, earlier
    return tries


def cut_of(job: JobConfig) -> str:
    """Names how a job cuts its data into batches: equal cut, equal batch of each number."""
    return _name_of({"seed": job.seed, "data": job.data.model_dump(mode="json")})


def recipe_of(job: JobConfig) -> str:
    """Names all settings of a job that a run may not change without becoming a branch."""
    return _name_of(counting_settings(job))


def _name_of(settings: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
