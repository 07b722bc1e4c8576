"""Which run a job goes on with, and what may differ."""

import json
from pathlib import Path
from typing import Any

import pytest

from ml_playground.configuration.models import JobConfig
from ml_playground.core.error_handling import RunError
from ml_playground.core.run_folder import RunFolder
from ml_playground.core.run_schema import Reason, Result
from ml_playground.training.resume import (
    Choice,
    Difference,
    choose_run,
    differences,
    finished_result,
    lock_of,
    read_job,
    with_decided,
)
from tests.fakes.run_folder import held, put_checkpoint


def job_of(**sections: Any) -> JobConfig:
    plain: dict[str, Any] = {
        "name": "toy",
        "prepare": {"source": {"kind": "text_file", "path": "/x.txt"}, "tokenizer": {"kind": "char"}},
        "data": {"kind": "token_windows"},
        "model": {"kind": "gpt"},
        "objective": {"kind": "next_token"},
        "optimizer": {"kind": "adamw"},
        "schedule": {"kind": "warmup_constant"},
        "train": {"max_steps": 200},
    }
    for name, section in sections.items():
        plain[name] = plain.get(name, {}) | section if isinstance(section, dict) else section
    return JobConfig.model_validate_json(json.dumps(plain))


def run_with(runs: Path, run_id: str, job: JobConfig, reason: Reason | None = None) -> RunFolder:
    run = RunFolder(runs / job.name / run_id)
    run.path.mkdir(parents=True)
    run.config.write_text(job.model_dump_json())
    if reason is not None:
        run.result.write_text(Result(reason=reason, step=1, max_steps=2).model_dump_json())
    return run


def test_differences_equal_jobs_are_none() -> None:
    """A job agrees with itself."""
    assert differences(job_of(), job_of()) == []


def test_differences_lists_every_path_with_its_class() -> None:
    """Locked, recorded and free, each said."""
    wanted = job_of(model={"n_layer": 3}, optimizer={"lr": 0.5}, sample={"seed": 2}, train={"log_every_steps": 3})
    assert [(d.path, d.lock) for d in differences(job_of(), wanted)] == [
        ("model.n_layer", "locked"),
        ("optimizer.lr", "recorded"),
        ("train.log_every_steps", "free"),
        ("sample.seed", "free"),
    ]


def test_differences_of_another_kind_name_keys_of_both() -> None:
    """Keys that only one of them has count too."""
    paths = [d.path for d in differences(job_of(), job_of(optimizer={"kind": "muon"}))]
    assert paths == ["optimizer.kind", "optimizer.matrix_lr", "optimizer.momentum", "optimizer.newton_schulz_steps",
                     "optimizer.matrix_weight_decay"]  # fmt: skip


def test_differences_wanted_auto_agrees_with_what_was_decided() -> None:
    """The saved run holds the decision."""
    decided = job_of(runtime={"device": "cpu", "dtype": "bfloat16"})
    assert differences(decided, job_of()) == []
    assert [d.path for d in differences(job_of(), decided)] == ["runtime.device", "runtime.dtype"]


@pytest.mark.parametrize(
    ("path", "lock"),
    [
        ("prepare.tokenizer.kind", "locked"),
        ("prepare.duplicates", "locked"),
        ("prepare.max_loss_fraction", "free"),
        ("data.sequence_tokens", "locked"),
        ("data.micro_batch_rows", "recorded"),
        ("modelling", "recorded"),
        ("name", "locked"),
        ("optimizer.kind", "locked"),
        ("hooks.samples.enabled", "free"),
    ],
)
def test_lock_of_goes_by_whole_names(path: str, lock: str) -> None:
    """A prefix of a word is no section."""
    assert lock_of(path) == lock


def test_with_decided_fills_only_the_autos() -> None:
    """What a user says now outweighs what was decided."""
    saved = job_of(runtime={"device": "cpu", "threads": 8, "dtype": "float32"}, schedule={"warmup_steps": 7})
    job = with_decided(job_of(runtime={"threads": 3}), saved)
    assert (job.runtime.device, job.runtime.threads, job.runtime.dtype) == ("cpu", 3, "float32")
    assert getattr(job.schedule, "warmup_steps") == 7  # noqa: B009
    own = with_decided(job_of(schedule={"warmup_steps": 2}), saved)
    assert getattr(own.schedule, "warmup_steps") == 2  # noqa: B009


def test_differences_an_auto_agrees_with_what_was_decided() -> None:
    """Of the runtime and of the warm-up; a number that is another one differs."""
    saved = job_of(runtime={"threads": 8}, schedule={"warmup_steps": 7})
    assert differences(saved, job_of()) == []
    assert [found.path for found in differences(saved, job_of(schedule={"warmup_steps": 20}))] == [
        "schedule.warmup_steps"
    ]


def test_choose_run_without_any_begins_one(tmp_path: Path) -> None:
    """The first start of an experiment."""
    assert choose_run(job_of(), tmp_path).action == "new"


def test_difference_of_long_values_stays_a_line() -> None:
    """Of JSON texts only the keys that differ are shown, of other long values the beginning."""
    saved = json.dumps({"attn_pdrop": 0.1, "inner": {"a": 1, "b": 2}, "activation_function": "gelu_new" * 50})
    wanted = saved.replace("0.1", "0.2").replace('"b": 2', '"c": 3')
    assert str(Difference("model.config", saved, wanted, "locked")) == (
        "model.config: attn_pdrop 0.1 -> 0.2, inner.b 2 -> None, inner.c None -> 3 (locked)"
    )
    assert len(str(Difference("sample.prompts", "x" * 5000, "y" * 5000, "free"))) < 300


def test_choose_run_unfinished_goes_on(tmp_path: Path) -> None:
    """The same command goes on where it stopped."""
    run_with(tmp_path, "20260101-000000-aaaa", job_of(), "completed")
    newest = run_with(tmp_path, "20260102-000000-aaaa", job_of(sample={"seed": 9}), "paused")
    choice = choose_run(job_of(), tmp_path)
    assert (choice.action, choice.run, choice.differences) == ("resume", newest, ())


def test_choose_run_fresh_begins_another(tmp_path: Path) -> None:
    """Beside the ones there are."""
    run_with(tmp_path, "20260101-000000-aaaa", job_of())
    assert choose_run(job_of(), tmp_path, fresh=True).action == "new"


@pytest.mark.parametrize("reason", ["completed", "stopped_early"])
def test_choose_run_finished_has_nothing_to_do(tmp_path: Path, reason: Reason) -> None:
    """A finished run is not trained again by accident."""
    run = run_with(tmp_path, "20260101-000000-aaaa", job_of(), reason)
    assert (choose_run(job_of(), tmp_path).action, choose_run(job_of(), tmp_path).run) == ("nothing_to_do", run)
    assert choose_run(job_of(), tmp_path, named=run).action == "nothing_to_do"


def test_choose_run_finished_with_other_settings_begins_another(tmp_path: Path) -> None:
    """A finished run is in nobody's way."""
    run_with(tmp_path, "20260101-000000-aaaa", job_of(seed=3), "completed")
    newest = run_with(tmp_path, "20260102-000000-aaaa", job_of(), "completed")
    dead = run_with(tmp_path, "20260103-000000-aaaa", job_of(), "nan")
    other = job_of(optimizer={"lr": 0.5})
    assert choose_run(other, tmp_path) == Choice("new", passed_over=dead, finished=newest)
    assert choose_run(other, tmp_path, fresh=True) == Choice("new")


def test_choose_run_unfinished_of_equal_settings_is_found_behind_a_finished_one(tmp_path: Path) -> None:
    """A paused run is not forgotten because something else was run since."""
    paused = run_with(tmp_path, "20260101-000000-aaaa", job_of(), "paused")
    run_with(tmp_path, "20260102-000000-aaaa", job_of(optimizer={"lr": 0.5}), "completed")
    choice = choose_run(job_of(), tmp_path)
    assert (choice.action, choice.run) == ("resume", paused)


def test_choose_run_settings_that_decide_the_end_are_recorded(tmp_path: Path) -> None:
    """A run that stopped early goes on with more patience, when that is asked for."""
    stopping = {"stop": {"kind": "early_stopping", "patience": 1}}
    run = run_with(tmp_path, "20260101-000000-aaaa", job_of(hooks=stopping), "stopped_early")
    patient = job_of(hooks={"stop": {"kind": "early_stopping", "patience": 9}})
    choice = choose_run(patient, tmp_path, named=run)
    assert (choice.action, [d.path for d in choice.differences]) == ("resume", ["hooks.stop.patience"])


def test_choose_run_unfinished_with_other_recorded_settings_asks(tmp_path: Path) -> None:
    """Neither is silently right."""
    put_checkpoint(run_with(tmp_path, "20260101-000000-aaaa", job_of()), 5)
    with pytest.raises(RunError) as caught:
        choose_run(job_of(optimizer={"lr": 0.5}), tmp_path)
    assert str(caught.value) == (
        "The run toy/20260101-000000-aaaa was started with other settings and is saved at step 5:\n"
        "  optimizer.lr: saved 0.001, wanted 0.5 (recorded)\n"
        "(recorded: may be changed, as a branch of the run)\n"
        "Start a new run beside it: --fresh. Or go on with the changed settings, as a branch: "
        "--resume toy/20260101-000000-aaaa."
    )


@pytest.mark.parametrize("reason", [None, "nan", "out_of_memory"])
def test_choose_run_ended_before_its_first_checkpoint_is_in_nobodys_way(tmp_path: Path, reason: Reason | None) -> None:
    """There is nothing in it to go on from, whatever killed it."""
    run = run_with(tmp_path, "20260101-000000-aaaa", job_of(), reason)
    (run.checkpoints / "step_000004").mkdir(parents=True)
    other = job_of(optimizer={"lr": 0.5}, model={"n_layer": 3})
    assert choose_run(other, tmp_path) == Choice("new", passed_over=run)
    assert choose_run(job_of(), tmp_path) == Choice("resume", run)


def test_choose_run_empty_run_hides_no_older_one_with_a_checkpoint(tmp_path: Path) -> None:
    """The one that holds something is asked about."""
    put_checkpoint(run_with(tmp_path, "20260101-000000-aaaa", job_of()), 5)
    run_with(tmp_path, "20260102-000000-aaaa", job_of())
    with pytest.raises(RunError, match="The run toy/20260101-000000-aaaa was started with other settings"):
        choose_run(job_of(optimizer={"lr": 0.5}), tmp_path)


def test_choose_run_without_checkpoint_but_being_trained_asks(tmp_path: Path) -> None:
    """Its first checkpoint may come in a minute."""
    run = run_with(tmp_path, "20260101-000000-aaaa", job_of())
    with held(run), pytest.raises(RunError, match="was started with other settings"):
        choose_run(job_of(optimizer={"lr": 0.5}), tmp_path)
    assert choose_run(job_of(optimizer={"lr": 0.5}), tmp_path).action == "new"


def test_choose_run_named_with_other_recorded_settings_is_a_branch(tmp_path: Path) -> None:
    """--resume RUN takes the new settings, and says so."""
    run = run_with(tmp_path, "20260101-000000-aaaa", job_of(), "completed")
    choice = choose_run(job_of(train={"max_steps": 400}), tmp_path, named=run)
    assert (choice.action, [d.path for d in choice.differences]) == ("resume", ["train.max_steps"])


def test_choose_run_locked_settings_are_all_listed_and_refused(tmp_path: Path) -> None:
    """Weights of another shape cannot be gone on with."""
    run = run_with(tmp_path, "20260101-000000-aaaa", job_of())
    wanted = job_of(model={"n_layer": 3, "n_embd": 12}, optimizer={"lr": 0.5})
    with pytest.raises(RunError) as caught:
        choose_run(wanted, tmp_path, named=run)
    assert str(caught.value) == (
        "The run toy/20260101-000000-aaaa was started with other settings:\n"
        "  model.n_layer: saved 6, wanted 3 (locked)\n"
        "  model.n_embd: saved 384, wanted 12 (locked)\n"
        "(locked: decides what the weights are)\n"
        "Restore these settings, or start a new run beside it: --fresh."
    )


def test_read_job_of_no_run_is_refused(tmp_path: Path) -> None:
    """A folder without a job is no run."""
    with pytest.raises(RunError, match=r"is no run: it holds no config.json. `mlp runs` lists"):
        read_job(RunFolder(tmp_path))


def test_read_job_damaged_names_file_and_key(tmp_path: Path) -> None:
    """What, where, and why."""
    run = run_with(tmp_path, "20260101-000000-aaaa", job_of())
    run.config.write_text('{"name": 3}')
    with pytest.raises(
        RunError, match=r"config.json is no job that this version can read: name: Input should be.*--fresh"
    ):
        read_job(run)


def test_finished_result_damaged_is_said(tmp_path: Path) -> None:
    """Not taken for unfinished in silence."""
    run = run_with(tmp_path, "20260101-000000-aaaa", job_of())
    run.result.write_text("{")
    with pytest.raises(RunError, match=r"result.json cannot be read: .*; delete it to go on with the run"):
        finished_result(run)


@pytest.mark.parametrize("reason", ["paused", "nan", "out_of_memory"])
def test_finished_result_of_an_interrupted_run_is_none(tmp_path: Path, reason: Reason) -> None:
    """Something is left to do."""
    assert finished_result(run_with(tmp_path, "20260101-000000-aaaa", job_of(), reason)) is None
