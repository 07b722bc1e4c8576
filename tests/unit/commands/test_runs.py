"""`mlp runs`, through the whole command line."""

import json
import subprocess
import sys

import pytest

from ml_playground.cli import main
from ml_playground.core.run_folder import runs_folder
from tests.fakes.run_folder import bare_run, held, put_result, put_status


def test_runs_nothing_yet_says_how_to_start(capsys: pytest.CaptureFixture[str]) -> None:
    """An empty table would help nobody."""
    assert main(["runs"]) == 0
    assert capsys.readouterr().out == f"no run under {runs_folder()} yet; start one: mlp train EXPERIMENT\n"


def test_runs_several_are_listed_newest_first(capsys: pytest.CaptureFixture[str]) -> None:
    """State by lock and last word; what is not known is a dash."""
    finished = bare_run("a", "20260101-000000-aaaa")
    put_status(finished, state="ended", reason="stopped_early")
    put_result(finished, reason="stopped_early")
    training = bare_run("b", "20260102-000000-bbbb")
    put_status(training, loss=None, validation_loss=None, best_validation_loss=None, targets_per_s=None)
    bare_run("a", "20260103-000000-cccc")
    with held(training):
        assert main(["runs"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "run state step loss val loss best speed started (UTC) time",
        "a/20260103-000000-cccc not started - - - - - 2026-01-03 00:00 -",
        "b/20260102-000000-bbbb training 20/60 - - - - 2026-01-02 00:00 12m 05s",
        "a/20260101-000000-aaaa stopped early 20/60 2.5000 2.4000 2.2500 12.3 k tokens/s 2026-01-01 00:00 12m 05s",
    ]


def test_runs_died_of_its_numbers_shows_no_loss_of_before(capsys: pytest.CaptureFixture[str]) -> None:
    """And a huge one takes no more room than others."""
    run = bare_run("a", "20260101-000000-aaaa")
    put_status(run, state="ended", reason="nan", loss=7.6, validation_loss=7.213e14)
    put_result(run, reason="nan")
    assert main(["runs"]) == 0
    assert " nan 20/60 nan 7.213e+14 2.2500 " in " ".join(capsys.readouterr().out.splitlines()[1].split())


def test_runs_best_is_of_the_runs_own_metric(capsys: pytest.CaptureFixture[str]) -> None:
    """Named where it is not the loss; a dash until it is measured."""
    for number, best in enumerate((0.974, None)):
        run = bare_run("a", f"2026010{2 - number}-000000-aaaa")
        put_status(run, best=best, best_metric="accuracy")
        put_result(run)
    assert main(["runs"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert " 2.5000 2.4000 accuracy 0.9740 12.3 k tokens/s " in lines[1]
    assert " 2.5000 2.4000 - 12.3 k tokens/s " in lines[2]


def test_runs_json_holds_states_and_last_words(capsys: pytest.CaptureFixture[str]) -> None:
    """For programs: one object."""
    run = bare_run()
    put_status(run)
    assert main(["runs", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["runs"]
    assert (entry["run"], entry["path"], entry["state"], entry["problem"]) == (
        run.id,
        str(run.path),
        "interrupted",
        None,
    )
    assert entry["started"] == "2026-01-02T03:04:05+00:00"
    assert entry["status"]["step"] == 20


def test_runs_says_which_checkpoint_was_passed_over_and_why_a_run_ended_early(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The one is no detail; the other is what the run itself said."""
    run = bare_run("a", "20260101-000000-aaaa")
    note = "Checkpoint step_000020 is damaged"
    put_status(run, state="ended", reason="stopped_early", message="used its 3 minutes", note=note)
    put_result(run, reason="stopped_early")
    assert main(["runs"]) == 0
    shown = capsys.readouterr()
    assert " used its 3 minutes 20/60 " in " ".join(shown.out.split())
    assert shown.err == f"\n{run.id} passed over: {note}\n"


def test_runs_unreadable_run_is_listed_and_its_problem_told(capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr, so that the table can be piped."""
    run = bare_run("a", "imported")
    run.status.write_text("{")
    assert main(["runs"]) == 0
    captured = capsys.readouterr()
    assert " ".join(captured.out.splitlines()[1].split()) == "a/imported unreadable - - - - - - -"
    assert f"a/imported cannot be read: {run.status} is not what a run writes there" in captured.err


def test_runs_of_one_experiment_lists_those_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """A long list is no help."""
    bare_run("a", "20260101-000000-aaaa")
    bare_run("b", "20260102-000000-bbbb")
    assert main(["runs", "a"]) == 0
    out = capsys.readouterr().out
    assert "a/20260101" in out
    assert "b/20260102" not in out


def test_runs_misspelt_experiment_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    """What, where, did you mean, what is there."""
    bare_run("shakespeare", "20260101-000000-aaaa")
    assert main(["runs", "shakespere"]) == 2
    assert capsys.readouterr().err == (
        f"error: no run of 'shakespere' under {runs_folder()}; did you mean 'shakespeare'? "
        "(experiments with runs: shakespeare).\n"
    )


def test_runs_of_an_experiment_before_the_first_run_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """No list of nothing."""
    assert main(["runs", "a"]) == 2
    assert "no run of 'a' under" in (error := capsys.readouterr().err)
    assert "(there is no run yet)" in error


@pytest.mark.parametrize("module", ["commands.runs", "commands.report", "commands.control"])
def test_module_needs_no_torch(module: str) -> None:
    """Looking at runs must not take the second and the 300 MB that torch takes."""
    code = f"import sys, ml_playground.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
