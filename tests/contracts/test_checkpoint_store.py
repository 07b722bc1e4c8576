"""What every checkpoint store promises, asked of the one in memory and of the one on disk."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import hypothesis
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.configuration.models import CheckpointingSettings
from ml_playground.core.course import Course, RollBack, Split
from ml_playground.core.error_handling import CheckpointError
from ml_playground.core.values import Action, Progress
from ml_playground.training.checkpoint_protocols import CheckpointStore, Snapshot
from ml_playground.training.checkpointing.directory_store import DirectoryStore
from ml_playground.training.checkpointing.retention import Kept, to_drop
from ml_playground.training.protocols import TensorGroups
from tests.fakes.memory_store import MemoryStore

MakeStore = Callable[[Path, CheckpointingSettings], CheckpointStore]

KEEP_ALL = CheckpointingSettings(keep_last=100, keep_best=0)


def in_memory(folder: Path, settings: CheckpointingSettings) -> CheckpointStore:
    """The fake."""
    return MemoryStore(settings)


def on_disk(folder: Path, settings: CheckpointingSettings) -> CheckpointStore:
    """The real one."""
    return DirectoryStore(folder / "checkpoints", settings)


both = pytest.mark.parametrize("make", [in_memory, on_disk])


def snapshot(step: int, loss: float | None = None, value: float | None = None) -> Snapshot:
    """A small snapshot whose tensors tell its step."""
    number = float(step) if value is None else value
    return Snapshot(
        progress=Progress(step, 1000, step / 10, step * 64.0, step * 0.1),
        tensors={
            "model": {"w": torch.full((2, 3), number), "b": torch.zeros(0)},
            "optimizer": {"exp_avg/w": torch.full((2, 3), -number), "step": torch.tensor(step)},
        },
        hooks={"early_stopping": {"misses": 2, "lowest": 0.1 + 0.2}, "samples": {}},
        config='{"name": "a"}\n',
        data_fingerprint="f" * 64,
        metrics=None if loss is None else {"loss": loss},
        lr_factor=0.7,
        owed=Action.EVALUATE | Action.FINISH,
        course=Course(
            roll_backs=(RollBack(step=3, batches=(4, 5), why="the loss was nan", cut="a"),),
            splits=(Split(phase="training", step=2, parts=4, cut="a"),),
            losses=(0.1 + 0.2, 1e-30, 7.0),
            skipped_in_a_row=2,
        ),
    )


def described(groups: TensorGroups) -> dict[str, dict[str, tuple[str, object]]]:
    """Names, types and values, which compare with `==`."""
    return {
        group: {name: (str(tensor.dtype), tensor.tolist()) for name, tensor in tensors.items()}
        for group, tensors in groups.items()
    }


@both
def test_open_after_save_gives_everything_back(make: MakeStore, tmp_path: Path) -> None:
    """A snapshot survives with every number, text and tensor as it was."""
    store = make(tmp_path, KEEP_ALL)
    saved = snapshot(7, loss=1.25)
    store.begin_save(saved)
    opened = store.open(7)
    assert opened.progress == saved.progress
    assert opened.lr_factor == saved.lr_factor
    assert opened.data_fingerprint == saved.data_fingerprint
    assert opened.config == saved.config
    assert opened.hooks == saved.hooks
    assert opened.course == saved.course
    assert opened.owed == saved.owed
    assert described(opened.tensors()) == described(saved.tensors)


@both
def test_reference_of_saved_and_opened_is_one(make: MakeStore, tmp_path: Path) -> None:
    """A message about a saved checkpoint and one about an opened one name the same thing."""
    store = make(tmp_path, KEEP_ALL)
    store.begin_save(snapshot(7))
    assert store.open(7).reference == store.list()[0].reference == store.poll()[0].reference


@both
def test_begin_save_tensors_changed_afterwards_keeps_the_old_values(make: MakeStore, tmp_path: Path) -> None:
    """Training goes on in place as soon as `begin_save` has returned."""
    store = make(tmp_path, KEEP_ALL)
    saved = snapshot(1)
    store.begin_save(saved)
    saved.tensors["model"]["w"].add_(100)
    assert store.open(1).tensors()["model"]["w"].tolist() == [[1.0] * 3] * 2


@both
def test_tensors_changed_by_reader_leave_the_checkpoint_alone(make: MakeStore, tmp_path: Path) -> None:
    """What is read may be trained on in place."""
    store = make(tmp_path, KEEP_ALL)
    store.begin_save(snapshot(1))
    store.open(1).tensors()["model"]["w"].add_(100)
    assert store.open(1).tensors()["model"]["w"].tolist() == [[1.0] * 3] * 2


@both
def test_empty_store_has_nothing(make: MakeStore, tmp_path: Path) -> None:
    """A run that was never saved starts at the beginning."""
    store = make(tmp_path, KEEP_ALL)
    assert store.latest() is None
    assert list(store.list()) == list(store.poll()) == list(store.drain()) == list(store.problems) == []


@both
def test_open_unknown_step_lists_those_there_are(make: MakeStore, tmp_path: Path) -> None:
    """The message tells what could have been asked for."""
    store = make(tmp_path, KEEP_ALL)
    store.begin_save(snapshot(3))
    store.begin_save(snapshot(4))
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 5 \(there are: 3, 4\)"):
        store.open(5)


@both
def test_open_in_empty_store_says_none(make: MakeStore, tmp_path: Path) -> None:
    """The message stays readable when there is nothing to list."""
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 5 \(there are: none\)"):
        make(tmp_path, KEEP_ALL).open(5)


@both
def test_list_after_saves_in_any_order_is_oldest_first(make: MakeStore, tmp_path: Path) -> None:
    """Steps count, not the moments of saving."""
    store = make(tmp_path, KEEP_ALL)
    for step in (5, 1_000_000, 20):
        store.begin_save(snapshot(step, loss=float(step)))
    assert [(saved.step, saved.metrics) for saved in store.list()] == [
        (5, {"loss": 5.0}),
        (20, {"loss": 20.0}),
        (1_000_000, {"loss": 1_000_000.0}),
    ]


@both
def test_latest_is_the_highest_step(make: MakeStore, tmp_path: Path) -> None:
    """A run goes on from where it was furthest."""
    store = make(tmp_path, KEEP_ALL)
    for step in (5, 20, 10):
        store.begin_save(snapshot(step))
    found = store.latest()
    assert found is not None
    assert found.progress.step == 20
    assert list(store.problems) == []


@both
def test_poll_and_drain_tell_each_save_once(make: MakeStore, tmp_path: Path) -> None:
    """Hooks hear of each durable checkpoint exactly once."""
    store = make(tmp_path, KEEP_ALL)
    store.begin_save(snapshot(1))
    store.begin_save(snapshot(2, loss=3.0))
    told = [*store.poll(), *store.drain(), *store.poll()]
    assert [(saved.step, saved.metrics) for saved in told] == [(1, None), (2, {"loss": 3.0})]


@both
def test_save_of_a_step_that_is_there_replaces_it(make: MakeStore, tmp_path: Path) -> None:
    """A step that is trained again after a resume is saved again."""
    store = make(tmp_path, KEEP_ALL)
    store.begin_save(snapshot(1, loss=2.0))
    store.begin_save(snapshot(1, loss=1.0, value=9.0))
    assert [(saved.step, saved.metrics) for saved in store.list()] == [(1, {"loss": 1.0})]
    assert store.open(1).tensors()["model"]["w"].unique().tolist() == [9.0]


@both
def test_save_behind_the_newest_keeps_the_new_one(make: MakeStore, tmp_path: Path) -> None:
    """What was just saved is there, whatever higher steps an abandoned attempt has left."""
    store = make(tmp_path, CheckpointingSettings(keep_last=1, keep_best=0))
    store.begin_save(snapshot(100))
    store.begin_save(snapshot(50))
    assert [saved.step for saved in store.list()] == [50, 100]


@both
def test_tied_tensors_come_back_under_both_names(make: MakeStore, tmp_path: Path) -> None:
    """A model whose head is its embedding is restored by either name."""
    store = make(tmp_path, KEEP_ALL)
    shared = torch.arange(6.0).reshape(2, 3)
    store.begin_save(replace(snapshot(1), tensors={"model": {"head": shared, "embedding": shared, "other": shared.T}}))
    tensors = store.open(1).tensors()["model"]
    assert tensors["head"].tolist() == tensors["embedding"].tolist() == shared.tolist()
    assert tensors["other"].tolist() == shared.T.tolist()


@both
def test_metrics_that_are_no_numbers_survive(make: MakeStore, tmp_path: Path) -> None:
    """A run that diverged can still be looked at."""
    store = make(tmp_path, KEEP_ALL)
    store.begin_save(snapshot(1, loss=float("nan")))
    store.begin_save(snapshot(2, loss=float("inf")))
    assert [str((saved.metrics or {})["loss"]) for saved in store.list()] == ["nan", "inf"]


@both
@hypothesis.settings(max_examples=12)  # a save waits for the disk some ten times
@given(
    losses=st.lists(st.none() | st.floats(0, 9), max_size=6),
    keep_last=st.integers(1, 3),
    keep_best=st.integers(0, 2),
    keep_every_steps=st.none() | st.integers(1, 3),
)
def test_rotation_any_rule_keeps_what_the_rule_keeps(
    make: MakeStore, losses: list[float | None], keep_last: int, keep_best: int, keep_every_steps: int | None
) -> None:
    """After each save there is what the pure rule leaves of what there was."""
    settings = CheckpointingSettings(keep_last=keep_last, keep_best=keep_best, keep_every_steps=keep_every_steps)
    with TemporaryDirectory() as folder:
        store = make(Path(folder), settings)
        expected: dict[int, float | None] = {}
        for step, loss in enumerate(losses):
            store.begin_save(snapshot(step, loss=loss))
            expected[step] = loss
            dropped = to_drop(
                [Kept(*item) for item in expected.items()],
                keep_last=keep_last,
                keep_best=keep_best,
                keep_every_steps=keep_every_steps,
            )
            expected = {step: loss for step, loss in expected.items() if step not in dropped}
            assert [saved.step for saved in store.list()] == sorted(expected)
