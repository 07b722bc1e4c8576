"""The command tree: what it lists, what it imports, and how each failure ends."""

import errno
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from ml_playground.cli import main
from ml_playground.commands.command_line import (
    LazyCommand,
    Row,
    Tree,
    exit_code_of,
    help_of,
    reader_left,
    run,
    say_error,
    tree,
)
from ml_playground.commands.table import COMMANDS
from ml_playground.core.error_handling import ConfigError


def run_command(function_name: str, *args: str, debug: bool = False) -> int:
    """Run a command of this file through a tree like the real one."""
    group = tree()
    group.add_command(LazyCommand("try", Row(f"{__name__}:{function_name}", "Try."), None))
    return run(group, [*(["--debug"] if debug else []), "try", *args])


def mlp(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "ml_playground.cli", *args],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
        timeout=600,
    )


def add(a: int, b: int = 1) -> int:
    """Add.

    More words.

    Args:
        a: One.
        b: Another.

    Returns:
        The sum.
    """
    typer.echo(f"{a} + {b}")
    return a + b


def wrong_setting() -> None:
    """Fail as a user's mistake does."""
    raise ConfigError("train.max_steps = 0\n  must be at least 1")


def defect() -> None:
    """Fail as a defect does."""
    raise ZeroDivisionError("a defect")


def full_disk() -> None:
    """Fail as a full disk does."""
    raise OSError(errno.ENOSPC, "No space left on device", "/x/y")


def no_memory() -> None:
    """Fail as an allocation does."""
    raise MemoryError


def interrupted() -> None:
    """Fail as Ctrl-C does."""
    raise KeyboardInterrupt


def diverged() -> None:
    """Leave with a code of the command's own."""
    raise typer.Exit(3)


def test_main_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be found in the help does not exist for a user."""
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for rows in COMMANDS.values() for name in rows)
    assert all(f"{title}:\n" in shown for title in COMMANDS)


@pytest.mark.parametrize("argv", [[], ["config"]])
def test_main_called_alone_shows_help(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing typed means: show me what there is; that is no error."""
    assert main(argv) == 0
    assert capsys.readouterr().out.startswith("Usage: mlp")


def test_main_version_prints_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The first thing asked of a reporter of a bug."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "mlp 0.1.0\n"


def test_main_misspelt_command_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    """A typing error costs one look, not a search."""
    assert main(["trian"]) == 2
    assert capsys.readouterr().err == ("error: No such command 'trian'. Did you mean 'train'?\nTry 'mlp --help'.\n")


def test_main_misspelt_subcommand_names_the_help_of_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    """The hint leads to the help that lists what was meant."""
    assert main(["config", "shwo"]) == 2
    assert "Did you mean 'show'?\nTry 'mlp config --help'.\n" in capsys.readouterr().err


def test_main_command_reads_its_arguments_and_returns_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    """A plain function is a command; a whole number it returns is the exit code."""
    assert run_command("add", "2", "--b", "3") == 5
    assert capsys.readouterr().out == "2 + 3\n"


def test_main_wrong_argument_exits_2_with_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong value on the command line is the user's to mend."""
    assert run_command("add", "two") == 2
    assert "Invalid value for 'a'" in capsys.readouterr().err


def test_main_command_help_leaves_out_what_is_for_programmers(capsys: pytest.CaptureFixture[str]) -> None:
    """Args, Returns and Raises of a docstring speak to callers of the function."""
    assert run_command("add", "-h") == 0
    shown = capsys.readouterr().out
    assert "More words." in shown
    assert "Another." not in shown
    assert help_of(add) == "Add.\n\nMore words.\n"


def test_main_user_error_exits_2_with_its_text_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """All lines of a message, nothing else, on stderr."""
    assert run_command("wrong_setting") == 2
    assert capsys.readouterr() == ("", "error: train.max_steps = 0\n  must be at least 1\n")


def test_main_user_error_under_debug_shows_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """A developer wants to see where a message comes from."""
    assert run_command("wrong_setting", debug=True) == 2
    assert "Traceback" in capsys.readouterr().err


def test_main_unexpected_failure_exits_1_and_logs_traceback(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for the user; the traceback lies in a named file."""
    assert run_command("defect") == 1
    log = home / ".cache" / "mlp-error.log"
    assert capsys.readouterr().err == (
        f"error: ZeroDivisionError: a defect\nThe traceback is in {log}; mlp --debug shows it here.\n"
    )
    assert "in defect" in log.read_text()


def test_main_unexpected_failure_without_a_log_shows_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failure to write the log must not hide the failure itself."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("MLP_HOME", str(tmp_path / "file"))
    assert run_command("defect") == 1
    shown = capsys.readouterr().err
    assert "in defect" in shown
    assert "mlp-error.log could not be written: Not a directory." in shown


def test_main_full_disk_exits_2_and_names_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    """A full disk is no defect."""
    assert run_command("full_disk") == 2
    assert capsys.readouterr().err == (
        "error: /x/y: No space left on device; the disk is full; free some space or move the folder with MLP_HOME.\n"
    )


def test_main_no_memory_exits_3(capsys: pytest.CaptureFixture[str]) -> None:
    """Out of memory has the code of its own that a queue acts on."""
    assert run_command("no_memory") == 3
    assert capsys.readouterr().err == (
        "error: the memory gave out; make the batch, the context or the model smaller.\n"
    )


def test_main_interrupted_exits_130(capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C outside training leaves with the code that shells expect."""
    assert run_command("interrupted") == 130
    assert capsys.readouterr().err == "error: interrupted.\n"


def test_main_command_exit_keeps_its_code() -> None:
    """A command that ends by itself says with what."""
    assert run_command("diverged") == 3


def test_exit_code_broken_pipe_of_another_pipe_is_unexpected(capsys: pytest.CaptureFixture[str]) -> None:
    """Only stdout's reader may leave in silence; a socket that breaks is a failure."""
    assert exit_code_of(BrokenPipeError("socket"), debug=False) == 1
    assert "BrokenPipeError: socket" in capsys.readouterr().err


def test_reader_left_open_stdout_is_false() -> None:
    """Nothing is redirected while somebody reads."""
    assert not reader_left()


def test_mlp_reader_leaves_ends_quietly_with_0() -> None:
    """`mlp ... | head` is an ordinary thing to do."""
    script = f"{shlex.quote(sys.executable)} -m ml_playground.cli --help | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, timeout=600)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_mlp_completion_of_commands_lists_names() -> None:
    """The shell asks through environment variables; no command is imported for it."""
    done = mlp(_MLP_COMPLETE="complete_bash", COMP_WORDS="mlp ru", COMP_CWORD="1")
    assert done.stdout.split() == ["run", "runs"]


def test_tree_every_row_leads_to_a_lazy_command() -> None:
    """Building the tree imports no command."""
    top = tree()
    assert isinstance(top.commands["config"], Tree)
    assert isinstance(top.commands["train"], LazyCommand)


def test_say_error_names_from_files_steer_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A file may be named so that it clears the screen, or writes a line of its own into the window's title."""
    say_error("step_\x1b[2J\x1b]0;owned\x07 is damaged\nsecond line")
    assert capsys.readouterr().err == "error: step_\ufffd[2J\ufffd]0;owned\ufffd is damaged\nsecond line\n"
