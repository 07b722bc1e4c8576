"""`mlp evaluate --split` for every kind of model: the test part where there is one, and what to type where there is none."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ml_playground.cli import main
from ml_playground.configuration.families import MODELS
from ml_playground.configuration.models import JobConfig
from ml_playground.core.deps import Deps
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.training.engine import run_job
from tests.fakes.hugging_face_folders import saved
from tests.fakes.image_files import image_job
from tests.fakes.tiny_job import tiny_job

OF_TEXT: Mapping[str, Mapping[str, Any]] = {
    "gpt": {"n_layer": 1, "n_head": 2, "n_embd": 8},
    "char_rnn": {"n_layer": 1, "n_hidden": 8},
    "min_gru": {"n_layer": 1, "n_embd": 8},
    "hf_causal_lm": {},
}
OF_IMAGES: Mapping[str, Mapping[str, Any]] = {
    "mnist_cnn": {"channels": 2, "hidden": 4},
    "vit": {"patch_size": 2, "n_layer": 1, "n_head": 2, "n_embd": 8},
}


def job_with(kind: str, folder: Path, test_fraction: float) -> JobConfig:
    """Two steps of a small model of a kind."""
    steps = {"max_steps": 2, "evaluate_every_steps": 2}
    schedule = {"kind": "warmup_cosine", "warmup_steps": 0}
    fractions = {"val_fraction": 0.25, "test_fraction": test_fraction}
    if kind in OF_IMAGES:
        model = {"kind": kind, **OF_IMAGES[kind]}
        source = {"source": {"kind": "mnist", "path": str(folder / "idx")}}
        return image_job(
            folder / "idx", name=kind, model=model, train=steps, schedule=schedule, prepare=fractions | source
        )
    model = {"kind": kind, **OF_TEXT[kind]}
    if kind == "hf_causal_lm":
        saved("gpt2", folder / "base")
        model["path"] = str(folder / "base")
        fractions |= {"tokenizer": {"kind": "hugging_face", "path": str(folder / "base")}}
    job = tiny_job(folder, name=kind, train=steps, schedule=schedule, prepare=fractions).model_dump(mode="json")
    return JobConfig.model_validate_json(json.dumps(job | {"model": model}))


def test_every_kind_of_model_is_evaluated_here() -> None:
    """One that is added belongs into the tables above."""
    assert {*OF_TEXT, *OF_IMAGES} == set(MODELS)


@pytest.mark.parametrize("kind", [*OF_TEXT, *OF_IMAGES])
def test_each_part_is_evaluated_whole(kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Every target of the part once, neither more nor fewer than its books say; and the parts are different ones."""
    job = job_with(kind, tmp_path, 0.25)
    sizes = prepare(job.prepare, Deps()).manifest.sizes
    assert run_job(job, Deps()).reason == "completed"
    found: dict[str, Any] = {}
    for split in ("train", "val", "test"):
        capfd.readouterr()
        assert main(["evaluate", kind, "--split", split, "--json"]) == 0
        found[split] = json.loads(capfd.readouterr().out)
        assert found[split]["split"] == split
        # The first token of a text is no target.
        expected = ("images", sizes[split]) if kind in OF_IMAGES else ("targets", sizes[split] - 1)
        assert found[split][expected[0]] == expected[1]
    assert found["test"] != found["val"] | {"split": "test"}


@pytest.mark.parametrize("kind", ["gpt", "vit"])
@pytest.mark.parametrize(
    ("split", "told"),
    [
        ("test", "; to have one, prepare and train with --set prepare.test_fraction=0.1."),
        ("tset", "."),
    ],
)
def test_part_that_is_not_there_is_refused_with_what_to_type(
    kind: str, split: str, told: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Parts that there are, and how to have a test part; nothing is shown as if it had been evaluated."""
    job = job_with(kind, tmp_path, 0.0)
    prepare(job.prepare, Deps())
    run_job(job, Deps())
    capfd.readouterr()
    assert main(["evaluate", kind, "--split", split]) == 2
    shown = capfd.readouterr()
    assert re.search(rf"has no split '{split}' \(it has: train, val\){re.escape(told)}", " ".join(shown.err.split()))
    assert shown.out == ""
