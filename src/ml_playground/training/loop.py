"""The loop decides when to step, evaluate, save and leave; it computes nothing itself."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from ml_playground.configuration.models import CheckpointingSettings, TrainSettings
from ml_playground.core.course import Course
from ml_playground.core.deps import Deps
from ml_playground.core.run_schema import Reason
from ml_playground.core.values import NOTHING, Action, Progress, Wish
from ml_playground.training.checkpoint_protocols import CheckpointStore, Snapshot
from ml_playground.training.due import due_at
from ml_playground.training.guard import BadStep, Guard
from ml_playground.training.hook_protocols import Hook, Journal, StepEvent, StepReading
from ml_playground.training.memory import Room
from ml_playground.training.protocols import Data, Learner
from ml_playground.training.readings import Meter, nan_message, rolled_back_message
from ml_playground.training.saving import Saves
from ml_playground.training.wishes import Wishes

LEAVING = Action.PAUSE | Action.FINISH


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything the loop drives, built by the engine."""

    learner: Learner[Any]
    data: Data[Any]
    store: CheckpointStore
    hooks: Mapping[str, Hook]
    journal: Journal
    guard: Guard
    room: Room
    schedule: Callable[[int], float]
    deps: Deps
    train: TrainSettings
    checkpointing: CheckpointingSettings
    max_steps: int
    config: str
    tell: Callable[[str], None]
    """Says one line to whoever sits before the run."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where this process takes up the run."""

    step: int = 0
    targets: float = 0.0
    elapsed_s: float = 0.0
    lr_factor: float = 1.0
    best_loss: float = math.inf
    metrics: Mapping[str, float] = field(default_factory=dict[str, float])
    """The evaluation at this step, if there was one."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How the loop was left."""

    reason: Reason
    step: int
    metrics: Mapping[str, float]
    message: str = ""


@dataclass(frozen=True, slots=True)
class WentBack:
    """The loop was left because a step is undone: the run goes on from its newest checkpoint, without the step's batches."""

    course: Course
    """With the step in it."""
    elapsed_s: float


def fit(parts: Parts, start: Start) -> Ending | WentBack:
    """Train until the last step, a wish to leave, or numbers not to be built upon; tell the hooks in every case."""
    loop = _Loop(parts, start)
    try:
        outcome = loop.run()
    except BaseException as error:
        advice = parts.room.advice(error)
        if advice is None:
            loop.tell_the_end(None, error)
            raise
        loop.tell_the_end("out_of_memory", None)
        return Ending("out_of_memory", loop.progress().step, {}, advice)
    loop.tell_the_end(outcome.reason if isinstance(outcome, Ending) else None, None)
    return outcome


class _Loop:
    def __init__(self, parts: Parts, start: Start) -> None:
        self._parts = parts
        self._start = start
        self._step = start.step
        self._targets = start.targets
        self._best_loss = start.best_loss
        self._saves = Saves(parts.store, parts.hooks, parts.deps.clock, parts.tell, start.step)
        self._meter = Meter(parts.deps.clock)
        self._wishes = Wishes(parts.journal, start.lr_factor)
        self._began_s = parts.deps.clock.tick()
        self._metrics: Mapping[str, float] = start.metrics
        self._metrics_step = start.step if start.metrics else -1

    def run(self) -> Ending | WentBack:
        parts = self._parts
        self._tell(lambda hook: hook.on_start(self.progress()))
        asked = NOTHING
        while self._step < parts.max_steps:
            self._train_step()
            if self._step == self._start.step + 1:
                # How much memory is free beside the training shows only when a step has been made.
                parts.store.prepare(parts.learner.state_dict())
            asked = asked | parts.journal.recorded(self._step)
            if parts.deps.stop_requested():
                asked = asked | Wish(Action.PAUSE)
            actions = asked.action | self._due()
            logs = self._step % parts.train.log_every_steps == 0
            readings, rate = self._meter.read(self._step) if actions or logs else ((), None)
            for bad in parts.guard.judge(readings):
                if bad.remedy != "skipped":
                    return self._break_off(bad, readings)
                parts.journal.note("skipped", bad.step, why=bad.why)
                parts.tell(f"step {bad.step:,} was skipped: {bad.why}")
            self._wishes.obey(self._step, asked)
            event = StepEvent(self.progress(), readings, rate)
            wished = Wish.all_of([hook.on_step(event) for hook in parts.hooks.values()])
            self._wishes.obey(self._step, wished)
            # Actions wait for the next boundary, where the readings they need are fetched first. Where they are fetched already
            # they are done now: a checkpoint of this step would not hold what waits, and a resumed run end a step later.
            at_once = actions != Action.NONE
            asked = NOTHING if at_once else Wish(wished.action)
            actions |= wished.action if at_once else Action.NONE
            self._wishes.remember(self._step if at_once else self._step + 1, Wish(wished.action & Action.EVALUATE))
            if Action.EVALUATE in actions:
                actions |= self._evaluate()
            if actions & (Action.SAVE | LEAVING):
                self._save(self._reason_to_end(actions))
            self._saves.settle(self.progress(), last=bool(actions & LEAVING) or self._step == parts.max_steps)
            if actions & LEAVING and self._step < parts.max_steps:
                return self._left_early(actions)
            if readings:
                self._meter.begin()
        return Ending("completed", self._step, self._metrics)

    def progress(self) -> Progress:
        parts = self._parts
        return Progress(
            step=self._step,
            max_steps=parts.max_steps,
            epoch=self._step * parts.train.micro_batches_per_step / parts.data.micro_batches_per_epoch,
            targets=self._targets,
            elapsed_s=self._start.elapsed_s + parts.deps.clock.tick() - self._began_s,
        )

    def _train_step(self) -> None:
        parts = self._parts
        step, count = self._step, parts.train.micro_batches_per_step
        batches = [parts.data.train.batch_at(parts.guard.batch_number(step * count + place)) for place in range(count)]
        lr_factor = parts.schedule(step) * self._wishes.lr_factor
        numbers = parts.room.fitting(
            "training",
            step + 1,
            lambda divide: parts.learner.train_step(
                [piece for batch in batches for piece in divide(batch)], step=step, lr_factor=lr_factor
            ),
        )
        self._step += 1
        self._targets += numbers.targets
        self._meter.add(numbers)

    def _due(self) -> Action:
        parts = self._parts
        return due_at(
            self._step, parts.max_steps, parts.train, parts.checkpointing, unsaved_s=self._saves.seconds_since
        )

    def _reason_to_end(self, actions: Action) -> Reason | None:
        """Why nothing is left to do after this step; None while something is."""
        if self._step == self._parts.max_steps:
            return "completed"
        return "stopped_early" if Action.FINISH in actions else None

    def _evaluate(self) -> Action:
        """Evaluate; what the hooks and a new best loss ask for in return."""
        parts = self._parts
        limit = parts.train.evaluation_batches
        self._metrics = parts.room.fitting(
            "evaluation",
            self._step,
            lambda divide: parts.learner.evaluate(
                piece for batch in parts.data.split("val", max_batches=limit) for piece in divide(batch)
            ),
        )
        self._metrics_step = self._step
        wishes = [hook.on_evaluation(self.progress(), self._metrics) for hook in parts.hooks.values()]
        loss = self._metrics.get("loss", math.inf)
        better = loss < self._best_loss
        if better:
            self._best_loss = loss
        wish = Wish.all_of(wishes)
        self._wishes.obey(self._step, wish)
        return wish.action | (Action.SAVE if better and parts.checkpointing.keep_best else Action.NONE)

    def _save(self, ending: Reason | None) -> None:
        parts = self._parts
        self._saves.begin(
            Snapshot(
                progress=self.progress(),
                tensors=parts.learner.state_dict(),
                hooks={name: hook.state_dict() for name, hook in parts.hooks.items()},
                config=parts.config,
                data_fingerprint=parts.data.fingerprint,
                metrics=self._metrics if self._metrics_step == self._step else None,
                lr_factor=self._wishes.lr_factor,
                ending=ending,
                course=parts.guard.course,
                attachments=parts.data.attachments,
            )
        )

    def _break_off(self, bad: BadStep, readings: Sequence[StepReading]) -> Ending | WentBack:
        """Leave at a bad step, for good or to go on from before it; no checkpoint holds what it has touched."""
        parts, at = self._parts, self.progress()
        # Those that steer are not asked: nothing would obey them, and a request that they take would be lost.
        for hook in [hook for hook in parts.hooks.values() if not hook.steering]:
            hook.on_step(StepEvent(at, readings))
        self._saves.settle(at, wait=True)
        if bad.remedy == "stop":
            return Ending("nan", self._step, self._metrics, nan_message(bad, self._saves.durable_step, parts.train))
        undone = parts.guard.undo(bad)
        parts.journal.note("rolled_back", bad.step, **undone.model_dump(mode="json"))
        parts.tell(rolled_back_message(undone, self._saves.durable_step))
        return WentBack(parts.guard.course, at.elapsed_s)

    def _left_early(self, actions: Action) -> Ending:
        if Action.FINISH in actions:
            return Ending("stopped_early", self._step, self._metrics, f"finished at step {self._step} by its own rule")
        return Ending("paused", self._step, self._metrics, f"paused at step {self._step}; the same command goes on")

    def tell_the_end(self, reason: Reason | None, error: BaseException | None) -> None:
        """Finish the save that is under way, tell every hook, even if one before it fails; what failed is raised after."""
        progress = self.progress()
        with ExitStack() as told:
            for hook in reversed(list(self._parts.hooks.values())):
                told.callback(hook.on_end, progress, reason, error)
            self._saves.settle(progress, wait=True)

    def _tell(self, message: Callable[[Hook], Any]) -> None:
        for hook in self._parts.hooks.values():
            message(hook)
