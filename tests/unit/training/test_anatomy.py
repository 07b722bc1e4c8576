"""Some steps of a real job, taken apart."""

import math
from pathlib import Path

import pytest
import torch

from ml_playground.core.deps import Deps
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.training.anatomy import FEWEST_STEPS, MODULE_MARK, Anatomy, dissect, marked_modules
from tests.fakes.tiny_job import tiny_job


def anatomy_of(folder: Path, heard: list[str], **sections: object) -> Anatomy:
    job = tiny_job(folder, **sections)
    prepare(job.prepare, Deps())
    return dissect(job, Deps().clock, heard.append)


def test_dissect_takes_a_step_apart_and_leaves_nothing(tmp_path: Path, home: Path) -> None:
    """Speed, parts and work of the job's own step; no run, no file."""
    heard: list[str] = []
    found = anatomy_of(tmp_path, heard)
    assert found.steps >= FEWEST_STEPS
    assert found.unit == "token"
    assert found.targets == pytest.approx(64, rel=0.05)  # the last window of an epoch is shorter
    assert math.isclose(found.targets_per_s, found.targets / found.step_s)
    for shares in (found.parts, found.work):
        assert math.isclose(sum(shares.values()), found.step_s)
    assert {"data", "forward", "backward", "gradients", "optimizer", "reading"} <= found.parts.keys()
    assert {"matrix products", "attention", "normalisation", "optimizer"} <= found.work.keys()
    assert all(shares["forward"] > 0 for shares in [found.parts])
    assert heard[0] == "the first step"
    assert heard[-1].endswith("steps more, taken apart")
    assert {path.name for path in home.iterdir()} <= {"data", ".cache"}


def test_dissect_micro_batches_belong_to_one_step(tmp_path: Path) -> None:
    """Two batches, one update: twice the targets."""
    found = anatomy_of(tmp_path, [], train={"max_steps": 5, "micro_batches_per_step": 2})
    assert found.targets == pytest.approx(128, rel=0.05)
    assert found.parts["backward"] > found.parts["reading"]


def test_marked_modules_are_regions_and_are_gone_after() -> None:
    """A pass that fails in the midst leaves no region open, and the model as it was."""

    class Picky(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.numel() == 1:
                raise ValueError("too few")
            return x * 2

    model = torch.nn.Sequential(Picky())
    with torch.profiler.profile(acc_events=True) as recorded, marked_modules(model):
        with pytest.raises(ValueError, match="too few"):
            model(torch.ones(1))
        model(torch.ones(2))
    names = [event.name for event in recorded.events() if event.name.startswith(MODULE_MARK)]
    assert sorted(names) == sorted([f"{MODULE_MARK}Sequential", f"{MODULE_MARK}Picky"] * 2)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
