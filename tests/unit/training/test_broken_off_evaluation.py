"""A stop breaks an evaluation off, and the next start makes it again: the run is as if nobody had stopped it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_playground.configuration.models import CheckpointingSettings
from ml_playground.core.atomic import read_lines
from ml_playground.core.error_handling import StorageError
from ml_playground.core.run_schema import MetricRow
from ml_playground.core.values import BY_LOSS, NOTHING, Action, Wish
from ml_playground.training.checkpoint_protocols import NotSaved, Snapshot
from ml_playground.training.hooks.early_stopping import EarlyStoppingHook
from ml_playground.training.hooks.jsonl_metrics import JsonlMetricsHook
from ml_playground.training.learner import GradientLearner
from ml_playground.training.settings import EarlyStopping
from ml_playground.training.stretch import Ending, StopWantedError, unless_stopped
from tests.fakes.hooks import Told, hook_context
from tests.fakes.loop_bench import Bench, Scribe
from tests.fakes.memory_journal import MemoryJournal
from tests.fakes.memory_store import MemoryStore

STEPS = 12
EVALUATIONS = 3
BATCHES = 3
ASKS = STEPS + EVALUATIONS * BATCHES
"""How often a process that is left alone asks whether somebody wants to stop."""

KEEP = CheckpointingSettings(every_steps=5, every_minutes=None, keep_last=99, keep_best=1)


class KilledError(Exception):
    """The process is gone."""


def ending_at(ask: int | None, how: Literal["stop", "kill"]) -> Callable[[], bool]:
    """Somebody wants to stop from the `ask`-th time on that the process asks, or kills it there."""
    asks = count(1)

    def stop_requested() -> bool:
        wanted = ask is not None and next(asks) >= ask
        if wanted and how == "kill":
            raise KilledError
        return wanted

    return stop_requested


@dataclass(frozen=True)
class Kind:
    """A job of the law."""

    stopping: EarlyStopping
    after_evaluation: Wish = NOTHING
    recorded: Mapping[int, Wish] | None = None
    """What the journal holds from the beginning: what came from outside, by its step."""


KINDS = {
    "a new best is saved": Kind(EarlyStopping(patience=9)),
    "early stopping": Kind(EarlyStopping(patience=1, min_delta=100.0)),
    "a lower rate after each evaluation": Kind(EarlyStopping(patience=9), Wish(lr_factor=0.5)),
    "asked for from outside": Kind(EarlyStopping(patience=4, min_delta=100.0), recorded={7: Wish(Action.EVALUATE)}),
}


class Run:
    """A run of a kind, in as many processes as it takes."""

    def __init__(self, kind: Kind, folder: Path) -> None:
        self._kind = kind
        self._context = hook_context(folder)
        self.store = MemoryStore(KEEP)
        self.journal = MemoryJournal()
        self.journal.rows = dict(kind.recorded or {})
        self.bench = Bench()
        self.ending: Ending | None = None

    def process(self, ask: int | None = None, how: Literal["stop", "kill"] = "stop") -> None:
        """One process, which goes on from the newest checkpoint."""
        scribe = Scribe(after_evaluation=self._kind.after_evaluation)
        bench = self.bench = Bench(scribe=scribe, store=self.store, stop_requested=ending_at(ask, how))
        newest = self.store.latest()
        context = self._context
        if newest is not None:
            context = replace(context, first_step=newest.progress.step, owes_evaluation=bool(newest.owed))
        stopping = EarlyStoppingHook(self._kind.stopping, BY_LOSS)
        bench.more_hooks = {"stopping": stopping, "metrics": JsonlMetricsHook(context, Told())}
        bench.journal = self.journal
        start = bench.start()
        if newest is not None and newest.ending is not None:
            return
        self.ending = bench.fit(STEPS, start, evaluate_every_steps=4, evaluation_batches=BATCHES, checkpointing=KEEP)

    @property
    def rows(self) -> list[Any]:
        """The rows of the metrics, but for what the clock says."""
        rows = [MetricRow.model_validate_json(line) for line in read_lines(self._context.run.metrics)]
        return [(row.kind, row.step, dict(row.values)) for row in rows]

    @property
    def outcome(self) -> list[Any]:
        """All that must be equal: how it ended, what hooks remember, which checkpoints are best, what was wished."""
        newest = self.store.latest()
        assert newest is not None
        # The scribe counts steps, and early stopping its misses.
        best = min(self.store.list(), key=lambda saved: (saved.metrics or {}).get("loss", float("inf")))
        return [newest.progress.step, newest.ending, newest.metrics, newest.hooks, best, newest.lr_factor, newest.owed]


def whole_run(name: str, folder: Path) -> Run:
    """One that was left alone."""
    run = Run(KINDS[name], folder / "whole")
    run.process()
    return run


def assert_equal(run: Run, whole: Run) -> None:
    """To the bit, to the row, to the decision."""
    assert run.outcome == whole.outcome
    assert run.rows == whole.rows
    weights = whole.bench.weights()
    assert all(torch.equal(tensor, run.bench.weights()[name]) for name, tensor in weights.items())


@pytest.mark.parametrize("how", ["stop", "kill"])
@pytest.mark.parametrize("name", KINDS)
def test_run_ended_anywhere_and_resumed_equals_one_that_was_left_alone(
    name: str, how: Literal["stop", "kill"], tmp_path: Path
) -> None:
    """The law, at every moment at which a process asks: behind each step, and before each batch of each evaluation."""
    whole = whole_run(name, tmp_path)
    for ask in range(1, ASKS + 1):
        run = Run(KINDS[name], tmp_path / str(ask))
        try:
            run.process(ask, how)
        except KilledError:
            assert how == "kill"
        run.process()
        assert_equal(run, whole)


@given(
    name=st.sampled_from(sorted(KINDS)),
    ends=st.lists(st.tuples(st.integers(1, 9), st.sampled_from(["stop", "kill"])), max_size=6),
)
@settings(max_examples=30, deadline=None)
def test_run_ended_again_and_again_equals_one_that_was_left_alone(
    name: str, ends: Sequence[tuple[int, Literal["stop", "kill"]]]
) -> None:
    """Also where the evaluation that is made again is broken off again, or the process is killed right after it."""
    with TemporaryDirectory() as folder:
        whole, run = whole_run(name, Path(folder)), Run(KINDS[name], Path(folder) / "ended")
        for ask, how in ends:
            try:
                run.process(ask, how)
            except KilledError:
                assert how == "kill"
        run.process()
        assert_equal(run, whole)


def test_evaluation_broken_off_is_owed_by_the_checkpoint_of_its_step(tmp_path: Path) -> None:
    """The process leaves paused at once, with two of three batches left, and no hook hears of an evaluation."""
    run = Run(KINDS["a new best is saved"], tmp_path)
    run.process(ask=6)
    newest = run.store.latest()
    assert run.ending is not None and newest is not None
    assert (run.ending.reason, run.ending.step) == ("paused", 4)
    assert run.ending.message == "paused in the evaluation of step 4; the same command goes on"
    assert (newest.progress.step, newest.metrics, newest.ending) == (4, None, None)
    assert newest.owed == Action.EVALUATE | Action.SAVE
    assert run.bench.scribe.told == ["start 0", "saved 4", "end 4 paused"]


def test_evaluation_that_is_owed_is_made_and_saved_before_the_next_step(tmp_path: Path) -> None:
    """Its numbers are in the checkpoint of its step, as they would have been."""
    run = Run(KINDS["a new best is saved"], tmp_path)
    run.process(ask=6)
    run.process(ask=5)
    assert run.bench.scribe.told[:3] == ["start 4", "evaluation 4", "saved 4"]
    kept = run.store.open(4)
    assert (kept.owed, kept.metrics) == (Action.NONE, {"loss": run.bench.scribe.evaluations[0][1]})


def test_last_evaluation_broken_off_leaves_a_run_that_is_not_over(tmp_path: Path) -> None:
    """It is at its last step, and yet something is left to do: the next start does it, and no step."""
    run = Run(KINDS["a new best is saved"], tmp_path)
    run.process(ask=ASKS)
    assert run.ending is not None
    assert (run.ending.reason, run.ending.step) == ("paused", STEPS)
    assert run.store.open(STEPS).ending is None
    run.process()
    assert (run.ending.reason, run.ending.step) == ("completed", STEPS)
    assert run.bench.scribe.remembered == STEPS
    assert run.bench.scribe.told == [
        f"start {STEPS}",
        f"evaluation {STEPS}",
        f"saved {STEPS}",
        f"end {STEPS} completed",
    ]


def test_evaluation_broken_off_for_which_the_disk_has_no_room_is_raised() -> None:
    """A pause that saved nothing is none."""

    class Full(MemoryStore):
        def begin_save(self, snapshot: Snapshot) -> None:
            self.outcomes.append(NotSaved(snapshot.progress.step, StorageError("no space left")))

    bench = Bench(store=Full(), stop_requested=ending_at(6, "stop"))
    with pytest.raises(StorageError, match="no space left"):
        bench.fit(evaluation_batches=2)


def test_hooks_that_change_what_they_are_told_change_nothing_else() -> None:
    """A plug-in may add to its metrics or empty them; the next hook, the checkpoint and the result have them whole."""

    class Vandal(Scribe):
        def on_evaluation(self, progress: Any, metrics: Any) -> Wish:
            metrics.clear()
            return NOTHING

    bench = Bench()
    bench.more_hooks = {"vandal": Vandal(), "last": (last := Scribe())}
    ending = bench.fit(max_steps=5)
    assert set(ending.metrics) == {"loss"}
    assert last.evaluations == [(5, ending.metrics["loss"])]
    assert bench.store.open(5).metrics == ending.metrics


def test_evaluation_weights_are_put_back_when_it_is_broken_off() -> None:
    """What is saved is what was trained, not the averaged weights that were being evaluated."""
    bench = Bench(stop_requested=ending_at(6, "stop"))
    unstopped = Bench()
    bench.fit(max_steps=5, evaluation_batches=2)
    unstopped.fit(max_steps=5, evaluation_batches=2)
    assert bench.model.training
    assert all(torch.equal(tensor, bench.weights()[name]) for name, tensor in unstopped.weights().items())


def test_memory_that_gives_out_in_an_owed_evaluation_is_an_ending_with_advice() -> None:
    """As in any other."""

    class Narrow(GradientLearner):
        def evaluate(self, batches: Iterable[Any]) -> Mapping[str, float]:
            raise MemoryError

    first = Bench(stop_requested=ending_at(6, "stop"))
    first.fit(max_steps=5)
    second = Bench(store=first.store)
    second.learner.__class__ = Narrow
    ending = second.fit(max_steps=5, start=second.start())
    assert (ending.reason, ending.step) == ("out_of_memory", 5)


@given(st.integers(0, 5), st.integers(1, 8))
def test_unless_stopped_gives_what_comes_before_the_stop(things: int, ask: int) -> None:
    """Each thing once, in order; nothing is begun when a stop is wanted."""
    begun: list[int] = []
    try:
        begun.extend(unless_stopped(range(things), ending_at(ask, "stop")))
    except StopWantedError:
        assert ask <= things
    assert begun == list(range(min(things, ask - 1)))
