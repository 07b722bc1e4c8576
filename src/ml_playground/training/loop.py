"""The loop decides when to step, evaluate, save and leave; it computes nothing itself."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from ml_playground.configuration.models import CheckpointingSettings, TrainSettings
from ml_playground.core.deps import Deps
from ml_playground.core.run_schema import Reason
from ml_playground.core.values import NOTHING, Action, Progress, Wish
from ml_playground.training.checkpoint_protocols import CheckpointStore, NotSaved, Saved, Snapshot
from ml_playground.training.hook_protocols import Hook, Journal, StepEvent, StepReading
from ml_playground.training.memory import out_of_memory_advice
from ml_playground.training.protocols import Data, Learner, StepNumbers
from ml_playground.training.readings import first_bad, nan_message, read_numbers

LEAVING = Action.PAUSE | Action.FINISH


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything the loop drives, built by the engine."""

    learner: Learner[Any]
    data: Data[Any]
    store: CheckpointStore
    hooks: Mapping[str, Hook]
    journal: Journal
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


def fit(parts: Parts, start: Start) -> Ending:
    """Train until the last step, a wish to leave, or a loss that is no number; tell the hooks in every case."""
    loop = _Loop(parts, start)
    try:
        ending = loop.run()
    except BaseException as error:
        advice = out_of_memory_advice(error)
        if advice is None:
            loop.tell_the_end(None, error)
            raise
        loop.tell_the_end("out_of_memory", None)
        return Ending("out_of_memory", loop.progress().step, {}, advice)
    loop.tell_the_end(ending.reason, None)
    return ending


class _Loop:
    def __init__(self, parts: Parts, start: Start) -> None:
        self._parts = parts
        self._start = start
        self._step = start.step
        self._targets = start.targets
        self._lr_factor = start.lr_factor
        self._best_loss = start.best_loss
        self._saved_step = start.step
        self._began_s = self._saved_s = self._mark_s = parts.deps.clock.tick()
        self._mark_targets = start.targets
        self._pending: list[StepNumbers] = []
        self._metrics: Mapping[str, float] = start.metrics
        self._metrics_step = start.step if start.metrics else -1

    def run(self) -> Ending:
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
            readings, rate = self._read() if actions or self._step % parts.train.log_every_steps == 0 else ((), None)
            if (bad := first_bad(readings)) is not None:
                self._tell(lambda hook, r=readings: hook.on_step(StepEvent(self.progress(), r)))
                self._announce(parts.store.drain())
                return Ending("nan", self._step, self._metrics, nan_message(bad, self._saved_step))
            self._obey(asked)
            event = StepEvent(self.progress(), readings, rate)
            wished = Wish.all_of([hook.on_step(event) for hook in parts.hooks.values()])
            self._obey(Wish(lr_factor=wished.lr_factor))
            # Actions wait for the next boundary, where the readings they need are fetched first. Where they are fetched already
            # they are done now: a checkpoint of this step would not hold what waits, and a resumed run end a step later.
            at_once = actions != Action.NONE
            asked = NOTHING if at_once else Wish(wished.action)
            actions |= wished.action if at_once else Action.NONE
            self._journal(self._step if at_once else self._step + 1, Wish(wished.action & Action.EVALUATE))
            if Action.EVALUATE in actions:
                actions |= self._evaluate()
            if actions & (Action.SAVE | LEAVING):
                self._save(self._reason_to_end(actions))
            last = bool(actions & LEAVING) or self._step == parts.max_steps
            self._announce(parts.store.drain() if last else parts.store.poll(), last=last)
            if actions & LEAVING and self._step < parts.max_steps:
                return self._left_early(actions)
            if readings:
                self._mark_s, self._mark_targets = parts.deps.clock.tick(), self._targets
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
        count = parts.train.micro_batches_per_step
        batches = [parts.data.train.batch_at(self._step * count + number) for number in range(count)]
        lr_factor = parts.schedule(self._step) * self._lr_factor
        numbers = parts.learner.train_step(batches, step=self._step, lr_factor=lr_factor)
        self._step += 1
        self._targets += numbers.targets
        self._pending.append(numbers)

    def _due(self) -> Action:
        """What the schedule itself asks for at this boundary."""
        parts, step = self._parts, self._step
        last = step == parts.max_steps
        due = Action.EVALUATE if last or step % parts.train.evaluate_every_steps == 0 else Action.NONE
        every_steps, every_minutes = parts.checkpointing.every_steps, parts.checkpointing.every_minutes
        by_time = every_minutes is not None and parts.deps.clock.tick() - self._saved_s >= 60 * every_minutes
        if last or by_time or (every_steps is not None and step % every_steps == 0):
            due |= Action.SAVE
        return due

    def _read(self) -> tuple[Sequence[StepReading], float]:
        """Fetch the pending numbers in one transfer: the only place where the host waits for the device."""
        pending, self._pending = self._pending, []
        readings = read_numbers(pending, first_step=self._step - len(pending) + 1)
        elapsed_s = self._parts.deps.clock.tick() - self._mark_s
        return readings, (self._targets - self._mark_targets) / max(elapsed_s, 1e-9)

    def _obey(self, asked: Wish) -> None:
        """Take over a learning-rate factor from the next step on, and remember it."""
        if asked.lr_factor is not None:
            self._lr_factor = asked.lr_factor
            self._journal(self._step, Wish(lr_factor=asked.lr_factor))

    def _journal(self, step: int, lasting: Wish) -> None:
        """Remember what is to be obeyed again when this step is done again."""
        recorded = self._parts.journal.recorded(step)
        if recorded | lasting != recorded:
            self._parts.journal.record(step, lasting)

    def _reason_to_end(self, actions: Action) -> Reason | None:
        """Why nothing is left to do after this step; None while something is."""
        if self._step == self._parts.max_steps:
            return "completed"
        return "stopped_early" if Action.FINISH in actions else None

    def _evaluate(self) -> Action:
        """Evaluate; what the hooks and a new best loss ask for in return."""
        parts = self._parts
        batches = parts.data.split("val", max_batches=parts.train.evaluation_batches)
        self._metrics, self._metrics_step = parts.learner.evaluate(batches), self._step
        wishes = [hook.on_evaluation(self.progress(), self._metrics) for hook in parts.hooks.values()]
        loss = self._metrics.get("loss", math.inf)
        better = loss < self._best_loss
        if better:
            self._best_loss = loss
        wish = Wish.all_of(wishes)
        self._obey(Wish(lr_factor=wish.lr_factor))
        return wish.action | (Action.SAVE if better and parts.checkpointing.keep_best else Action.NONE)

    def _save(self, ending: Reason | None) -> None:
        """Begin to save; `_announce` hears what came of it."""
        parts = self._parts
        snapshot = Snapshot(
            progress=self.progress(),
            tensors=parts.learner.state_dict(),
            hooks={name: hook.state_dict() for name, hook in parts.hooks.items()},
            config=parts.config,
            data_fingerprint=parts.data.fingerprint,
            metrics=self._metrics if self._metrics_step == self._step else None,
            lr_factor=self._lr_factor,
            ending=ending,
            attachments=parts.data.attachments,
        )
        parts.store.begin_save(snapshot)
        self._saved_s = parts.deps.clock.tick()

    def _announce(self, outcomes: Sequence[Saved | NotSaved], *, last: bool = False) -> None:
        """Tell what became of saves; a full disk ends the run only when nothing but the save is left to do."""
        for outcome in outcomes:
            if isinstance(outcome, Saved):
                self._saved_step = outcome.step
                at = replace(self.progress(), step=outcome.step)
                self._tell(lambda hook, at=at, reference=outcome.reference: hook.on_saved(at, reference))
                if outcome.problem:
                    self._parts.tell(f"step {outcome.step:,} was saved, but older checkpoints stay: {outcome.problem}")
            elif last and outcome.step == self._step:
                raise outcome.error
            else:
                again = "training goes on and saves again when it is due"
                self._parts.tell(f"step {outcome.step:,} was not saved, {again}: {outcome.error}")

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
            self._announce(self._parts.store.drain())

    def _tell(self, message: Callable[[Hook], Any]) -> None:
        for hook in self._parts.hooks.values():
            message(hook)
