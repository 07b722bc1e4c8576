"""Every variant of the transformer through the real training: it learns, it is resumed to the bit, and no split changes its step."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ml_playground.core.deps import Deps
from ml_playground.core.run_folder import RunFolder
from ml_playground.data_pipeline.batches import NO_TARGET, TokenBatch
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.objectives.next_token import NextTokenObjective
from ml_playground.objectives.settings import NextToken
from ml_playground.training.engine import run_job
from ml_playground.training.learner import GradientLearner
from ml_playground.training.optim import adamw, muon
from ml_playground.training.settings import AdamW, Muon
from tests.fakes.tiny_job import tiny_job
from tests.unit.models.test_gpt import LENGTH, MODERN, VARIANTS, VOCAB, model_of, some_ids


def learner_of(*, kind: str = "adamw", lr: float = 0.02, double: bool = False, **options: Any) -> GradientLearner:
    """The real learner of a small model."""
    model = model_of(**options)
    if double:
        model = model.double()
    settings = AdamW(lr=lr, weight_decay=0.0) if kind == "adamw" else Muon(lr=lr, matrix_lr=lr, weight_decay=0.0)
    build = adamw.build if kind == "adamw" else muon.build
    return GradientLearner(model, NextTokenObjective(NextToken()), build(settings, model, torch.float32), seed=0)  # type: ignore[arg-type]


def some_batch(rows: int = 4) -> TokenBatch:
    """Rows with unequally many targets."""
    ids = some_ids(rows, LENGTH)
    labels = ids.roll(-1, 1)
    labels[0, 3:] = NO_TARGET
    return TokenBatch(ids, labels)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_variant_overfits_one_batch(variant: str, kind: str) -> None:
    """Whatever its options, each part learns: a batch is known by heart after some steps."""
    learner = learner_of(kind=kind, **VARIANTS[variant])
    losses = [learner.train_step([some_batch()], step=step, lr_factor=1.0).loss.item() for step in range(60)]
    assert losses[0] == pytest.approx(torch.tensor(float(VOCAB)).log().item(), abs=0.3)
    assert losses[-1] < 0.35 * losses[0]


@pytest.mark.parametrize("variant", VARIANTS)
def test_step_of_rows_spread_differently_is_the_same_step(variant: str) -> None:
    """Gradients and loss do not tell how many micro-batches the rows came in: nothing of a model looks across rows."""
    states = []
    for parts in (1, 2, 4):
        learner = learner_of(double=True, **VARIANTS[variant])
        numbers = learner.train_step(some_batch().split(parts), step=0, lr_factor=1.0)
        states.append((numbers.loss.double(), numbers.grad_norm, learner.state_dict()["model"]))
    for other in states[1:]:
        torch.testing.assert_close(other, states[0], rtol=1e-9, atol=1e-9)


RESUMED: dict[str, dict[str, Any]] = {
    "windows": {"model": {"attention_window": 5, "full_attention_every": 2, "attention_dropout": 0.2}},
    "experts": {
        "model": MODERN | {"feed_forward": "swiglu", "n_expert": 4, "residual_dropout": 0.1, "attention_window": 6},
        "train": {"micro_batches_per_step": 2, "ema_decay": 0.9},
    },
    "experts, Muon, recomputed": {
        "model": {"n_expert": 3, "n_expert_used": 1},
        "optimizer": {"kind": "muon"},
        "runtime": {"activation_checkpointing": True},
    },
}
TRAIN = {"max_steps": 6, "evaluate_every_steps": 3, "evaluation_batches": 1, "log_every_steps": 3}


@pytest.mark.parametrize("variant", RESUMED)
def test_variant_stopped_and_resumed_ends_with_the_same_bits(
    variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first promise, for what draws, routes and keeps a window."""
    sections = {**RESUMED[variant], "train": TRAIN | RESUMED[variant].get("train", {})}
    ends: list[dict[str, bytes]] = []
    for home, stops in (("whole", ()), ("parted", (2, 2))):
        monkeypatch.setenv("MLP_HOME", str(tmp_path / home))
        job = tiny_job(tmp_path, **sections)
        prepare(job.prepare, Deps())
        for steps in stops:
            answers = iter([False] * (steps - 1) + [True] * 1000)
            assert run_job(job, Deps(stop_requested=lambda answers=answers: next(answers))).reason == "paused"
        result = run_job(job, Deps())
        assert (result.reason, result.step) == ("completed", 6)
        if "n_expert" in sections["model"]:
            assert {"expert_balance", "busiest_expert"} < result.metrics.keys()
        newest = RunFolder(result.run).checkpoints / "step_000006"
        ends.append({path.name: path.read_bytes() for path in newest.glob("*.safetensors")})
    assert ends[0] == ends[1]
    assert {"model.safetensors", "optimizer.safetensors"} <= ends[0].keys()
