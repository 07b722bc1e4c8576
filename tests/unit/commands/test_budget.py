"""`mlp run --minutes`: what is refused, what is planned over, and a whole run that is interrupted and goes on."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ml_playground.cli import main
from ml_playground.commands.budget import Request, check_request, fixed_by_user, verdict
from ml_playground.commands.run import check_start
from ml_playground.core.atomic import write_file
from ml_playground.core.error_handling import ConfigError, RunError
from ml_playground.core.run_folder import RunFolder, runs_folder
from ml_playground.core.run_schema import Event
from ml_playground.planning.budget import ANCHOR
from ml_playground.planning.recipe import HOOK, recipe_of, tried_as, without
from tests.fakes.run_folder import put_checkpoint
from tests.fakes.tiny_job import tiny_job

CONFIG = """\
prepare.source = { kind = "text_file", path = "../text.txt" }
prepare.tokenizer = { kind = "char" }
train.max_steps = 400
sample = { prompts = ["green"], num_samples = 2, max_new_tokens = 8 }
runtime = { device = "cpu", dtype = "float32", threads = 1 }
"""


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """An experiment whose length is set, as experiments have it."""
    folder = tmp_path / "toy"
    folder.mkdir()
    tiny_job(tmp_path)
    (folder / "config.toml").write_text(CONFIG)
    return folder


def request_of(experiment: Path, *sets: str, minutes: float = 1.0) -> Request:
    """What was typed."""
    return Request(str(experiment), sets, (), minutes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--minutes", "0.2"],
            "--minutes 0.2 is too short to plan, train and sample anything; the smallest budget is --minutes 0.5",
        ),
        (["--minutes", "inf"], "Invalid value for '--minutes': Input should be less than or equal to 525600"),
        (
            ["--minutes", "3", "--set", "train.max_steps=700"],
            "--minutes 3 and train.max_steps = 700 (--set) both say how long to train; remove one of them",
        ),
        (
            ["--minutes", "3", "--set", "train.max_epochs=2"],
            "--minutes 3 and train.max_epochs = 2 (--set) both say how long to train",
        ),
        (
            ["--minutes", "3", "--set", "model.weights=there"],
            "--minutes plans a model from random weights, and this job begins with model.weights",
        ),
    ],
)
def test_run_minutes_that_contradict_are_refused_before_anything_is_done(
    experiment: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """What, where, and what to do instead."""
    assert main(["run", str(experiment), *arguments]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not runs_folder().exists()


def test_run_minutes_too_short_for_this_machine_names_the_smallest(
    experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Drawing so many tokens alone takes longer than the time there is."""
    assert main(["run", str(experiment), "--minutes", "0.5", "--set", "sample.max_new_tokens=10000000"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(r"--minutes 0\.5 leaves [\d.]+ s for training, less than 64 steps take on this machine", said)
    assert "the smallest budget here is --minutes" in said


def test_fixed_is_what_the_user_said_and_nothing_else(experiment: Path) -> None:
    """The experiment's own values are planned over; those typed now are not."""
    asked = request_of(experiment, "model.n_layer=2", "optimizer.kind=adamw").load()
    fixed = fixed_by_user(asked)
    assert {"model.n_layer": 2, "optimizer.kind": "adamw"}.items() <= fixed.items()
    assert "train.max_steps" not in fixed


def test_short_training_is_compiled_only_where_its_user_says_so(experiment: Path) -> None:
    """As the planned run; compiling alone may take longer than there is."""
    for sets, compiled in (((), False), (("runtime.compile=true",), True)):
        request = request_of(experiment, *sets)
        layer = without(tried_as(ANCHOR, 500), fixed_by_user(request.load()))
        assert request.load(layer).job.runtime.compile is compiled


def test_fixed_group_chosen_by_the_user_is_kept_but_for_its_length(experiment: Path) -> None:
    """`--set use=recipe/speed --minutes 3` is that recipe for three minutes."""
    request = request_of(experiment, "use=recipe/speed")
    fixed = check_request(request, request.load())
    assert fixed["optimizer.kind"] == "muon"
    assert fixed["model.dropout"] == 0.0
    assert fixed["model.n_layer"] == request.load().job.model.n_layer
    assert not [key for key in fixed if key.startswith(("schedule", "train.max"))]


def test_plan_layer_lies_under_what_was_typed_and_over_the_experiment(experiment: Path) -> None:
    """And each value says where it comes from."""
    request = request_of(experiment, "model.n_embd=64", minutes=3)
    table = without(recipe_of(ANCHOR, 500), fixed_by_user(request.load()))
    loaded = request.load(table)
    assert (loaded.job.model.n_embd, loaded.job.model.n_layer) == (64, 3)
    assert loaded.job.train.max_steps == 500
    assert loaded.origins["model.n_embd"][-1].where == "--set"
    assert loaded.origins["train.max_steps"][-1].where == "--minutes 3"


def test_plan_leaves_a_component_of_another_kind_alone(experiment: Path) -> None:
    """Muon's settings mean nothing to AdamW."""
    request = request_of(experiment, "optimizer.kind=adamw")
    table = without(recipe_of(ANCHOR, 500), check_request(request, request.load()))
    assert "optimizer" not in table
    assert request.load(table).job.optimizer.kind_name == "adamw"


def test_check_other_model_is_refused(experiment: Path) -> None:
    """The law knows one kind; every other job says so."""
    loaded = request_of(experiment).load()
    other = loaded.job.model_copy(update={"model": loaded.job.objective})
    with pytest.raises(
        ConfigError, match="--minutes plans models of kind gpt, and this job has model.kind = 'next_token'"
    ):
        check_request(request_of(experiment), type(loaded)(other, loaded.origins, loaded.folder))


def test_check_start_unfinished_run_of_another_command_is_refused_before_the_planning(experiment: Path) -> None:
    """In one line that can be typed as it stands; not by all the settings that a plan would have chosen."""
    request = request_of(experiment, "model.n_layer=1")
    loaded = request.load()
    check_start(request, loaded)
    run = RunFolder(runs_folder() / "toy" / "20260101-000000-aaaa")
    write_file(run.config, loaded.job.model_dump_json())
    check_start(request, loaded)
    put_checkpoint(run, 5)
    check_start(request, loaded, chosen=True)
    with pytest.raises(RunError) as caught:
        check_start(request, loaded)
    assert str(caught.value) == (
        "The run toy/20260101-000000-aaaa is unfinished, and was started with other settings. "
        f"To begin a new one beside it: mlp run {experiment} --set model.n_layer=1 --minutes 1 --fresh"
    )


def test_check_start_unfinished_run_of_the_same_command_goes_on(experiment: Path) -> None:
    """Its plan is the one that was made then."""
    request = request_of(experiment)
    loaded = request.load(recipe_of(ANCHOR, 500) | {"hooks": {HOOK: {"kind": "time_budget", "minutes": 1.0}}})
    run = RunFolder(runs_folder() / "toy" / "20260101-000000-aaaa")
    write_file(run.config, loaded.job.model_dump_json())
    put_checkpoint(run, 5)
    check_start(request, request.load())


def test_verdict_compares_forecast_and_result(tmp_path: Path) -> None:
    """One line; none where nothing was foreseen."""
    hook = {"kind": "time_budget", "expected_loss": 1.62, "expected_low": 1.57, "expected_high": 1.67}
    assert verdict(tiny_job(tmp_path, hooks={"time_budget": hook}), 1.6) == (
        "predicted 1.620 (1.570 to 1.670), got 1.600: error -0.020"
    )
    assert verdict(tiny_job(tmp_path), 1.6) == ""


BY_ITS_OWN_TIME = """
import sys, time
from ml_playground.cli import main
from ml_playground.core.deps import SystemClock

SystemClock.tick = lambda self: time.process_time()
sys.exit(main(sys.argv[1:]))
"""
"""The command on a clock of what it computes itself: that others compute, or that the machine stands still, costs no budget."""


def run_minutes(arguments: list[str], *, until: Callable[[], bool] | None = None) -> tuple[str, str]:
    """What a command says, on stdout and on stderr, that gets Ctrl-C once something is there."""
    command = [sys.executable, "-c", BY_ITS_OWN_TIME, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        if until is not None:
            while not until():
                assert child.poll() is None
                time.sleep(0.01)
            child.send_signal(signal.SIGINT)
        out, told = child.communicate(timeout=600)
    assert child.returncode == 0, told
    return out, told


@pytest.mark.usefixtures("uncovered")
@pytest.mark.slow
def test_run_minutes_interrupted_goes_on_with_its_plan_and_ends(experiment: Path) -> None:
    """Ctrl-C saves; the same command has the rest of the time; a third one has nothing to do."""
    small = ("model.n_layer=1", "model.n_embd=32", "data.sequence_tokens=16", "data.micro_batch_rows=4")
    typed = ["run", str(experiment), "--minutes", "0.5", *(word for key in small for word in ("--set", key))]
    out, told = run_minutes([*typed, "--json"], until=lambda: any((runs_folder() / "toy").glob("*/metrics.jsonl")))
    paused = json.loads(out)
    assert paused["reason"] == "paused"
    assert "plan: expected validation loss" in told
    out, told = run_minutes([*typed, "--json"])
    ended = json.loads(out)
    assert "plan: as it was made when the run began (--minutes 0.5)" in told
    assert (ended["run"], ended["reason"]) == (paused["run"], "stopped_early")
    assert ended["step"] > paused["step"]
    assert ended["budget"]["error"] == pytest.approx(ended["metrics"]["loss"] - ended["budget"]["expected"], abs=1e-3)
    (event,) = [event for event in events_of(RunFolder(Path(ended["run"]))) if event.kind == "budget"]
    assert event.data["expected"] == ended["budget"]["expected"]
    assert event.data["train_seconds"] < 30
    assert event.data["used"]
    out, _ = run_minutes(typed)
    assert "nothing to do" in out
    assert f"predicted {ended['budget']['expected']:.3f}" in out


def events_of(run: RunFolder) -> list[Event]:
    """All that happened."""
    return [Event.model_validate_json(line) for line in run.events.read_text().splitlines()]
