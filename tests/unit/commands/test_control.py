"""`mlp control`, through the whole command line, to the hook that obeys."""

import json
from pathlib import Path

import pytest

from ml_playground.cli import main
from ml_playground.core.run_folder import RunFolder
from ml_playground.core.values import Action, Wish
from ml_playground.training.hooks.control import build
from ml_playground.training.settings import Control
from tests.fakes.hooks import event, hook_context
from tests.fakes.run_folder import CONFIG, bare_run, held, put_result, put_status


@pytest.mark.parametrize(
    ("words", "wish"),
    [
        (["pause"], Wish(Action.PAUSE)),
        (["stop"], Wish(Action.FINISH)),
        (["save"], Wish(Action.SAVE)),
        (["evaluate"], Wish(Action.EVALUATE)),
        (["lr", "--factor", "0.5"], Wish(lr_factor=0.5)),
    ],
)
def test_control_running_run_is_asked_and_its_hook_obeys(
    words: list[str], wish: Wish, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the command line to the wish, through a file."""
    run = bare_run()
    put_status(run)
    with held(run):
        assert main(["control", "tiny", *words]) == 0
    assert capsys.readouterr().out.startswith(f"asked {run.id}: at its next step it ")
    assert build(Control(), hook_context(tmp_path, run=run)).on_step(event(21)) == wish


def test_control_several_requests_are_obeyed_in_the_order_they_were_made(tmp_path: Path) -> None:
    """The later factor counts."""
    run = bare_run()
    with held(run):
        for factor in ("0.5", "0.25", "2"):
            assert main(["control", "tiny", "lr", "--factor", factor]) == 0
    assert build(Control(), hook_context(tmp_path, run=run)).on_step(event(21)) == Wish(lr_factor=2.0)


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        (True, "(stopped early), so nobody would do it; mlp runs shows what is.\n"),
        (False, "(interrupted), so nobody would do it; mlp runs shows what is. To go on with it: mlp train tiny\n"),
    ],
)
def test_control_run_is_not_running_says_so(ended: bool, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A request that nobody reads would look as if it had worked."""
    run = bare_run()
    put_status(run)
    if ended:
        put_result(run, reason="stopped_early")
    assert main(["control", "tiny", "pause"]) == 2
    assert capsys.readouterr().err == f"error: {run.id} is not running {words}"
    assert not run.control.exists()


@pytest.mark.parametrize(
    "hooks", [{}, {"steer": {"kind": "control", "enabled": False}}, {"metrics": {"kind": "jsonl_metrics"}}]
)
def test_control_run_takes_no_requests_says_what_helps(
    hooks: dict[str, dict[str, object]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Without its hook, the folder is read by nobody."""
    run: RunFolder = bare_run()
    run.config.write_text(json.dumps(CONFIG | {"hooks": hooks}))
    with held(run):
        assert main(["control", "tiny", "pause"]) == 2
    assert capsys.readouterr().err == (
        f"error: {run.id} has no hook of kind 'control', so it takes no requests; "
        "Ctrl-C in its terminal saves and leaves.\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["puase"], "a run cannot be asked to 'puase'; did you mean 'pause'? (allowed: pause, stop, save, "),
        (["lr"], "lr needs a factor on the scheduled learning rate, e.g. --factor 0.5."),
        (["pause", "--factor", "0.5"], "--factor 0.5 means nothing with pause; it goes with lr."),
        (["lr", "--factor", "0"], "--factor 0 is out of range: it must be above 0 and at most 10."),
        (["lr", "--factor", "11"], "--factor 11 is out of range: it must be above 0 and at most 10."),
        (["lr", "--factor", "nan"], "--factor nan is out of range: it must be above 0 and at most 10."),
    ],
)
def test_control_wrong_words_are_answered_with_the_right_ones(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is looked for or written."""
    assert main(["control", "tiny", *words]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
