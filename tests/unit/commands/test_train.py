"""`mlp train`: its words, its exit codes, and what Ctrl-C does."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from ml_playground.cli import main
from ml_playground.commands.runs import runs
from ml_playground.commands.train import (
    EXHAUSTED,
    StopSignals,
    chosen_run,
    exit_code_of,
    stop_on_signals,
    summary_of,
    train,
    train_job,
)
from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.core.run_folder import runs_folder
from ml_playground.core.run_schema import Reason, Result
from ml_playground.training.protocols import JobResult
from tests.fakes.run_folder import bare_run, put_status
from tests.fakes.tiny_job import tiny_job


def result_of(reason: Reason, message: str = "", *, nothing_to_do: bool = False) -> JobResult:
    return JobResult(reason, Path("/runs/toy/20260101-000000-aaaa"), 1200, 5000, {"loss": 1.5}, message, nothing_to_do)


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (
            result_of("completed"),
            (
                "completed: step 1,200 of 5,000, validation loss 1.5000\nnext: mlp sample toy/20260101-000000-aaaa\n"
                "run:  /runs/toy/20260101-000000-aaaa"
            ),
        ),
        (
            result_of("stopped_early"),
            (
                "stopped early: step 1,200 of 5,000, validation loss 1.5000\nnext: mlp sample toy/20260101-000000-aaaa\n"
                "run:  /runs/toy/20260101-000000-aaaa"
            ),
        ),
        (
            result_of("paused"),
            (
                "paused: step 1,200 of 5,000, validation loss 1.5000; the same command goes on\n"
                "run:  /runs/toy/20260101-000000-aaaa"
            ),
        ),
        (
            result_of("nan", "at step 7 the loss was nan"),
            (
                "the numbers gave out: at step 7 the loss was nan\nnext: mlp train toy --set seed=2 --set optimizer.lr=0.0001 "
                "--fresh\nrun:  /runs/toy/20260101-000000-aaaa"
            ),
        ),
        (
            result_of("out_of_memory", "halve the rows"),
            "out of memory: halve the rows\nrun:  /runs/toy/20260101-000000-aaaa",
        ),
        (
            result_of("completed", nothing_to_do=True),
            (
                "nothing to do: toy/20260101-000000-aaaa is finished (completed, step 1,200 of 5,000, validation loss "
                "1.5000)\nnext: mlp sample toy/20260101-000000-aaaa   or begin another one: mlp train toy --set seed=2 --fresh"
            ),
        ),
    ],
)
def test_summary_says_how_it_ended_and_what_is_next(tmp_path: Path, result: JobResult, text: str) -> None:
    """Each end in its own words; what was typed stands in what to type next."""
    job = tiny_job(tmp_path, optimizer={"lr": 0.001})
    assert summary_of(result, job, "mlp train toy --set seed=2") == text


def test_train_on_a_folder_that_is_no_experiment_says_how(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model's folder is named in an experiment; a run is gone on with."""
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    assert main(["train", str(tmp_path)]) == 2
    shown = capsys.readouterr().err
    assert f'model = {{ kind = "hf_causal_lm", path = "{tmp_path}" }}' in shown
    assert f'prepare.tokenizer = {{ kind = "hugging_face", path = "{tmp_path}" }} (docs/models.md)' in shown
    run = bare_run()
    assert main(["train", str(run.path)]) == 2
    assert f"It is a run; to go on with it: mlp train tiny --resume {run.path}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("reason", "code"),
    [("completed", 0), ("stopped_early", 0), ("paused", 0), ("nan", EXHAUSTED), ("out_of_memory", EXHAUSTED)],
)
def test_exit_code_is_zero_unless_numbers_or_memory_gave_out(reason: Reason, code: int) -> None:
    """A run that ended early never reports success when something broke."""
    assert exit_code_of(result_of(reason)) == code


def test_train_job_fresh_and_resume_together_are_refused(tmp_path: Path) -> None:
    """They contradict each other."""
    with pytest.raises(
        ConfigError, match="--fresh begins a new run and --resume goes on with an old one; give only one"
    ):
        train_job(tiny_job(tmp_path), fresh=True, resume="x")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop_on_signals_first_is_remembered_second_ends(number: int, capfd: pytest.CaptureFixture[str]) -> None:
    """Once to save and leave, twice to leave at once."""
    with stop_on_signals() as signals:
        assert not signals.requested()
        os.kill(os.getpid(), number)
        assert signals.requested()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert "stopping after this step and saving; once more to leave at once" in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop_on_signals_with_nothing_to_save_first_ends_until_somebody_asks(
    number: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """While torch is imported, models are built, compiled and checked there is nothing to wait for."""
    with stop_on_signals(nothing_to_save=True) as signals:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
        assert "leaving at once: since the start no step was made that could be saved" in capfd.readouterr().err
        # A library may have swallowed the error: the loop hears of it all the same.
        assert signals.requested()
    with stop_on_signals(nothing_to_save=True) as signals:
        assert not signals.requested()
        os.kill(os.getpid(), number)
        assert signals.requested()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


def test_stop_on_signals_reader_of_stderr_gone_is_no_failure() -> None:
    """Ctrl-C on `mlp train X 2>&1 | tee log` ends tee first."""
    reading, writing = os.pipe()
    kept = os.dup(2)
    os.dup2(writing, 2)
    os.close(reading)
    os.close(writing)
    try:
        with stop_on_signals() as signals:
            os.kill(os.getpid(), signal.SIGINT)
            assert signals.requested()
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def test_stop_on_signals_puts_the_former_handlers_back() -> None:
    """Outside, Ctrl-C does what it did."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with stop_on_signals():
        assert isinstance(getattr(signal.getsignal(signal.SIGINT), "__self__", None), StopSignals)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_train_numbers_that_give_out_end_with_three(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever else happened, scripts must notice."""
    experiment = tmp_path / "boom"
    experiment.mkdir()
    tiny_job(tmp_path)
    (experiment / "config.toml").write_text(
        'prepare.source = { kind = "text_file", path = "../text.txt" }\nprepare.tokenizer = { kind = "char" }\n'
        "data = { sequence_tokens = 16, micro_batch_rows = 4 }\nmodel = { n_layer = 1, n_head = 2, n_embd = 16 }\n"
        "optimizer = { lr = 1e30, eps = 1e-30 }\nschedule.warmup_steps = 0\n"
        "train = { max_steps = 6, grad_clip = 0.0, evaluation_batches = 1 }\nruntime.threads = 1\n"
    )
    from ml_playground.commands.prepare import prepare

    prepare(str(experiment))
    with pytest.raises(typer.Exit) as caught:
        train(str(experiment))
    assert caught.value.exit_code == EXHAUSTED
    assert "the numbers gave out: at step" in capsys.readouterr().out
    # The mean of the steps before would say that all is well.
    runs(json_output=True)
    (died,) = json.loads(capsys.readouterr().out)["runs"]
    assert (died["state"], died["status"]["reason"], died["status"]["loss"]) == ("nan", "nan", None)


def experiment_on(folder: Path) -> Path:
    """A tiny experiment of its own."""
    experiment = folder / "mine"
    experiment.mkdir()
    tiny_job(folder)
    (experiment / "config.toml").write_text(
        'prepare.source = { kind = "text_file", path = "../text.txt" }\nprepare.tokenizer = { kind = "char" }\n'
        "data = { sequence_tokens = 16, micro_batch_rows = 4 }\nmodel = { n_layer = 1, n_head = 2, n_embd = 16 }\n"
        "schedule.warmup_steps = 0\ntrain = { max_steps = 4, evaluation_batches = 1 }\nruntime.threads = 1\n"
        "hooks.samples.enabled = false\n"
    )
    return experiment


def test_train_unprepared_data_repeats_what_was_typed(tmp_path: Path) -> None:
    """The hint works when it is typed as it stands."""
    experiment = experiment_on(tmp_path)
    with pytest.raises(DataError) as caught:
        train(str(experiment), sets=["prepare.tokenizer={kind='byte'}"])
    assert str(caught.value) == (
        "The data of 'mine' are not prepared; run: mlp prepare "
        f"{experiment} --set 'prepare.tokenizer={{kind='\"'\"'byte'\"'\"'}}'"
    )


def test_train_source_that_changed_since_is_said_and_the_former_text_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither in silence nor in the way."""
    from ml_playground.commands.prepare import prepare

    experiment = experiment_on(tmp_path)
    prepare(str(experiment))
    with (tmp_path / "text.txt").open("a") as stream:
        stream.write("more")
    train(str(experiment))
    told = capsys.readouterr()
    assert "note: the source changed since it was prepared (" in told.err
    assert f"training uses the text as it was. To train on the new one: mlp prepare {experiment} --fresh" in told.err
    assert "completed: step 4 of 4" in told.out


def test_train_source_that_was_moved_away_is_no_matter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is prepared is whole in itself."""
    from ml_playground.commands.prepare import prepare

    experiment = experiment_on(tmp_path)
    prepare(str(experiment))
    (tmp_path / "text.txt").unlink()
    train(str(experiment), json_output=True)
    told = capsys.readouterr()
    assert "the source changed" not in told.err
    assert '"reason": "completed"' in told.out


def test_train_other_settings_after_a_run_without_checkpoint_begins_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It died of its numbers before it was first saved; the next try is not told to choose."""
    from ml_playground.commands.prepare import prepare

    experiment = experiment_on(tmp_path)
    prepare(str(experiment))
    with pytest.raises(typer.Exit):
        train(str(experiment), sets=["optimizer.lr=1e30", "train.grad_clip=0"])
    (dead,) = runs_folder().glob("mine/*")
    capsys.readouterr()
    train(str(experiment), check=True)
    assert "ended before its first checkpoint" in capsys.readouterr().err
    train(str(experiment))
    told = capsys.readouterr()
    assert f"note: a new run begins; mine/{dead.name}, of other settings, ended before its first checkpoint" in told.err
    assert told.out.startswith("completed: ")


def test_train_other_settings_after_a_finished_run_says_that_it_begins_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Five steps more are not meant to cost all steps again; the newest run's differences are named, three at most."""
    run = bare_run("tiny", "20260101-000000-aaaa")
    run.config.write_text(tiny_job(tmp_path).model_dump_json())
    run.result.write_text(Result(reason="completed", step=60, max_steps=60).model_dump_json())

    def told(*, fresh: bool = False, **sections: Any) -> str:
        assert chosen_run(tiny_job(tmp_path, **sections), fresh=fresh, resume=None).action == "new"
        return capsys.readouterr().err

    begins = f"note: a new run begins; {run.id} is finished with other settings "
    go_on = f"; to go on from it: --resume {run.id}\n"
    assert told(train={"max_steps": 65}) == f"{begins}(train.max_steps 60 -> 65){go_on}"
    many = {"optimizer": {"lr": 0.5}, "train": {"max_steps": 65, "grad_clip": 2.0}, "seed": 8}
    assert told(**many).endswith(f" -> 65, and 1 more){go_on}")
    # Weights of another size: --resume would be refused.
    assert told(model={"n_layer": 3}) == f"{begins}(model.n_layer 2 -> 3)\n"
    assert told(fresh=True, seed=8) == ""
    chosen_run(tiny_job(tmp_path), fresh=False, resume=None)
    assert capsys.readouterr().err == ""


CHATS = {"source": {"kind": "jsonl_chat", "path": "chats.jsonl"}, "chat": {"template": "plain"}}
PAIRS = CHATS | {"source": {"kind": "jsonl_preference", "path": "pairs.jsonl"}}


@pytest.mark.parametrize(
    ("verb", "sections"),
    [
        ("sample", {}),
        ("chat", {"prepare": CHATS, "data": {"kind": "padded_examples"}}),
        (
            "evaluate",
            {"prepare": PAIRS, "data": {"kind": "preference_pairs", "reference": "base"}, "objective": {"kind": "dpo"}},
        ),
    ],
)
def test_summary_names_the_command_that_fits_what_was_trained_on(
    tmp_path: Path, verb: str, sections: dict[str, Any]
) -> None:
    """A model of chats is talked to, one of pairs measured; also of a run that was finished before."""
    job = tiny_job(tmp_path, **sections)
    again = summary_of(result_of("completed", nothing_to_do=True), job, "mlp train toy")
    for summary in (summary_of(result_of("completed"), job, "mlp train toy"), again):
        assert f"\nnext: mlp {verb} toy/20260101-000000-aaaa" in summary


def test_train_again_has_nothing_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And says what to type next."""
    from ml_playground.commands.prepare import prepare

    experiment = experiment_on(tmp_path)
    prepare(str(experiment))
    train(str(experiment))
    train(str(experiment))
    assert "nothing to do: mine/" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("message", "words"), [("used its 3 minutes", "used its 3 minutes"), ("", "stopped early"), (None, "stopped early")]
)
def test_summary_of_a_run_that_ended_early_says_what_the_run_says(
    tmp_path: Path, message: str | None, words: str
) -> None:
    """A run that used its minutes was not stopped early; also when it is asked for again."""
    run = bare_run("toy", "20260101-000000-aaaa")
    if message is None:
        run.status.write_text("{")
    else:
        put_status(run, state="ended", reason="stopped_early", message=message)
    result = JobResult("stopped_early", run.path, 20, 60, {})
    assert summary_of(result, tiny_job(tmp_path), "mlp train toy").startswith(f"{words}: step 20 of 60\n")
    again = replace(result, nothing_to_do=True)
    assert f"is finished ({words}, step 20 of 60)" in summary_of(again, tiny_job(tmp_path), "mlp train toy")
