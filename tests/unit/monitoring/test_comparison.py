"""Two runs compared bit by bit: equal ones pass, and any one change is found and named."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.configuration.models import CheckpointingSettings
from ml_playground.core.atomic import append_lines, read_lines
from ml_playground.core.error_handling import CheckpointError, RunError
from ml_playground.core.run_folder import RunFolder
from ml_playground.core.run_schema import MetricRow
from ml_playground.core.values import Progress
from ml_playground.monitoring.comparison import compare_runs, rows_of
from ml_playground.training.checkpoint_protocols import Snapshot
from ml_playground.training.checkpointing.directory_store import DirectoryStore
from tests.fakes.saving import save

STEPS = 6
VALUES = {"loss": 2.5, "grad_norm": 0.25, "lr": 1e-3, "targets": 64.0}


def tensors() -> dict[str, dict[str, torch.Tensor]]:
    """Weights, averaged weights, and what an optimizer remembers of them."""
    weights = {"wte": torch.arange(12.0).reshape(3, 4), "head": torch.ones(5)}
    return {"model": weights, "ema": {"wte": torch.zeros(3, 4)}, "optimizer": {"m.wte": torch.ones(3, 4)}}


def run_at(path: Path, **changes: Any) -> RunFolder:
    """A run of six steps with one checkpoint, as a training leaves it."""
    run = RunFolder(path)
    for step in range(1, STEPS + 1):
        rows = [MetricRow(kind="train", step=step, values=VALUES | {"loss": 8 / step}, timing={"elapsed_s": step / 7})]
        if step % 2 == 0:
            rows.append(MetricRow(kind="evaluation", step=step, values={"loss": 9 / step, "bits_per_byte": 1.5}))
        append_lines(run.metrics, [row.model_dump_json() for row in rows])
    plain: dict[str, Any] = {
        "progress": Progress(STEPS, STEPS, 0.5, 384.0, 12.5),
        "tensors": tensors(),
        "hooks": {"stop": {"misses": 1, "lowest": 2.0}},
        "config": "{}",
        "data_fingerprint": "abc",
        "metrics": {"loss": 1.5},
        "ending": "completed",
    }
    save(DirectoryStore(run.checkpoints, CheckpointingSettings()), Snapshot(**(plain | changes)))
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The run that the others are compared with."""
    return run_at(tmp_path_factory.mktemp("runs") / "tiny" / "one")


def copy_with_rows(run: RunFolder, place: Path, rows: list[MetricRow]) -> RunFolder:
    """The same checkpoints, other metrics."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(run.path, place)
    other = RunFolder(place)
    other.metrics.unlink()
    append_lines(other.metrics, [row.model_dump_json() for row in rows])
    return other


def test_compare_with_a_run_that_differs_in_its_clock_alone_is_equal(run: RunFolder, tmp_path: Path) -> None:
    """Seconds are no part of what a run computes; all else is counted and hashed."""
    rows = [row.model_copy(update={"timing": {"elapsed_s": 99.0}}) for row in rows_of(run)]
    other = run_at(tmp_path / "two", progress=Progress(STEPS, STEPS, 0.5, 384.0, 999.0))
    other = copy_with_rows(other, tmp_path / "three", rows)
    found = compare_runs(run, other)
    assert found.equal
    assert (found.row, found.tensor, list(found.state)) == (None, None, [])
    assert (found.equality.train_rows, found.equality.evaluation_rows) == (6, 3)
    assert (found.equality.tensors, found.equality.numbers) == (4, 12 + 5 + 12 + 12)
    assert found.equality == compare_runs(other, run).equality


@given(data=st.data())
def test_compare_any_number_of_any_row_changed_is_found_there(
    run: RunFolder, tmp_path: Path, data: st.DataObject
) -> None:
    """Not one bit of one column of one step can differ unnoticed, nor be told of another step."""
    rows = rows_of(run)
    position = data.draw(st.integers(0, len(rows) - 1))
    column = data.draw(st.sampled_from(sorted(rows[position].values)))
    value = data.draw(st.floats().filter(lambda other: repr(other) != repr(rows[position].values[column])))
    changed = rows[position].model_copy(update={"values": rows[position].values | {column: value}})
    found = compare_runs(run, copy_with_rows(run, tmp_path / "two", [*rows[:position], changed, *rows[position + 1 :]]))
    assert not found.equal
    assert found.row is not None
    assert (found.row.step, found.row.kind) == (changed.step, changed.kind)
    assert found.row.what == f"{column} is {rows[position].values[column]!r} and {value!r}"
    assert found.tensor is None


@given(first=st.integers(0, 8), count=st.integers(1, 9))
def test_compare_rows_left_out_are_told_as_missing_on_their_side(
    run: RunFolder, tmp_path: Path, first: int, count: int
) -> None:
    """A step that was skipped, or never written, is named by the run that lacks it."""
    rows = rows_of(run)
    left = rows[:first] + rows[first + count :]
    if not left:
        left = rows[:1]
        first = 1
    other = copy_with_rows(run, tmp_path / "two", left)
    for one, two, side in ((run, other, "second"), (other, run, "first")):
        found = compare_runs(one, two).row
        assert found is not None
        assert (found.step, found.kind, found.what) == (rows[first].step, rows[first].kind, f"missing in the {side}")


def test_compare_loss_is_told_before_other_columns(run: RunFolder, tmp_path: Path) -> None:
    """Where a whole row differs, its loss is what a reader asks for."""
    rows = rows_of(run)
    rows[4] = rows[4].model_copy(update={"values": dict.fromkeys(VALUES, 0.0)})
    found = compare_runs(run, copy_with_rows(run, tmp_path / "two", rows))
    assert str(found.row) == f"step {rows[4].step}, train: loss is {8 / rows[4].step!r} and 0.0"


@given(data=st.data())
def test_compare_any_element_of_any_tensor_changed_is_named(
    run: RunFolder, tmp_path: Path, data: st.DataObject
) -> None:
    """Group, name, how many elements, how far apart."""
    changed = tensors()
    group = data.draw(st.sampled_from(sorted(changed)))
    name = data.draw(st.sampled_from(sorted(changed[group])))
    flat = changed[group][name].reshape(-1)
    flat[data.draw(st.integers(0, flat.numel() - 1))] += 0.5
    shutil.rmtree(tmp_path / "two", ignore_errors=True)
    found = compare_runs(run, run_at(tmp_path / "two", tensors=changed))
    assert found.tensor is not None
    assert str(found.tensor) == f"{group}/{name}: 1 of {flat.numel()} elements differ, at most 0.5 apart"
    assert (found.tensor.elements, found.tensor.largest) == (1, 0.5)
    assert found.row is None
    assert found.state == []


def test_compare_weights_are_told_before_the_optimizer(run: RunFolder, tmp_path: Path) -> None:
    """Of many tensors the first weight is named, and the others counted."""
    changed = {group: {name: tensor + 1 for name, tensor in named.items()} for group, named in tensors().items()}
    found = compare_runs(run, run_at(tmp_path / "two", tensors=changed))
    assert str(found.tensor) == "model/head: 5 of 5 elements differ, at most 1 apart; 3 other tensors differ"


@pytest.mark.parametrize(
    ("group", "tensor", "text"),
    [
        ("model", None, "model/head: missing in the second"),
        ("model", torch.ones(1, 5), "model/head: F32 [5] and F32 [1, 5]"),
        ("model", torch.ones(5, dtype=torch.bfloat16), "model/head: F32 [5] and BF16 [5]"),
    ],
)
def test_compare_tensors_of_another_form_say_which(
    run: RunFolder, tmp_path: Path, group: str, tensor: torch.Tensor | None, text: str
) -> None:
    """Missing, or of another type or shape."""
    changed = tensors()
    del changed[group]["head"]
    if tensor is not None:
        changed[group]["head"] = tensor
    assert str(compare_runs(run, run_at(tmp_path / "two", tensors=changed)).tensor) == text


def test_compare_tensor_that_only_the_second_has_is_named(run: RunFolder, tmp_path: Path) -> None:
    """A run without averaged weights is not one with them."""
    changed = {group: named for group, named in tensors().items() if group != "ema"}
    other = run_at(tmp_path / "two", tensors=changed)
    assert str(compare_runs(other, run).tensor) == "ema/wte: missing in the first"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"hooks": {"stop": {"misses": 2, "lowest": 2.0}}}, "state of the hook 'stop'"),
        ({"hooks": {}}, "state of the hook 'stop'"),
        ({"lr_factor": 0.5}, "lr_factor"),
        ({"data_fingerprint": "abd"}, "data_fingerprint"),
        ({"metrics": {"loss": 1.25}}, "metrics"),
        ({"ending": None}, "ending"),
        ({"progress": Progress(STEPS, STEPS, 0.5, 385.0, 12.5)}, "targets"),
    ],
)
def test_compare_state_beside_tensors_is_named(
    run: RunFolder, tmp_path: Path, changes: Mapping[str, Any], name: str
) -> None:
    """Patience that was forgotten would end the next run at another step."""
    found = compare_runs(run, run_at(tmp_path / "two", **changes))
    assert not found.equal
    assert list(found.state) == [name]
    assert found.equality.state_sha256 != compare_runs(run_at(tmp_path / "three", **changes), run).equality.state_sha256


def test_compare_run_without_rows_or_checkpoint_says_what_is_missing(run: RunFolder, tmp_path: Path) -> None:
    """Nothing to compare is no success."""
    shutil.copytree(run.path, tmp_path / "two")
    other = RunFolder(tmp_path / "two")
    other.metrics.unlink()
    with pytest.raises(RunError, match=r"metrics.jsonl holds no row: two runs are compared by the metrics"):
        compare_runs(run, other)
    append_lines(other.metrics, [*read_lines(run.metrics), '{"step": 1}'])
    with pytest.raises(RunError, match=r"metrics.jsonl, line 10 is no row of metrics"):
        compare_runs(run, other)
    copy_with_rows(run, other.path, rows_of(run))
    shutil.rmtree(other.checkpoints)
    with pytest.raises(RunError, match=r"checkpoints holds no checkpoint: two runs are compared by their last ones"):
        compare_runs(run, other)


def test_compare_damaged_checkpoint_is_an_error_and_no_difference(run: RunFolder, tmp_path: Path) -> None:
    """A broken disk is not a broken promise."""
    other = copy_with_rows(run, tmp_path / "two", rows_of(run))
    file = next(other.checkpoints.glob("*/model.safetensors"))
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match=r"model.safetensors has sha256"):
        compare_runs(run, other)
