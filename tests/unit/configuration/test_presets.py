"""The shipped groups: every one loads over every experiment it is for, every kind has one, device classes take one step."""

import json
from pathlib import Path
from typing import Any

import pytest

from ml_playground.cli import main
from ml_playground.commands.config_presets import presets, summary_of
from ml_playground.configuration.documents import read_document
from ml_playground.configuration.families import OPTIMIZERS, SCHEDULES
from ml_playground.configuration.loading import find_group, group_names, load
from ml_playground.configuration.models import JobConfig
from ml_playground.core.error_handling import ConfigError

DEVICES = [name for name in group_names() if name.startswith("device/")]
BATCHES = [name for name in group_names() if name.startswith("batch/")]
FOR_IMAGES = [name for name in group_names() if name.split("/")[0] in ("batch", "device", "optimizer", "schedule")]


def kinds(group: str) -> set[str]:
    """The kinds that a family's presets choose."""
    tables = [read_document(find_group(name)).table for name in group_names() if name.startswith(f"{group}/")]
    return {table[group]["kind"] for table in tables}


@pytest.mark.parametrize("name", group_names())
def test_preset_lies_over_shipped_text_experiments_and_takes_effect(name: str) -> None:
    """Each of its values is the job's, unless the experiment itself decides."""
    loaded = load("python_stdlib", sets=[f"use={name}"])
    assert any(chain[-1].layer == f"group {name}" for chain in loaded.origins.values())
    load("shakespeare", sets=[f"use={name}"])


def test_preset_that_would_change_nothing_is_refused_where_it_is_asked_for(tmp_path: Path) -> None:
    """An experiment that sets its sizes itself has the last word, and its user should not think otherwise."""
    (tmp_path / "config.toml").write_text(
        'prepare = { source = { kind = "python_stdlib" }, tokenizer = { kind = "byte" } }\n'
        'model = { kind = "gpt", n_layer = 1, n_head = 1, n_embd = 8, bias = false, dropout = 0.0 }\n'
    )
    message = r"use: the group model/tiny would change nothing here, .*\(model\.\w+ comes from experiment .*config.toml, line 2"
    with pytest.raises(ConfigError, match=message):
        load(str(tmp_path), sets=["use=model/tiny"])
    assert load(str(tmp_path), sets=["use=optimizer/muon"]).job.optimizer.kind_name == "muon"


@pytest.mark.parametrize("name", FOR_IMAGES)
def test_preset_of_no_model_lies_over_image_experiments_too(name: str) -> None:
    """A device, an optimizer, a schedule is not asked what it trains."""
    load("digits", sets=[f"use={name}"])


def test_every_kind_of_optimizer_and_schedule_has_a_preset() -> None:
    """A new kind comes with one."""
    assert (kinds("optimizer"), kinds("schedule")) == (set(OPTIMIZERS), set(SCHEDULES))


def step_of(job: JobConfig) -> dict[str, Any]:
    """What decides a step up to the order of a sum: all but the device, the parts of a step, and what is kept of it."""
    record = job.model_dump(mode="json", exclude={"use", "runtime", "checkpointing"})
    rows, train = record["data"].pop("micro_batch_rows"), record["train"]
    train["rows_per_step"] = rows * train.pop("micro_batches_per_step")
    train["evaluation_rows"] = rows * train.pop("evaluation_batches")
    return record


@pytest.mark.parametrize("name", DEVICES)
def test_device_classes_take_the_same_step(name: str) -> None:
    """A smaller device takes longer and computes the same, whatever the experiment says of its rows."""
    for experiment, recipe in (("python_stdlib", "model/10m"), ("shakespeare", "recipe/nanogpt")):
        plain = load(experiment, sets=[f'use=["{recipe}"]']).job
        job = load(experiment, sets=[f'use=["{recipe}", "{name}"]']).job
        assert step_of(job) == step_of(plain)
        assert job.runtime != plain.runtime


@pytest.mark.parametrize("name", BATCHES)
def test_batches_take_the_same_step_in_other_parts(name: str) -> None:
    """The rows of a step, and those of an evaluation, are those of the shared defaults; the name says how they come."""
    plain = load("shakespeare", sets=["use=[]"]).job
    job = load("shakespeare", sets=[f"use={name}"]).job
    assert step_of(job) == step_of(plain)
    rows, parts = name.removeprefix("batch/").split("x")
    assert (job.data.model_dump()["micro_batch_rows"], job.train.micro_batches_per_step) == (int(rows), int(parts))


@pytest.mark.parametrize("name", group_names())
def test_preset_says_in_one_line_what_it_is_for(name: str) -> None:
    """A list of names alone helps nobody."""
    file = find_group(name)
    assert file.read_text(encoding="utf-8").startswith("# ")
    assert 10 < len(summary_of(file)) <= 130


def test_presets_command_lists_all_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    """With what each sets, for programs."""
    assert main(["config", "presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == group_names()
    presets(json_output=True)
    rows = json.loads(capsys.readouterr().out)["presets"]
    assert {row["name"]: row["sets"] for row in rows}["optimizer/muon"]["optimizer"]["kind"] == "muon"


def test_presets_of_an_experiment_are_listed_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its own presets/ folder; one without a comment says what it sets."""
    (tmp_path / "config.toml").write_text("")
    (tmp_path / "presets" / "size").mkdir(parents=True)
    (tmp_path / "presets" / "size" / "own.toml").write_text("[model]\nn_layer = 3\n")
    presets(str(tmp_path))
    assert "size/own model.n_layer = 3" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(ConfigError, match="no experiment 'nobody'"):
        presets("nobody")
