"""What is kept of a batch that was set aside."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ml_playground.configuration.models import TrainSettings
from ml_playground.core.course import PLAIN, Course, RollBack
from ml_playground.core.run_folder import RunFolder
from ml_playground.training.evidence import Examiner, keep_evidence
from ml_playground.training.guard import Guard
from tests.fakes.hooks import Told
from tests.fakes.toy_task import ToyBatch, ToyData, ToyModel, ToyObjective


def examiner(model: ToyModel, parts: int = 1) -> Examiner:
    """Of a toy."""
    return Examiner(model, ToyObjective(), torch.device("cpu"), torch.float32, parts)


def spoilt() -> ToyBatch:
    """Four rows, the second with a number that is none."""
    batch = ToyData(rows=4).batch_at(0)
    return ToyBatch(batch.inputs.clone().index_fill(0, torch.tensor([1]), math.nan), batch.counted)


def test_batch_names_the_row_and_the_numbers_that_are_not_finite() -> None:
    """Where a person looks first: which row, and from which module on."""
    seen = examiner(ToyModel()).batch(spoilt())
    first, bad, without_target, last = seen["loss_of_rows"]
    assert bad == "nan"
    assert without_target is None
    assert first > 0 and last > 0
    assert seen["activations"]["inner"]["not_finite"] == 6
    assert seen["activations"]["inner"]["largest"] > 0
    assert seen["gradients"]["inner.weight"] == {"norm": "nan", "largest": 0.0, "not_finite": 18}


def test_batch_of_sound_rows_gives_the_gradient_of_its_loss() -> None:
    """By parameter, as autograd gives it; in parts it is the same."""
    model, batch = ToyModel(), ToyData(rows=4).batch_at(0)
    (ToyObjective().loss_sum(model, batch) / ToyObjective().targets(batch)).backward()
    wholes, parts = (examiner(model, parts).batch(batch)["gradients"] for parts in (1, 4))
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert wholes[name]["norm"] == pytest.approx(float(parameter.grad.norm()), rel=1e-5)
        assert parts[name]["norm"] == pytest.approx(wholes[name]["norm"], rel=1e-4)


def test_batch_leaves_the_model_as_it_was() -> None:
    """Its weights, mode, gradients and hooks; nor is a random number drawn."""
    model = ToyModel(dropout=0.5)
    model.train()
    before, drawn = {n: t.clone() for n, t in model.state_dict().items()}, torch.get_rng_state()
    examiner(model).batch(spoilt())
    assert model.training
    assert all(torch.equal(t, model.state_dict()[n]) for n, t in before.items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), drawn)


def test_weights_are_summed_up_by_parameter() -> None:
    """Length, largest magnitude, and how many are not finite."""
    model = ToyModel()
    with torch.no_grad():
        model.inner.bias.copy_(torch.tensor([3.0, -4.0, 0, 0, 0, 0]))
        model.outer.bias.fill_(math.inf)
    weights = examiner(model).weights()
    assert weights["inner.bias"] == {"norm": 5.0, "largest": 4.0, "not_finite": 0}
    assert weights["outer.bias"] == {"norm": "inf", "largest": 0.0, "not_finite": 1}


class TextlessData(ToyData):
    """Rows that cannot say what they are."""


class TellingData(ToyData):
    """Rows that can."""

    def rows_at(self, index: int) -> list[dict[str, Any]]:
        """A text for each."""
        return [{"text": f"row {row} of {index}"} for row in range(2)]


def kept(folder: Path, data: ToyData, told: Told, course: Course = PLAIN, model: Any = None) -> None:
    """Keep the evidence of a run over these data, which stands at step 4."""
    job: Any = SimpleNamespace(runtime=SimpleNamespace(dtype="float32"))
    ready: Any = SimpleNamespace(job=job, data=data)
    built: Any = SimpleNamespace(
        model=model or ToyModel(),
        objective=ToyObjective(),
        device=torch.device("cpu"),
        start=SimpleNamespace(step=4),
    )
    guard = Guard(TrainSettings(max_steps=9), "cut", course)
    keep_evidence(RunFolder(folder), ready, built, guard, told)


UNDONE = Course(roll_backs=(RollBack(step=7, batches=(12, 13), why="the loss was nan", cut="cut"),))


def test_keep_evidence_writes_a_file_for_each_batch_once(tmp_path: Path) -> None:
    """A start later finds them there, and writes nothing."""
    told = Told()
    kept(tmp_path, TellingData(), told, UNDONE)
    paths = sorted((tmp_path / "bad_batches").iterdir())
    assert [path.name for path in paths] == ["step_000007_batch_000012.json", "step_000007_batch_000013.json"]
    record = json.loads(paths[0].read_text())
    assert (record["step"], record["batch"], record["weights_of_step"], record["why"]) == (7, 12, 4, "the loss was nan")
    assert record["rows"] == [{"text": "row 0 of 12"}, {"text": "row 1 of 12"}]
    assert told == [
        f"micro-batch {number} of step 7: its text and statistics are in {path}"
        for number, path in zip((12, 13), paths, strict=True)
    ]
    kept(tmp_path, TellingData(), told, UNDONE)
    assert len(told) == 2


def test_keep_evidence_without_anything_set_aside_does_nothing(tmp_path: Path) -> None:
    """As at nearly every start."""
    kept(tmp_path, ToyData(), Told())
    assert list(tmp_path.iterdir()) == []


def test_keep_evidence_of_rows_that_cannot_say_what_they_are_holds_their_numbers(tmp_path: Path) -> None:
    """What data can tell is their own affair."""
    kept(tmp_path, TextlessData(), Told(), UNDONE)
    record = json.loads((tmp_path / "bad_batches" / "step_000007_batch_000012.json").read_text())
    assert record["rows"] == []
    assert len(record["loss_of_rows"]) == 2


def test_keep_evidence_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """A run that could go on is not ended by its evidence."""
    (tmp_path / "bad_batches").write_text("a file where a folder should be")
    told = Told()
    kept(tmp_path, ToyData(), told, UNDONE)
    assert all("of step 7 is not kept: " in line for line in told)
    assert len(told) == 2


class Hungry(ToyModel):
    """Needs more memory than there is."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Nothing comes of it."""
        raise MemoryError


def test_keep_evidence_where_memory_gives_out_keeps_the_text(tmp_path: Path) -> None:
    """The rows are what matters most."""
    kept(tmp_path, TellingData(), Told(), UNDONE, Hungry())
    record = json.loads((tmp_path / "bad_batches" / "step_000007_batch_000013.json").read_text())
    assert record["not_examined"] == "memory ran out"
    assert record["rows"][1] == {"text": "row 1 of 13"}
