"""The loop: what happens at which step, what is saved, and how it is left."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from ml_playground.configuration.models import CheckpointingSettings
from ml_playground.core.course import Course, RollBack, Split
from ml_playground.core.error_handling import StorageError
from ml_playground.core.run_schema import Reason
from ml_playground.core.values import Action, Progress, Wish
from ml_playground.training.checkpoint_protocols import NotSaved, Saved, Snapshot
from ml_playground.training.checkpointing.best import BestSoFar
from ml_playground.training.hook_protocols import StepEvent
from ml_playground.training.learner import GradientLearner
from ml_playground.training.optim import adamw
from ml_playground.training.protocols import StepNumbers, TensorGroups
from ml_playground.training.settings import AdamW
from ml_playground.training.stretch import Ending, Start, WentBack
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.loop_bench import Bench, Scribe, resumed
from tests.fakes.memory_store import MemoryStore
from tests.fakes.toy_task import ToyModel, ToyObjective


class Broken(GradientLearner):
    """Its loss is no number at one step."""

    def __init__(self, bench: Bench, *, step: int, bad: float = math.nan) -> None:
        super().__init__(bench.model, ToyObjective(), adamw.build(AdamW(), bench.model, torch.float32), seed=1)
        self._broken_step = step
        self._bad = bad

    def train_step(self, batches: Sequence[Any], *, step: int, lr_factor: float) -> StepNumbers:
        numbers = super().train_step(batches, step=step, lr_factor=lr_factor)
        return replace(numbers, loss=torch.tensor(self._bad)) if step + 1 == self._broken_step else numbers


def test_fit_ten_steps_does_each_thing_at_its_step() -> None:
    """Evaluations every 5, saves every 4 and at the end."""
    bench = Bench()
    ending = bench.fit()
    assert bench.scribe.told == [
        "start 0", "saved 4", "evaluation 5", "saved 8", "evaluation 10", "saved 10", "end 10 completed",
    ]  # fmt: skip
    assert (ending.reason, ending.step) == ("completed", 10)
    assert "loss" in ending.metrics


def test_fit_every_step_gets_its_reading_exactly_once() -> None:
    """Whatever the log interval, no step is missing or doubled."""
    bench = Bench()
    bench.fit()
    assert list(bench.scribe.losses) == list(range(1, 11))


def test_fit_each_step_takes_its_own_micro_batches() -> None:
    """Step s takes micro-batches s * count onwards, each once."""
    bench = Bench()
    bench.fit(max_steps=6, evaluate_every_steps=100, evaluation_batches=1)
    assert bench.data.asked == [*range(12), 100]


@pytest.mark.parametrize("stop_after", range(1, 12))
def test_fit_stopped_and_resumed_anywhere_equals_one_that_was_not(stop_after: int) -> None:
    """The law of exact resume, with dropout, averaging and accumulation."""
    whole = Bench()
    whole.fit(max_steps=12)
    asked = iter([False] * (stop_after - 1) + [True] * 99)
    first = Bench(stop_requested=lambda: next(asked))
    first.fit(max_steps=12)
    second, start = resumed(first.store)
    second.fit(max_steps=12, start=start)
    assert all(torch.equal(t, second.weights()[n]) for n, t in whole.weights().items())
    assert first.scribe.losses | second.scribe.losses == whole.scribe.losses
    assert second.scribe.remembered == whole.scribe.remembered


@pytest.mark.parametrize("killed_at", [5, 6, 7, 9, 11])
def test_fit_killed_and_resumed_from_an_older_checkpoint_equals_one_that_was_not(killed_at: int) -> None:
    """Steps after the checkpoint are done again, with the same numbers."""

    class Killed(Scribe):
        def on_step(self, event: StepEvent) -> Wish:
            if event.progress.step == killed_at:
                raise SystemError("killed")
            return super().on_step(event)

    whole = Bench()
    whole.fit(max_steps=12)
    first = Bench(scribe=Killed())
    with pytest.raises(SystemError, match="killed"):
        first.fit(max_steps=12)
    second, start = resumed(first.store)
    assert start.step == (killed_at - 1) // 4 * 4
    second.fit(max_steps=12, start=start)
    assert all(torch.equal(t, second.weights()[n]) for n, t in whole.weights().items())


def test_fit_stop_requested_saves_and_pauses_after_the_step() -> None:
    """Ctrl-C loses nothing."""
    bench = Bench(stop_requested=lambda: True)
    ending = bench.fit()
    assert (ending.reason, ending.step) == ("paused", 1)
    assert bench.scribe.told == ["start 0", "saved 1", "end 1 paused"]
    assert ending.message == "paused at step 1; the same command goes on"


def test_fit_hook_wishes_finish_is_obeyed_at_the_next_boundary() -> None:
    """A wish of step 3 takes effect when step 4 is done."""
    bench = Bench(scribe=Scribe({3: Wish(Action.FINISH)}))
    ending = bench.fit()
    assert (ending.reason, ending.step) == ("stopped_early", 4)
    assert ending.message == "finished at step 4 by its own rule"


def test_fit_finish_after_evaluation_is_obeyed_at_once() -> None:
    """Early stopping need not train another step."""
    bench = Bench(scribe=Scribe(after_evaluation=Wish(Action.FINISH)))
    ending = bench.fit()
    assert (ending.reason, ending.step) == ("stopped_early", 5)
    assert bench.scribe.told[-2:] == ["saved 5", "end 5 stopped_early"]


def test_fit_wish_to_save_and_evaluate_is_obeyed() -> None:
    """Outside the schedule, at the next boundary."""
    bench = Bench(scribe=Scribe({1: Wish(Action.SAVE), 6: Wish(Action.EVALUATE)}))
    bench.fit()
    assert bench.scribe.told[1] == "saved 2"
    assert "evaluation 7" in bench.scribe.told


@pytest.mark.parametrize("step", [4, 5])
def test_fit_finish_wished_where_a_checkpoint_is_due_is_in_that_checkpoint(step: int) -> None:
    """A wish that waited would be forgotten by a run that is resumed from there, which would end a step later."""
    scribe = Scribe({step: Wish(Action.FINISH | Action.EVALUATE)})
    bench = Bench(scribe=scribe)
    assert bench.fit(evaluate_every_steps=5).step == step
    assert [told for told in scribe.told if told.endswith(f" {step}")] == [f"evaluation {step}", f"saved {step}"]
    assert bench.journal.rows == {step: Wish(Action.EVALUATE)}


def test_fit_evaluation_and_end_wished_at_the_boundary_of_a_pause_are_done_by_the_next_start() -> None:
    """There is no next boundary in this process, and no time for an evaluation."""
    asked = iter([False, False, *[True] * 2])
    bench = Bench(scribe=Scribe({3: Wish(Action.EVALUATE | Action.FINISH)}), stop_requested=lambda: next(asked))
    assert bench.fit().reason == "paused"
    assert bench.store.open(3).owed == Action.EVALUATE | Action.SAVE | Action.FINISH
    second, start = resumed(bench.store)
    assert second.fit(start=start).reason == "stopped_early"
    assert second.scribe.told == ["start 3", "evaluation 3", "saved 3", "end 3 stopped_early"]
    assert second.store.open(3).ending == "stopped_early"


def test_fit_wished_evaluation_is_journaled_for_the_step_that_does_it() -> None:
    """So that it is done again when that step is done again after a kill."""
    bench = Bench(scribe=Scribe({6: Wish(Action.EVALUATE)}))
    bench.fit()
    assert bench.journal.rows == {7: Wish(Action.EVALUATE)}


class FullStore(MemoryStore):
    """A disk that is full at some steps."""

    full_at: tuple[int, ...] = ()

    def begin_save(self, snapshot: Snapshot) -> None:
        if snapshot.progress.step in self.full_at:
            self.outcomes.append(NotSaved(snapshot.progress.step, StorageError("no space left")))
        else:
            super().begin_save(snapshot)


def test_fit_disk_full_at_a_scheduled_save_goes_on_and_says_so() -> None:
    """A run that could go on is not ended; the next save that is due is tried."""
    store = FullStore(CheckpointingSettings(keep_last=99))
    store.full_at = (4,)
    bench = Bench(store=store)
    assert bench.fit().reason == "completed"
    assert [saved.step for saved in store.list()] == [8, 10]
    assert bench.told == ["step 4 was not saved, training goes on and saves again when it is due: no space left"]


def test_fit_disk_full_at_the_last_save_is_raised() -> None:
    """Then nothing but the save is left to do."""
    store = FullStore(CheckpointingSettings(keep_last=99))
    store.full_at = (10,)
    with pytest.raises(StorageError, match="no space left"):
        Bench(store=store).fit()


class SlowStore(FullStore):
    """A disk that is never done before somebody waits for it."""

    def poll(self) -> Sequence[Saved | NotSaved]:
        return []

    def drain(self) -> Sequence[Saved | NotSaved]:
        return super().poll()


def slow_bench(**bench: Any) -> Bench:
    """A toy job on a slow disk."""
    return Bench(store=SlowStore(CheckpointingSettings(keep_last=99)), **bench)


def test_fit_hooks_hear_of_a_checkpoint_when_it_is_durable() -> None:
    """Not when the save began; and the last one is waited for."""
    bench = slow_bench()
    bench.fit()
    assert bench.scribe.told[-4:] == ["saved 4", "saved 8", "saved 10", "end 10 completed"]


def test_fit_earlier_save_that_failed_is_told_while_the_last_one_succeeds() -> None:
    """The run has what matters: its last checkpoint."""
    store = SlowStore(CheckpointingSettings(keep_last=99))
    store.full_at = (8,)
    bench = Bench(store=store)
    assert bench.fit().reason == "completed"
    assert bench.told == ["step 8 was not saved, training goes on and saves again when it is due: no space left"]
    assert bench.scribe.told[-3:] == ["saved 4", "saved 10", "end 10 completed"]


def test_fit_paused_on_a_full_disk_is_raised() -> None:
    """A pause that saved nothing is none."""
    store = SlowStore(CheckpointingSettings(keep_last=99))
    store.full_at = (1,)
    bench = Bench(store=store, stop_requested=lambda: True)
    with pytest.raises(StorageError, match="no space left"):
        bench.fit()
    assert bench.scribe.told[-1] == "end 1 None StorageError"


def test_fit_left_by_an_error_finishes_the_save_under_way() -> None:
    """What was begun is not abandoned, and the hooks hear of it before the end."""

    class Failing(Scribe):
        def on_evaluation(self, progress: Progress, metrics: Mapping[str, float]) -> Wish:
            raise KeyboardInterrupt

    bench = slow_bench(scribe=Failing())
    with pytest.raises(KeyboardInterrupt):
        bench.fit()
    assert bench.scribe.told == ["start 0", "saved 4", "end 5 None KeyboardInterrupt"]


def test_fit_loss_that_is_no_number_names_the_checkpoint_that_was_being_written() -> None:
    """It is waited for, so that the advice is true."""
    bench = slow_bench()
    bench.learner = Broken(bench, step=5)
    assert "the checkpoint of step 4 is from before" in bench.fit().message


def test_fit_failed_save_is_no_checkpoint_from_before() -> None:
    """Advice names only what lies on the disk."""
    store = FullStore(CheckpointingSettings(keep_last=99))
    store.full_at = (8,)
    bench = Bench(store=store)
    bench.learner = Broken(bench, step=9)
    assert "the checkpoint of step 4 is from before" in bench.fit().message


def test_fit_checkpoint_that_could_not_be_dropped_is_told() -> None:
    """The new one is there; the disk is not used as it was asked."""

    class Stuck(MemoryStore):
        def begin_save(self, snapshot: Snapshot) -> None:
            self.outcomes.append(Saved(snapshot.progress.step, None, "here", problem="it is locked."))

    bench = Bench(store=Stuck())
    bench.fit(max_steps=4)
    assert bench.told == ["step 4 was saved, but older checkpoints stay: it is locked."]
    assert bench.scribe.told[-2:] == ["saved 4", "end 4 completed"]


def test_fit_store_is_prepared_once_for_what_a_checkpoint_will_hold() -> None:
    """After the first step, when training has taken its memory."""
    prepared: list[set[str]] = []

    class Preparing(MemoryStore):
        def prepare(self, tensors: TensorGroups) -> None:
            prepared.append({name for group in tensors.values() for name in group})

    bench = Bench(store=Preparing())
    bench.fit(max_steps=3)
    (names,) = prepared
    assert names == {name for group in bench.store.open(3).tensors().values() for name in group}


def test_fit_last_save_knows_how_the_run_ended() -> None:
    """Only the last one."""
    bench = Bench()
    bench.fit()
    assert [bench.store.open(step).ending for step in (4, 8, 10)] == [None, None, "completed"]


def test_fit_evaluation_that_is_no_number_is_never_the_best() -> None:
    """And the next one may be."""

    class Blinking(GradientLearner):
        answers = iter([math.nan, 2.0, 3.0])

        def evaluate(self, batches: Iterable[Any]) -> Mapping[str, float]:
            return {"loss": next(self.answers)}

    bench = Bench()
    bench.learner = Blinking(bench.model, ToyObjective(), adamw.build(AdamW(), bench.model, torch.float32), seed=1)
    settings = CheckpointingSettings(every_steps=None, every_minutes=None, keep_best=1)
    bench.fit(max_steps=12, evaluate_every_steps=4, checkpointing=settings)
    assert [line for line in bench.scribe.told if "saved" in line] == ["saved 8", "saved 12"]


def test_fit_every_hook_is_told_the_end_even_if_one_fails() -> None:
    """A live console must be closed whatever the others do."""

    class Failing(Scribe):
        def on_end(self, progress: Progress, reason: Reason | None, error: BaseException | None) -> None:
            raise ValueError("cannot say goodbye")

    bench, last = Bench(), Scribe()
    bench.more_hooks = {"failing": Failing(), "last": last}
    with pytest.raises(ValueError, match="cannot say goodbye"):
        bench.fit(max_steps=1)
    assert last.told[-1] == "end 1 completed"


def test_fit_out_of_memory_in_a_step_is_an_ending_with_advice() -> None:
    """The hooks are told the reason, not an error of their own."""

    class Full(Scribe):
        def on_step(self, event: StepEvent) -> Wish:
            raise MemoryError

    bench = Bench(scribe=Full())
    ending = bench.fit()
    assert (ending.reason, ending.step) == ("out_of_memory", 1)
    assert ending.message.startswith("out of memory; the same step in less memory: data.micro_batch_rows = 2 and ")
    assert bench.scribe.told[-1] == "end 1 out_of_memory"


def test_fit_lr_factor_counts_from_the_step_after_and_is_journaled() -> None:
    """Wished at step 2, used by step 3."""
    bench = Bench(scribe=Scribe({2: Wish(lr_factor=0.5)}))
    bench.fit()
    assert bench.scribe.lrs == [0.01] * 2 + [0.005] * 8
    assert bench.journal.rows == {2: Wish(lr_factor=0.5)}


def test_fit_lr_factor_after_evaluation_counts_from_the_next_step() -> None:
    """A guard that lowers the rate after an evaluation is obeyed at once."""
    bench = Bench(scribe=Scribe(after_evaluation=Wish(lr_factor=0.1)))
    bench.fit(max_steps=7)
    assert bench.scribe.lrs == [0.01] * 5 + [0.001] * 2


def test_fit_journaled_wish_is_obeyed_again_when_its_step_is_done_again() -> None:
    """A wish from outside belongs to its step, whoever wished it."""
    first = Bench(scribe=Scribe({5: Wish(lr_factor=0.5)}))
    first.fit(max_steps=12)
    replay = Bench()
    replay.journal.rows = dict(first.journal.rows)
    replay.fit(max_steps=12)
    assert all(torch.equal(t, replay.weights()[n]) for n, t in first.weights().items())


def test_fit_journaled_wish_obeyed_again_is_not_written_twice() -> None:
    """Replaying leaves the journal as it is."""
    bench = Bench()
    bench.journal.rows = {3: Wish(Action.EVALUATE)}
    bench.fit()
    assert "evaluation 3" in bench.scribe.told
    assert bench.journal.written == []


def test_fit_save_by_time_when_the_minutes_are_over() -> None:
    """A slow job is saved by the clock."""
    bench = Bench(clock=FixedClock(step_s=10.0))
    bench.fit(checkpointing=CheckpointingSettings(every_steps=None, every_minutes=2.0, keep_best=0))
    assert sum("saved" in line for line in bench.scribe.told) > 1


def test_fit_new_best_loss_is_saved_at_once() -> None:
    """So that the best checkpoint exists."""
    bench = Bench()
    bench.fit(max_steps=9, checkpointing=CheckpointingSettings(every_steps=None, every_minutes=None, keep_best=1))
    assert "saved 5" in bench.scribe.told


def test_fit_loss_that_is_not_better_is_not_saved() -> None:
    """The best of an earlier process counts."""
    bench = Bench()
    settings = CheckpointingSettings(every_steps=None, every_minutes=None, keep_best=1)
    bench.fit(max_steps=9, start=Start(best=BestSoFar(cost=-1.0)), checkpointing=settings)
    assert bench.scribe.told[1:3] == ["evaluation 5", "evaluation 9"]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_fit_loss_that_is_no_number_ends_the_run_before_it_is_saved(bad: float) -> None:
    """No checkpoint ever holds weights that a bad step has touched."""
    bench = Bench()
    bench.learner = Broken(bench, step=5, bad=bad)
    ending = bench.fit()
    assert (ending.reason, ending.step) == ("nan", 5)
    assert [saved.step for saved in bench.store.list()] == [4]
    assert ending.message == (
        f"at step 5 the loss was {bad:g} and the gradient norm {ending.message.split('norm ')[1].split(';')[0]}; "
        "the checkpoint of step 4 is from before. Lower optimizer.lr or lengthen schedule.warmup_steps."
    )
    assert 5 in bench.scribe.losses


def test_fit_bad_loss_before_any_checkpoint_says_so() -> None:
    """The message does not promise a checkpoint that is not there."""
    bench = Bench()
    with torch.no_grad():
        bench.model.inner.weight.fill_(math.nan)
    assert "no checkpoint was saved before" in bench.fit(max_steps=2).message


@pytest.mark.parametrize("known", [0, 2], ids=["known at once", "known two steps later"])
def test_fit_bad_step_is_undone_before_it_is_saved(known: int) -> None:
    """Step 5 takes batches 8 and 9: the loop is left for a start without them, and the newest checkpoint is of step 4."""
    bench = Bench()
    bench.learner = Broken(bench, step=5)
    ended = bench.stretch(on_bad_step="roll_back", log_every_steps=5 + known, evaluate_every_steps=100)
    undone = RollBack(step=5, batches=(8, 9), why=bench.journal.notes[0][2]["why"], cut="cut")
    assert isinstance(ended, WentBack)
    assert ended.course == Course(roll_backs=(undone,))
    assert [saved.step for saved in bench.store.list()] == [4]
    assert [(kind, step) for kind, step, _ in bench.journal.notes] == [("rolled_back", 5)]
    assert RollBack.model_validate(bench.journal.notes[0][2]) == undone
    assert bench.scribe.told[-1] == f"end {5 + known} None"
    assert bench.told == [
        f"step 5 is undone: {undone.why}; the run goes on from the checkpoint of step 4, without micro-batches 8, 9"
    ]


def test_fit_bad_step_before_any_checkpoint_goes_back_to_the_beginning() -> None:
    """The message promises no checkpoint."""
    bench = Bench()
    bench.learner = Broken(bench, step=2)
    assert isinstance(bench.stretch(on_bad_step="roll_back", micro_batches_per_step=1), WentBack)
    assert bench.told[0].endswith("the run goes on from its beginning, without micro-batch 1")


def test_fit_bad_step_after_all_tries_ends_the_run_with_their_number() -> None:
    """It says what was tried, and by which setting."""
    bench = Bench()
    bench.learner = Broken(bench, step=5)
    bench.course = Course(roll_backs=tuple(RollBack(step=5, batches=(n, n + 1), why="", cut="cut") for n in (8, 10)))
    ended = bench.stretch(on_bad_step="roll_back", bad_step_tries=2)
    assert isinstance(ended, Ending)
    assert (ended.reason, ended.step) == ("nan", 5)
    assert "after 2 such steps (train.bad_step_tries); the checkpoint of step 4 is from before" in ended.message


def test_fit_batches_set_aside_are_not_asked_for() -> None:
    """Step n takes the n-th of those that remain."""
    bench = Bench()
    bench.course = Course(roll_backs=(RollBack(step=2, batches=(2, 3), why="", cut="cut"),))
    bench.fit(max_steps=4, evaluate_every_steps=100, evaluation_batches=1)
    assert bench.data.asked == [0, 1, 4, 5, 6, 7, 8, 9, 100]


def test_fit_skipped_step_is_noted_once_and_the_run_goes_on() -> None:
    """The device left the update out; the loop only says so."""
    bench = Bench()
    bench.learner = Broken(bench, step=5)
    assert bench.fit(on_bad_step="skip").reason == "completed"
    assert [(kind, step) for kind, step, _ in bench.journal.notes] == [("skipped", 5)]
    assert bench.told[0].startswith("step 5 was skipped: the loss was nan and the gradient norm ")
    assert list(bench.scribe.losses) == list(range(1, 11))


def test_fit_checkpoint_keeps_the_course() -> None:
    """What was undone, split and skipped, and the losses that a spike is measured against."""
    bench = Bench()
    undone = RollBack(step=2, batches=(2, 3), why="", cut="cut")
    bench.course = Course(roll_backs=(undone,))
    bench.fit(max_steps=4, on_bad_step="roll_back", spike_factor=50.0)
    course = bench.store.open(4).course
    assert course.roll_backs == (undone,)
    assert list(course.losses) == list(bench.scribe.losses.values())


class Narrow(GradientLearner):
    """A device on which batches of one row fit; of two rows, the second micro-batch of a step breaks off half way back."""

    def __init__(self, bench: Bench, *, from_step: int, fits_evaluation: bool = True) -> None:
        self.short = False
        optimizer = adamw.build(AdamW(lr=0.01), bench.model, torch.float32)
        super().__init__(bench.model, NarrowObjective(self), optimizer, seed=1, ema_decay=0.9)
        self._from_step = from_step
        self._fits_evaluation = fits_evaluation

    def train_step(self, batches: Sequence[Any], *, step: int, lr_factor: float) -> StepNumbers:
        self.short = step + 1 >= self._from_step
        return super().train_step(batches, step=step, lr_factor=lr_factor)

    def evaluate(self, batches: Iterable[Any]) -> Mapping[str, float]:
        self.short = not self._fits_evaluation
        return super().evaluate(batches)


class NarrowObjective(ToyObjective):
    """Runs out of memory in the midst of the way back, when one layer has its gradient and the other has none."""

    def __init__(self, device: Narrow) -> None:
        self._device = device
        self._calls = 0

    def loss_sum(self, model: torch.nn.Module, batch: Any) -> torch.Tensor:
        self._calls += 1
        if not self._device.short or batch.rows == 1 or self._calls % 2:
            return super().loss_sum(model, batch)
        assert isinstance(model, ToyModel)
        hidden = torch.tanh(model.inner(batch.inputs))
        if not hidden.requires_grad:
            raise MemoryError
        hidden.register_hook(_break_off)
        return ((model.outer(hidden).squeeze(-1) - batch.inputs.sum(-1)) ** 2 * batch.counted).sum()


def _break_off(_gradient: torch.Tensor) -> None:
    raise MemoryError


def narrow_bench(*, from_step: int, splits: tuple[Split, ...] = (), **learner: Any) -> Bench:
    """A bench on a narrow device, without dropout."""
    bench = Bench(on_out_of_memory="split")
    bench.model.dropout.p = 0.0
    bench.learner = Narrow(bench, from_step=from_step, **learner)
    bench.course = Course(splits=splits)
    return bench


def test_fit_out_of_memory_splits_from_that_step_on_and_changes_only_the_order_of_a_sum() -> None:
    """The run ends as one that had memory: the same weights, up to rounding."""
    short, roomy = narrow_bench(from_step=4), narrow_bench(from_step=99)
    assert short.fit().reason == roomy.fit().reason == "completed"
    assert [(kind, step) for kind, step, _ in short.journal.notes] == [("split", 4)]
    for name, tensor in roomy.weights().items():
        torch.testing.assert_close(short.weights()[name], tensor, rtol=0, atol=1e-12)


def test_fit_out_of_memory_half_way_leaves_nothing_in_the_gradients() -> None:
    """Bit for bit the run that was told before that step 4 is to be split."""
    split = Split(phase="training", step=4, parts=2, cut="cut")
    surprised, told = narrow_bench(from_step=4), narrow_bench(from_step=4, splits=(split,))
    surprised.fit()
    told.fit()
    assert told.journal.notes == []
    assert all(torch.equal(t, told.weights()[n]) for n, t in surprised.weights().items())
    assert surprised.store.open(8).course.splits == (split,)


def test_fit_out_of_memory_in_an_evaluation_splits_evaluations_alone() -> None:
    """The training did fit; every batch is evaluated, from the first on."""
    short, roomy = narrow_bench(from_step=99, fits_evaluation=False), narrow_bench(from_step=99)
    assert short.fit().metrics["loss"] == pytest.approx(roomy.fit().metrics["loss"], rel=1e-12)
    assert [(kind, step, data["phase"]) for kind, step, data in short.journal.notes] == [("split", 5, "evaluation")]
    assert all(torch.equal(t, short.weights()[n]) for n, t in roomy.weights().items())


def test_fit_error_in_a_hook_is_told_to_all_and_raised() -> None:
    """A steering hook that fails ends the run with its reason."""

    class Failing(Scribe):
        def on_evaluation(self, progress: Progress, metrics: Mapping[str, float]) -> Wish:
            raise ValueError("no such metric")

    bench = Bench(scribe=Failing())
    with pytest.raises(ValueError, match="no such metric"):
        bench.fit()
    assert bench.scribe.told[-1] == "end 5 None ValueError"


def test_fit_already_at_its_end_changes_nothing() -> None:
    """A start at the last step trains no further."""
    bench = Bench()
    before = bench.weights()
    assert bench.fit(max_steps=5, start=Start(step=5)).reason == "completed"
    assert all(torch.equal(t, bench.weights()[n]) for n, t in before.items())


def test_progress_counts_epochs_targets_and_the_time_of_earlier_processes() -> None:
    """An epoch is 8 micro-batches here, a step takes two."""
    bench = Bench()
    bench.fit(max_steps=8, start=Start(elapsed_s=100.0))
    last = bench.scribe.progress[-1]
    assert (last.step, last.max_steps, last.epoch) == (8, 8, 2.0)
    assert last.targets == sum(number % 3 != 2 for number in range(32))
    assert last.elapsed_s >= 100.0
