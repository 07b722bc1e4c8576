"""What a user sees, on a terminal and in a log."""

import io
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console as Terminal

from ml_playground.training.hook_protocols import HookContext, LiveSample
from ml_playground.training.hooks.console import ConsoleHook, build
from ml_playground.training.settings import Console
from tests.fakes.fixed_clock import FixedClock
from tests.fakes.hooks import event, hook_context, progress

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
SAMPLE = LiveSample(20, "To be, ", "or not to be\nthat is the question")


class Screen(io.StringIO):
    """What was written, under an encoding."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As a terminal would have it."""
        return self._encoding


def run_through(context: HookContext, screen: Screen, *, live: bool, width: int = 100) -> ConsoleHook:
    """A short life of a run, ten seconds an interval."""
    terminal = Terminal(file=screen, force_terminal=live, width=width, highlight=False)
    hook = ConsoleHook(Console(every_seconds=10), context, terminal, live=live)
    clock = context.clock
    if not isinstance(clock, FixedClock):
        raise TypeError(clock)
    hook.on_start(progress(0))
    for step in (10, 20):
        clock.advance(10)
        hook.on_step(event(step, [2.5, 2.25]))
    hook.on_evaluation(progress(20), {"loss": 2.4, "accuracy": 0.25})
    context.board.newest_sample = SAMPLE
    hook.on_saved(progress(20), "/runs/tiny/checkpoints/step_000020")
    clock.advance(10)
    hook.on_step(event(30, [2.0]))
    hook.on_end(progress(30), "completed", None)
    return hook


def test_plain_life_of_a_run_is_a_log_of_whole_lines(tmp_path: Path) -> None:
    """Piped into a file: start, progress, evaluation, save, sample, end; no escape, nothing folded."""
    screen = Screen()
    run_through(hook_context(tmp_path), screen, live=False, width=30)
    assert screen.getvalue().splitlines() == [
        "training tiny/20260102-030405-abcd: 60 steps (parameters 1,234, device cpu (float32))",
        "step 10/60  loss 2.3750  tokens/s 128  grad 0.50  lr 1.00e-03  elapsed 5 s",
        "step 20/60  loss 2.3750  tokens/s 128  grad 0.50  lr 1.00e-03  elapsed 10 s  eta 40 s",
        "step 20/60  validation loss 2.4000  accuracy 0.25  best so far",
        "saved: the checkpoint of step 20",
        "sample at step 20",
        "    To be, or not to be",
        "    that is the question",
        "step 30/60  loss 2.0000  val 2.4000  best 2.4000  tokens/s 128  grad 0.50  lr 1.00e-03  elapsed 15 s  eta 30 s",
        (
            "tiny/20260102-030405-abcd: step 30/60 after 15 s, 1.92 k tokens, validation loss 2.4000 "
            "(best 2.4000 at step 20): completed"
        ),
    ]


def test_plain_within_every_seconds_one_line(tmp_path: Path) -> None:
    """A fast run must not fill the disk with its log."""
    screen = Screen()
    context = hook_context(tmp_path)
    hook = ConsoleHook(Console(every_seconds=10), context, Terminal(file=screen), live=False)
    for step in range(10, 50, 10):
        hook.on_step(event(step, [2.0]))
    hook.on_step(event(51))
    assert len(screen.getvalue().splitlines()) == 1
    hook.on_end(progress(51), None, None)


def test_live_shows_bar_numbers_and_sample_then_clears_them(tmp_path: Path) -> None:
    """The picture moves in place; evaluations and the end stay in the scroll-back."""
    screen = Screen()
    run_through(hook_context(tmp_path), screen, live=True)
    text = screen.getvalue()
    seen = ESCAPES.sub("", text).replace("\N{NO-BREAK SPACE}", " ")
    assert "30/60" in seen
    assert "━" in seen
    assert "50%" in seen
    assert "loss 2.0000  val 2.4000  best 2.4000  tokens/s 128" in seen
    assert "sample at step 20" in seen
    assert "  To be, or not to be" in seen
    assert "step 20/60  validation loss 2.4000  accuracy 0.25  best so far" in seen
    assert seen.splitlines()[-1].endswith("completed")
    assert "\x1b[1A" in text
    assert "\x1b[?25h" in text, "the cursor is visible again"


@pytest.mark.parametrize("width", [12, 24, 40, 59, 60, 200])
def test_live_any_width_no_line_is_wider(tmp_path: Path, width: int) -> None:
    """A line that wraps by itself would break the picture apart."""
    context, screen = hook_context(tmp_path), Screen()
    context.board.newest_sample = replace(SAMPLE, text="word " * 80 + "\n\tx" * 30)
    terminal = Terminal(file=screen, force_terminal=True, width=width, height=40)
    hook = ConsoleHook(Console(), context, terminal, live=True)
    hook.on_start(progress(0))
    hook.on_step(event(20, [2.0]))
    hook.on_evaluation(progress(20), {"loss": 2.4})
    lines = ESCAPES.sub("", screen.getvalue()).splitlines()
    hook.on_end(progress(20), None, None)
    assert max(len(line) for line in lines) <= width
    assert any(re.search(r"\([0-9]+ m", line) for line in lines), "it says that there is more"


def test_live_no_unicode_writes_ascii_alone(tmp_path: Path) -> None:
    """Old terminals and the C locale: question marks instead of a crash."""
    screen = Screen("ascii")
    context = hook_context(tmp_path)
    context.board.newest_sample = replace(SAMPLE, text="naïve 🙂")
    run_through(context, screen, live=True)
    assert screen.getvalue().isascii()


def test_live_no_color_has_no_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR leaves the movements of the cursor, and nothing else."""
    monkeypatch.setenv("NO_COLOR", "1")
    screen = Screen()
    run_through(hook_context(tmp_path), screen, live=True)
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", screen.getvalue())


@pytest.mark.parametrize("live", [True, False])
def test_sample_that_steers_terminals_is_defused(tmp_path: Path, live: bool) -> None:
    """A model that writes bytes may write escape sequences: none reaches the terminal. Markup is no markup either."""
    context, screen = hook_context(tmp_path), Screen()
    context.board.newest_sample = replace(SAMPLE, text="\x1b]0;owned\x07\x1b[2J[red]x[/nope]\r")
    terminal = Terminal(file=screen, force_terminal=live, width=80)
    hook = ConsoleHook(Console(), context, terminal, live=live)
    hook.on_start(progress(0))
    hook.on_step(event(20, [2.0]))
    hook.on_evaluation(progress(20), {})
    hook.on_end(progress(20), None, None)
    assert "\x1b]0" not in screen.getvalue()
    assert "\x1b[2J" not in screen.getvalue()
    assert "[red]x[/nope]" in screen.getvalue()


@pytest.mark.parametrize("live", [True, False])
def test_sample_drawn_at_the_last_step_is_left_on_the_screen(tmp_path: Path, live: bool) -> None:
    """It is drawn after the console was told of the step, and the live picture goes with the end."""
    context, screen = hook_context(tmp_path), Screen()
    terminal = Terminal(file=screen, force_terminal=live, width=100)
    hook = ConsoleHook(Console(), context, terminal, live=live)
    hook.on_start(progress(0))
    context.board.newest_sample = SAMPLE
    hook.on_end(progress(60), "completed", None)
    assert ESCAPES.sub("", screen.getvalue()).splitlines()[-4:-1] == [
        "sample at step 20",
        "    To be, or not to be",
        "    that is the question",
    ]


def test_plain_evaluation_is_no_number_is_not_called_the_best(tmp_path: Path) -> None:
    """Nor does it stand in the way of the first number."""
    screen = Screen()
    hook = ConsoleHook(Console(), hook_context(tmp_path), Terminal(file=screen), live=False)
    hook.on_evaluation(progress(0), {"loss": float("nan")})
    hook.on_evaluation(progress(20), {"loss": 3.0})
    assert screen.getvalue().splitlines() == [
        "step 0/60  validation loss nan",
        "step 20/60  validation loss 3.0000  best so far",
    ]


def test_start_resumed_says_from_where(tmp_path: Path) -> None:
    """Its user sees that nothing was lost."""
    screen = Screen()
    hook = ConsoleHook(Console(), hook_context(tmp_path, facts={}), Terminal(file=screen), live=False)
    hook.on_start(progress(20))
    assert screen.getvalue() == "training tiny/20260102-030405-abcd: from step 20 on to 60\n"


def test_state_dict_resumed_does_not_call_a_worse_evaluation_the_best(tmp_path: Path) -> None:
    """The best is that of the run, not of the process."""
    context, screen = hook_context(tmp_path), Screen()
    first = run_through(context, Screen(), live=False)
    second = ConsoleHook(Console(), hook_context(tmp_path), Terminal(file=screen), live=False)
    second.load_state_dict(first.state_dict())
    second.on_evaluation(progress(40), {"loss": 2.5})
    second.on_evaluation(progress(50), {"accuracy": 0.5})
    assert screen.getvalue().splitlines() == [
        "step 40/60  validation loss 2.5000",
        "step 50/60  accuracy 0.5",
    ]


@pytest.mark.parametrize("live", [True, False])
def test_on_end_error_is_named_and_the_terminal_restored(tmp_path: Path, live: bool) -> None:
    """The command says what the error was; the console says how far the run had come."""
    screen = Screen()
    terminal = Terminal(file=screen, force_terminal=live, width=100)
    hook = ConsoleHook(Console(), hook_context(tmp_path), terminal, live=live)
    hook.on_start(progress(0))
    hook.on_end(progress(3), None, ValueError("odd"))
    last = ESCAPES.sub("", screen.getvalue()).splitlines()[-1]
    assert last.endswith("tiny/20260102-030405-abcd: step 3/60 after 2 s, 192 tokens: failed (ValueError)")


def test_build_output_is_no_terminal_writes_plain_lines_to_stderr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also with FORCE_COLOR, which makes the library call a pipe a terminal; stdout is left to what is asked for."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    hook = build(Console(), hook_context(tmp_path))
    hook.on_start(progress(0))
    hook.on_end(progress(60), None, None)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "\x1b" not in captured.err
    assert captured.err.splitlines()[-1].endswith(": goes back to its beginning")


def test_plain_evaluation_that_takes_long_says_that_it_is_under_way(tmp_path: Path) -> None:
    """A log that stands still for minutes looks like a run that hangs; a short evaluation and the end say nothing."""
    screen = Screen()
    context = hook_context(tmp_path)
    hook = ConsoleHook(Console(every_seconds=0.02), context, Terminal(file=screen), live=False)
    hook.on_step(event(20, [2.5]))
    assert isinstance(context.clock, FixedClock)
    context.clock.advance(75)
    while "step 20/60  evaluating for 1m 15s\n" not in screen.getvalue():
        time.sleep(0.001)
    hook.on_evaluation(progress(20), {"loss": 2.4})
    hook.on_step(event(30, [2.5]))
    hook.on_step(event(60, [2.5]))
    hook.on_end(progress(60), "completed", None)
    silent = screen.getvalue()
    time.sleep(0.05)
    assert screen.getvalue() == silent


def test_plain_evaluation_that_is_owed_says_that_it_is_under_way(tmp_path: Path) -> None:
    """The process begins with it, and no step comes before."""
    screen, clock = Screen(), FixedClock(step_s=25.0)
    context = replace(hook_context(tmp_path, clock=clock), first_step=20, owes_evaluation=True)
    hook = ConsoleHook(Console(every_seconds=0.001), context, Terminal(file=screen), live=False)
    hook.on_start(progress(20))
    while "step 20/60  evaluating for " not in screen.getvalue():
        time.sleep(0.001)
    hook.on_evaluation(progress(20), {"loss": 2.4})
    hook.on_end(progress(20), "paused", None)
    assert "validation loss 2.4000" in screen.getvalue()
