"""The loop over a toy task, with parts that can be looked at."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from ml_playground.configuration.models import CheckpointingSettings, JobConfig, TrainSettings
from ml_playground.core.course import PLAIN
from ml_playground.core.deps import Deps
from ml_playground.core.run_schema import Reason
from ml_playground.core.values import BY_LOSS, NOTHING, Progress, Wish
from ml_playground.training.guard import Guard
from ml_playground.training.hook_protocols import BaseHook, Hook, StepEvent
from ml_playground.training.learner import GradientLearner
from ml_playground.training.loop import Parts, fit
from ml_playground.training.memory import Room
from ml_playground.training.optim import adamw
from ml_playground.training.restoring import restore
from ml_playground.training.settings import AdamW
from ml_playground.training.stretch import Ending, Start, WentBack
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.memory_journal import MemoryJournal
from tests.fakes.memory_store import MemoryStore
from tests.fakes.tiny_job import tiny_job
from tests.fakes.toy_task import ToyData, ToyModel, ToyObjective


class Scribe(BaseHook):
    """Writes down what it is told, and wishes what it was given for a step."""

    def __init__(self, wishes: Mapping[int, Wish] | None = None, after_evaluation: Wish = NOTHING) -> None:
        self.told: list[str] = []
        self.losses: dict[int, float] = {}
        self.lrs: list[float] = []
        self.progress: list[Progress] = []
        self.evaluations: list[tuple[int, float]] = []
        self.remembered = 0
        self._wishes = wishes or {}
        self._after_evaluation = after_evaluation

    def on_start(self, progress: Progress) -> None:
        self.told.append(f"start {progress.step}")

    def on_step(self, event: StepEvent) -> Wish:
        self.remembered += 1
        self.progress.append(event.progress)
        self.losses |= {reading.step: reading.loss for reading in event.readings}
        self.lrs += [reading.lr for reading in event.readings]
        return self._wishes.get(event.progress.step, NOTHING)

    def on_evaluation(self, progress: Progress, metrics: Mapping[str, float]) -> Wish:
        self.told.append(f"evaluation {progress.step}")
        self.evaluations.append((progress.step, metrics["loss"]))
        return self._after_evaluation

    def on_saved(self, progress: Progress, reference: str) -> None:
        self.told.append(f"saved {progress.step}")

    def on_end(self, progress: Progress, reason: Reason | None, error: BaseException | None) -> None:
        self.told.append(f"end {progress.step} {reason} {type(error).__name__ if error else ''}".strip())

    def state_dict(self) -> Mapping[str, Any]:
        return {"remembered": self.remembered}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.remembered = state["remembered"]


def job_that(on_out_of_memory: str) -> JobConfig:
    """What the advice about memory is taken from."""
    with TemporaryDirectory() as folder:
        return tiny_job(Path(folder), runtime={"on_out_of_memory": on_out_of_memory})


class Bench:
    """A toy job whose parts can be looked at."""

    def __init__(self, scribe: Scribe | None = None, store: MemoryStore | None = None, **deps: Any) -> None:
        self.model = ToyModel(dropout=0.2)
        self.learner = GradientLearner(
            self.model, ToyObjective(), adamw.build(AdamW(lr=0.01), self.model, torch.float32), seed=1, ema_decay=0.9
        )
        self.data = ToyData()
        self.scribe = scribe or Scribe()
        self.checkpointing = CheckpointingSettings(every_steps=4, every_minutes=None, keep_last=99, keep_best=0)
        self.store = store or MemoryStore(self.checkpointing)
        self.journal = MemoryJournal()
        self.told: list[str] = []
        self.more_hooks: dict[str, Hook] = {}
        self.course = PLAIN
        self.job = job_that(deps.pop("on_out_of_memory", "stop"))
        self.deps = Deps(clock=deps.pop("clock", FixedClock()), **deps)

    def fit(self, max_steps: int = 10, start: Start | None = None, **settings: Any) -> Ending:
        """Train to an end, which no roll-back is."""
        ended = self.stretch(max_steps, start, **({"on_bad_step": "stop"} | settings))
        assert isinstance(ended, Ending)
        return ended

    def stretch(self, max_steps: int = 10, start: Start | None = None, **settings: Any) -> Ending | WentBack:
        """Train to an end, or until a step is undone."""
        checkpointing = settings.pop("checkpointing", self.checkpointing)
        train = TrainSettings(
            max_steps=max_steps,
            **({"evaluate_every_steps": 5, "log_every_steps": 3, "micro_batches_per_step": 2} | settings),
        )
        guard = Guard(train, "cut", self.course)
        parts = Parts(
            learner=self.learner,
            data=self.data,
            store=self.store,
            hooks={"scribe": self.scribe} | self.more_hooks,
            journal=self.journal,
            guard=guard,
            room=Room(self.job, guard, self.journal, self.told.append),
            schedule=lambda step: 1.0,
            deps=self.deps,
            train=train,
            checkpointing=checkpointing,
            max_steps=max_steps,
            config="{}",
            tell=self.told.append,
        )
        return fit(parts, start or Start())

    def start(self) -> Start:
        """Take up what the store holds."""
        checkpoint = self.store.latest()
        for name, hook in ({"scribe": self.scribe} | self.more_hooks).items():
            if checkpoint is not None:
                hook.load_state_dict(checkpoint.hooks[name])
        return restore(self.learner, checkpoint, self.store.list(), self.data.fingerprint, 1 << 40, BY_LOSS)

    def weights(self) -> dict[str, torch.Tensor]:
        return {n: t.clone() for n, t in self.learner.state_dict()["model"].items()}


def resumed(store: MemoryStore, **bench: Any) -> tuple[Bench, Start]:
    """A new process: what the engine does on resume, by hand."""
    new = Bench(store=store, **bench)
    return new, new.start()
