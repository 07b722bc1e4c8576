"""The loop decides when to step, evaluate, save and leave; it computes nothing itself."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from ml_playground.configuration.models import CheckpointingSettings, TrainSettings
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
from ml_playground.training.stretch import (
    LEAVING,
    Ending,
    Start,
    StopWantedError,
    WentBack,
    left_early,
    paused,
    reason_to_end,
    unless_stopped,
)
from ml_playground.training.wishes import Wishes


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
        self._best = start.best
        self._saves = Saves(parts.store, parts.hooks, parts.deps.clock, parts.tell, start.step)
        self._meter = Meter(parts.deps.clock)
        self._wishes = Wishes(parts.journal, start.lr_factor)
        self._began_s = parts.deps.clock.tick()
        self._metrics: Mapping[str, float] = start.metrics
        self._metrics_step = start.step if start.metrics else -1

    def run(self) -> Ending | WentBack:
        parts = self._parts
        self._tell(lambda hook: hook.on_start(self.progress()))
        if (ended := self._pay(self._start.owed)) is not None:
            return ended
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
            if (ended := self._act(actions)) is not None:
                return ended
            if readings:
                self._meter.begin()
        return Ending("completed", self._step, self._metrics)

    def _pay(self, owed: Action) -> Ending | None:
        """Do what the process before owes the step at which this one begins, in the order in which it would have."""
        if not owed:
            return None
        self._wishes.obey(self._step, self._parts.journal.recorded(self._step))
        ended = self._act(owed)
        self._meter.begin()
        return ended

    def _act(self, actions: Action) -> Ending | None:
        """Evaluate, save and leave, as is asked at a step boundary; how the loop is left, if it is."""
        owed = Action.NONE
        if Action.EVALUATE in actions:
            try:
                actions |= self._evaluate()
            except StopWantedError:
                # Saved again when it is made, for its numbers belong into the checkpoint of this step.
                owed, actions = (actions | Action.SAVE) & ~Action.PAUSE, Action.PAUSE
        last = self._step == self._parts.max_steps
        if actions & (Action.SAVE | LEAVING):
            self._save(None if owed else reason_to_end(actions, last=last), owed)
        self._saves.settle(self.progress(), last=last or bool(actions & LEAVING))
        if owed:
            return paused(self._step, self._metrics, "in the evaluation of step")
        return left_early(actions, self._step, self._metrics) if actions & LEAVING and not last else None

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

    def _evaluate(self) -> Action:
        """Evaluate; what the hooks and a new best ask for in return."""
        parts = self._parts
        limit = parts.train.evaluation_batches
        self._metrics = parts.room.fitting(
            "evaluation",
            self._step,
            lambda divide: parts.learner.evaluate(
                unless_stopped(
                    (piece for batch in parts.data.split("val", max_batches=limit) for piece in divide(batch)),
                    parts.deps.stop_requested,
                )
            ),
        )
        self._metrics_step = self._step
        # Each hook has its own copy: what one does to it is no business of the others, nor of the checkpoint.
        wishes = [hook.on_evaluation(self.progress(), dict(self._metrics)) for hook in parts.hooks.values()]
        former, self._best = self._best, self._best.after(self._metrics)
        wish = Wish.all_of(wishes)
        self._wishes.obey(self._step, wish)
        return wish.action | (
            Action.SAVE if self._best is not former and parts.checkpointing.keep_best else Action.NONE
        )

    def _save(self, ending: Reason | None, owed: Action) -> None:
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
                owed=owed,
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
        return WentBack(parts.guard.course, at.elapsed_s, self._saves.durable_step)

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
