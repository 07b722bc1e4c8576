"""`mlp sweep` as its user meets it: grids, Optuna, failures, being stopped and killed, and what is refused."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.cli import main
from ml_playground.commands.sweep_optuna import suggest
from ml_playground.commands.sweep_page import page_of
from ml_playground.commands.sweep_record import SweepRecord, Trial, held, read_record, write_record
from ml_playground.commands.sweep_space import MOST_TRIALS, Choices, Range, combinations, read_grid, read_space, sets_of
from ml_playground.configuration.overrides import set_layer
from ml_playground.core.error_handling import RunError
from ml_playground.core.run_folder import runs_folder
from tests.fakes.tiny_job import TEXT

CONFIG = """\
prepare.source = { kind = "text_file", path = "text.txt" }
prepare.tokenizer = { kind = "char" }
data = { sequence_tokens = 16, micro_batch_rows = 4 }
model = { n_layer = 1, n_head = 2, n_embd = 16 }
schedule.warmup_steps = 0
train = { max_steps = 4, evaluation_batches = 1, on_bad_step = "stop" }
runtime = { device = "cpu", dtype = "float32", threads = 1, compile = false, flight_check = false }
"""
RATES = "optimizer.lr=[1e-3,1e-2]"


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An experiment of four steps."""
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "text.txt").write_text(TEXT)
    (folder / "config.toml").write_text(CONFIG)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return folder


def swept(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    """What `mlp sweep ... --json` prints."""
    assert main(["sweep", *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def runs_of(name: str) -> int:
    """How many runs lie on disk."""
    return len(list((runs_folder() / name).glob("*/config.json")))


def test_grid_trains_each_combination_notes_failures_and_is_not_repeated(
    toy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Runs of their own; a rate at which the numbers give out is a result too; the same command finds all done."""
    arguments = [str(toy), "--grid", "optimizer.lr=[1e30,1e-2]", "--grid", "model.n_embd=[32]"]
    record = swept(capsys, *arguments)
    assert (record["complete"], record["failed"], record["planned"], runs_of("toy")) == (1, 1, 2, 2)
    assert "nan" in record["trials"][1]["reason"]
    page = (Path(record["folder"]) / "sweep.html").read_text(encoding="utf-8")
    assert record["best"]["run"] in page
    assert page.count("<svg") == 4
    assert main(["sweep", *arguments]) == 0
    shown = capsys.readouterr()
    assert "going on: 2 of 2 trials have ended" in shown.err
    assert shown.out.splitlines()[0].split() == [
        "trial",
        "optimizer.lr",
        "model.n_embd",
        "loss",
        "at",
        "step",
        "steps",
        "time",
        "run",
    ]
    assert "best: optimizer.lr=0.01, model.n_embd=32" in shown.out
    assert (runs_of("toy"), "trial 1 failed: at step" in shown.out) == (2, True)


PRINTING = """
from typing import Literal
from ml_playground.configuration.base import Component
from ml_playground.core.registry import Kind

class Loud(Component):
    kind: Literal["loud"] = "loud"

def build(settings, max_steps):
    print("built")
    return lambda step: 1.0

KINDS = {"schedule": {"loud": Kind(f"{__file__}:Loud", f"{__file__}:build")}}
"""


def test_trial_of_a_plugin_that_prints_is_measured(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What stands before the answer of the trial is none of it."""
    (toy / "loud.py").write_text(PRINTING)
    config = CONFIG.replace("schedule.warmup_steps = 0", 'schedule.kind = "loud"')
    (toy / "config.toml").write_text(f'plugins = ["loud.py"]\n{config}')
    assert swept(capsys, str(toy), "--grid", "seed=[1]")["complete"] == 1


def test_sweep_killed_goes_on_with_the_run_it_had_begun(
    toy: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL leaves the child alone with its run; the same command waits for it, and begins no other one."""
    arguments = [
        str(toy),
        "--grid",
        "seed=[1]",
        "--set",
        "train.max_steps=300",
        "--set",
        "checkpointing.every_steps=20",
    ]
    command = [sys.executable, "-m", "ml_playground.cli", "sweep", *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        while not list((home / "runs" / "toy").glob("*/checkpoints/step_*")):
            assert child.poll() is None
            time.sleep(0.02)
        child.kill()
    record = swept(capsys, *arguments)
    assert (record["complete"], record["trials"][0]["steps"], runs_of("toy")) == (1, 300, 1)


@pytest.mark.usefixtures("uncovered")
def test_sweep_stopped_saves_and_the_same_command_goes_on(toy: Path, home: Path) -> None:
    """Ctrl-C reaches the trial once, through the sweep; it is no failure."""
    command = [sys.executable, "-m", "ml_playground.cli", "sweep", str(toy), "--grid", "seed=[1]"]
    command += ["--set", "train.max_steps=100000", "--set", "checkpointing.every_steps=20"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        while not list((home / "runs" / "toy").glob("*/checkpoints/step_*")):
            assert child.poll() is None
            time.sleep(0.02)
        os.kill(child.pid, signal.SIGINT)
        out, _ = child.communicate(timeout=600)
    assert (child.returncode, "paused: 0 of 1 trial; the same command goes on" in out) == (0, True)
    (result,) = (home / "runs" / "toy").glob("*/result.json")
    assert json.loads(result.read_text())["reason"] == "paused"


AS_IT_STARTS = """
import pathlib, sys, time
if "train" in sys.orig_argv:
    pathlib.Path({marker!r}).touch()
    time.sleep(600)
"""
"""For Python, which runs it in each process before it reads a line of ours: a trial waits here for its Ctrl-C."""


@pytest.mark.usefixtures("uncovered")
def test_sweep_stopped_while_a_trial_starts_has_no_trial_that_failed(toy: Path, home: Path, tmp_path: Path) -> None:
    """Python itself answers then, with the exit code of a failure; the same command makes the trial."""
    (tmp_path / "sitecustomize.py").write_text(AS_IT_STARTS.format(marker=str(tmp_path / "here")))
    command = [sys.executable, "-m", "ml_playground.cli", "sweep", str(toy), "--grid", "seed=[1]"]
    paths = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": paths}
    ) as child:
        while not (tmp_path / "here").exists():
            assert child.poll() is None
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        out, errors = child.communicate(timeout=600)
    (log,) = (home / "sweeps").glob("*/*.log")
    assert "init_import_site" in log.read_text()
    assert (child.returncode, out) == (0, "no trial has ended yet\npaused: 0 of 1 trial; the same command goes on\n"), (
        errors
    )


def test_optuna_trains_what_it_draws(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """More trials of the same space go on with the ones there are."""
    space = ["--space", "optimizer.lr=log(1e-3,1e-2)"]
    first = swept(capsys, str(toy), "--optuna", "1", *space)
    more = swept(capsys, str(toy), "--optuna", "2", *space)
    assert more["folder"] == first["folder"]
    assert [trial for trial in more["trials"] if trial["number"] == 1] == first["trials"]
    assert 1e-3 <= more["best"]["values"]["optimizer.lr"] <= 1e-2


SPACE = {
    "optimizer.lr": Range("log", 1e-4, 1e-1),
    "model.dropout": Range("uniform", 0, 0.5),
    "model.n_layer": Range("int", 1, 6),
    "model.n_embd": Range("logint", 8, 512),
    "optimizer.kind": Choices(("adamw", "muon")),
}


def drawn(number: int, *, higher: bool = False) -> list[Trial]:
    """So many trials, each scored by its distance from lr = 0.01; every fifth one failed."""
    trials: list[Trial] = []
    for one in range(1, number + 1):
        values = suggest(SPACE, trials, one, 3, higher=higher)
        score = None if one % 5 == 0 else abs(values["optimizer.lr"] - 0.01) * (-1 if higher else 1)
        state = "failed" if score is None else "complete"
        trials.append(Trial(number=one, values=values, state=state, score=score))
    return trials


def test_optuna_draws_inside_the_space_and_the_same_after_a_resume() -> None:
    """What comes next is a function of the seed and of what has ended, after the random beginning too."""
    trials = drawn(16)
    again = suggest(SPACE, trials[:13], 14, 3, higher=False)
    assert again == trials[13].values
    assert suggest(SPACE, trials[:13], 14, 4, higher=False) != again
    for trial in trials:
        for key, room in SPACE.items():
            value = trial.values[key]
            assert value in room.values if isinstance(room, Choices) else room.low <= value <= room.high
            assert not isinstance(room, Range) or isinstance(value, int) == room.whole


GRIDS = st.dictionaries(
    st.sampled_from(["optimizer.lr", "model.n_embd", "optimizer.kind", "seed"]),
    st.lists(st.integers(0, 9) | st.floats(1e-5, 1) | st.text("ab\"'", max_size=3), min_size=1, max_size=4),
    min_size=1,
)


@given(grid=GRIDS)
def test_grid_is_read_as_written_and_every_combination_is_tried_once(grid: dict[str, list[Any]]) -> None:
    """From the command line to `--set` no value changes."""
    texts = [f"{key}={json.dumps(values)}" for key, values in grid.items()]
    read = read_grid(texts)
    trials = combinations(read)
    assert len({json.dumps(trial) for trial in trials}) == len(trials)
    for trial in trials:
        layer, problems = set_layer(sets_of(trial), Path.cwd(), {})
        assert problems == []
        for key, value in trial.items():
            section, name = key.split(".") if "." in key else ("", key)
            assert (layer.table[section] if section else layer.table)[name] == value
    assert {key: {json.dumps(trial[key]) for trial in trials} for key in grid} == {
        key: {json.dumps(value) for value in values} for key, values in read.items()
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to try: give --grid"),
        (["--optuna", "3"], "nothing to try"),
        (["--grid", RATES, "--optuna", "3"], "give only one of the two"),
        (
            ["--grid", RATES, "--seed", "3"],
            "--seed 3 has no effect with --grid, which draws nothing; to train with another",
        ),
        (["--grid", "lr"], "must look like optimizer.lr=[1e-3,3e-4]"),
        (["--grid", "optimizer.lr=3"], "is no list of TOML values; write optimizer.lr=[A,B,...], texts in quotes"),
        (["--grid", "optimizer.lr=[{a=1}]"], "is no list of TOML values"),
        (["--grid", "optimizer.lr=[]"], "the list is empty"),
        (["--grid", RATES, "--grid", RATES], "has a grid already"),
        (["--grid", "optimizer.lrr=[1]"], "unknown key optimizer.lrr (got 1); did you mean optimizer.lr?"),
        (["--grid", "optimizer.lr=[1e-3,-1]"], "optimizer.lr=-1:\n  --set: optimizer.lr cannot be -1"),
        (["--grid", "seed=[-1,-2,-3,-4,-5]"], "... and 2 more problems"),
        (["--grid", f"seed={list(range(MOST_TRIALS + 1))}"], "1001 = 1,001 trials; at most 1,000 are made"),
        (["--optuna", "5000", "--space", "seed=int(1,9)"], "--optuna = 5,000 trials"),
        (["--optuna", "3", "--space", "seed=1"], "is neither a range nor a list of choices; write log(1e-4,1e-2)"),
        (["--optuna", "3", "--space", "optimizer.lr=log(0,1)"], "a logarithmic range must begin above 0"),
        (
            ["--optuna", "3", "--space", "optimizer.lr=uniform(2,1)"],
            "its lower end must be a number below its upper end",
        ),
        (["--optuna", "3", "--space", "seed=int(1,2.5)"], "its ends must be whole numbers"),
        (["--optuna", "3", "--space", "seed=int(a,b)"], "does not hold two numbers"),
        (["--optuna", "3", "--space", "seed=int(1,2)", "--space", "seed=int(1,2)"], "has a space already"),
        (["--optuna", "3", "--space", "optimizer.lr=uniform(-1,1)"], "optimizer.lr cannot be -1.0"),
    ],
)
def test_wrong_use_is_refused_before_anything_starts(
    arguments: list[str], message: str, toy: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One message, exit code 2, nothing on disk."""
    assert main(["sweep", str(toy), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not home.exists()


def test_trial_that_cannot_be_prepared_is_noted_and_none_complete_is_exit_code_1(
    toy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It loads, but its text is not there; losses per token are said not to compare; a script hears that there is no best."""
    assert main(["sweep", str(toy), "--grid", f"prepare.source.path={json.dumps([str(toy / 'gone.txt')])}"]) == 1
    shown = capsys.readouterr()
    assert "losses per token compare only where the tokens are the same" in shown.err
    assert "trial 1 failed:" in shown.out
    assert "gone.txt" in shown.err
    assert "best:" not in shown.out


def test_record_is_read_as_written_and_a_damaged_one_is_named(tmp_path: Path) -> None:
    """Complete or absent; never begun anew in silence."""
    record = SweepRecord(experiment="toy", metric="accuracy", higher=True, plan={"keys": list(SPACE)}, trials=drawn(6))
    write_record(tmp_path, record)
    assert read_record(tmp_path, record.model_copy(update={"trials": []})) == record
    scores = [trial.score for trial in record.ranked if trial.score is not None]
    assert scores == sorted(scores, reverse=True)
    assert record.ranked[-1].state == "failed"
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(RunError, match="is no record of a sweep"):
        read_record(tmp_path, record)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"number": 3}, "its trial 1 is not what a sweep wrote"),
        ({"values": {}}, "its trial 1 is not what a sweep wrote"),
        ({"score": None}, "its trial 1 is not what a sweep wrote"),
        ({"score": float("nan")}, "its trial 1 is not what a sweep wrote"),
        ({"state": "failed"}, "its trial 1 is not what a sweep wrote"),
    ],
)
def test_record_with_an_edited_trial_is_named(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Neither believed nor a traceback; it says how to begin anew."""
    whole = SweepRecord(experiment="toy", metric="loss", higher=False, plan={"keys": list(SPACE)}, trials=drawn(1))
    empty = whole.model_copy(update={"trials": []})
    write_record(tmp_path, whole)
    assert read_record(tmp_path, empty) == whole
    write_record(tmp_path, empty.with_trial(whole.trials[0].model_copy(update=change)))
    with pytest.raises(RunError, match=f"{message}; move it away to begin anew"):
        read_record(tmp_path, empty)


@pytest.mark.parametrize("change", [{"plan": {}}, {"metric": "accuracy"}, {"higher": True}, {"experiment": "other"}])
def test_record_of_another_sweep_is_named(change: dict[str, Any], tmp_path: Path) -> None:
    """Its trials measured something else."""
    empty = SweepRecord(experiment="toy", metric="loss", higher=False, plan={"keys": ["seed"]})
    write_record(tmp_path, empty.model_copy(update=change))
    with pytest.raises(RunError, match="is the record of another sweep; move it away"):
        read_record(tmp_path, empty)


def test_two_sweeps_of_one_kind_do_not_meet(tmp_path: Path) -> None:
    """The second one is told."""
    with held(tmp_path), pytest.raises(RunError, match="is being run by another process"), held(tmp_path):
        pass
    with held(tmp_path):
        pass


def test_range_never_leaves_its_ends() -> None:
    """Rounding to four figures could."""
    room = Range("uniform", 0.123456, 0.123457)
    assert room.low <= room.number(0.1234565) <= room.high


def test_page_of_three_keys_holds_lines_across_axes_and_no_markup_of_others() -> None:
    """Names of runs and values are text."""
    trials = [
        Trial(
            number=number,
            values={"a": number, "b": f"<i>{number}", "c": True},
            state="complete",
            score=1.0 / number,
            run="<b>",
        )
        for number in (1, 2, 3)
    ]
    page = page_of(
        SweepRecord(experiment="x", metric="loss", higher=False, plan={"keys": ["a", "b", "c"]}, trials=trials)
    )
    assert page.count("<polyline") == 3
    assert "<i>" not in page
    assert "<b>" not in page
    empty = page_of(SweepRecord(experiment="x", metric="loss", higher=False, plan={"keys": ["a"]}))
    assert "No trial is complete yet." in empty


@pytest.mark.parametrize("text", ["optimizer.lr=log(1e-4, 1e-2)", "model.n_layer=int(1,4)", "optimizer.kind=['a','b']"])
def test_space_is_read(text: str) -> None:
    """The forms that the help names."""
    (room,) = read_space([text]).values()
    assert len(room.ends()) == 2


def test_optuna_missing_names_the_extra(toy: Path) -> None:
    """Only --optuna needs it."""
    code = (
        "import sys\nsys.modules['optuna'] = None\nfrom ml_playground.cli import main\n"
        f"sys.exit(main(['sweep', {str(toy)!r}, '--optuna', '1', '--space', 'seed=int(1,2)']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=600)
    assert (done.returncode, "pip install 'ml-playground[sweep]'" in done.stderr) == (2, True)


def test_a_process_that_is_killed_leaves_its_reason(toy: Path, home: Path) -> None:
    """The system's memory killer, say: the trial has failed, and the next one is made."""
    command = [
        sys.executable,
        "-m",
        "ml_playground.cli",
        "sweep",
        str(toy),
        "--grid",
        "train.max_steps=[100000,4]",
        "--json",
    ]
    command += ["--set", "checkpointing.every_steps=20"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
        while not (found := list((home / "runs" / "toy").glob("*/status.json"))):
            assert child.poll() is None
            time.sleep(0.02)
        os.kill(json.loads(found[0].read_text())["pid"], signal.SIGKILL)
        out, _ = child.communicate(timeout=600)
    trials = json.loads(out)["trials"]
    assert [(trial["number"], trial["state"], trial["reason"]) for trial in trials] == [
        (2, "complete", ""),
        (1, "failed", "ended by SIGKILL"),
    ]
