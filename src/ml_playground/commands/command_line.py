"""The command tree. Errors become one message and an exit code here, and nowhere else."""

import errno
import inspect
import os
import select
import shlex
import sys
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, cast

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from ml_playground.commands.table import COMMANDS, Row
from ml_playground.core.error_handling import PlaygroundError
from ml_playground.core.leaving import INTERRUPTED, interruptible, limit_cleaning
from ml_playground.core.registry import load_object

DONE, UNEXPECTED, MENDABLE, EXHAUSTED = 0, 1, 2, 3

# The shell sets it when it asks for completions.
COMPLETION_VARIABLE = "_MLP_COMPLETE"

# What a full disk, a quota, a missing right or a read-only folder answer with: the user can mend them.
STORAGE_ERRORS = {
    errno.ENOSPC: "the disk is full; free some space or move the folder with MLP_HOME",
    errno.EDQUOT: "the disk quota is used up; free some space or move the folder with MLP_HOME",
    errno.EACCES: "access is denied; change its rights or choose another folder with MLP_HOME",
    errno.EPERM: "access is denied; change its rights or choose another folder with MLP_HOME",
    errno.EROFS: "the file system is read-only; choose another folder with MLP_HOME",
}


CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Interruptible(TyperCommand):
    """A command whose work, and nothing before or after it, may be broken off and tidied up."""

    def invoke(self, ctx: Any) -> Any:
        """Do the work."""
        with interruptible():
            return super().invoke(ctx)


class LazyCommand(TyperCommand):
    """Stands for a command in lists and completion; imports its module when the command itself is called."""

    def __init__(self, name: str, row: Row, panel: str | None) -> None:
        super().__init__(name, help=row.help, short_help=row.help, rich_help_panel=panel)
        self._path = row.path

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Import the command and let it read its arguments."""
        function = load_object(self._path)
        app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        app.command(self.name, cls=Interruptible, help=help_of(function), context_settings=CONTEXT)(function)
        return get_command(app).make_context(info_name, args, parent, **extra)


class Tree(TyperGroup):
    """A group that shows its help when called alone, its commands in sections."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Nothing typed means: show me what there is."""
        return super().parse_args(ctx, args or ["--help"])

    def get_params(self, ctx: Any) -> Any:
        """The options, all of them flags."""
        options = super().get_params(ctx)
        for option in options:
            # Without a default, typer imports pydantic, 0.1 s, to learn that a flag was not given.
            option.default = False
        return options

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """One list a section, all in the same columns."""
        width = max(map(len, self.commands))
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, command in self.commands.items():
            title: str = getattr(command, "rich_help_panel", None) or "Commands"
            sections.setdefault(title, []).append((name.ljust(width), command.get_short_help_str(limit=100)))
        for title, rows in sections.items():
            with formatter.section(typer.style(title, bold=True)):
                formatter.write_dl(rows)


def help_of(function: Callable[..., Any]) -> str:
    """What a command's docstring says to its user: all before the sections meant for programmers."""
    text = inspect.getdoc(function) or ""
    for section in ("Args", "Returns", "Raises"):
        text = text.partition(f"\n{section}:\n")[0]
    return text


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - 20 ms that only --version needs

        typer.echo(f"mlp {version('ml-playground')}")
        raise typer.Exit


def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected failure.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Train, sample and watch small language models on the machine you have.

    `mlp COMMAND --help` explains a command. Runs, data and caches lie in the working directory, or in MLP_HOME.
    """


def tree() -> Tree:
    """All commands, none of them imported."""
    app = typer.Typer(cls=Tree, rich_markup_mode=None, context_settings=CONTEXT)
    app.callback()(root)
    top = cast(Tree, get_command(app))
    for panel, rows in COMMANDS.items():
        for name, row in rows.items():
            if isinstance(row, Row):
                top.add_command(LazyCommand(name, row, panel))
            else:
                below: dict[str, Any] = {leaf: LazyCommand(leaf, leaf_row, None) for leaf, leaf_row in row.rows.items()}
                group = Tree(
                    name=name,
                    commands=below,
                    help=row.help,
                    context_settings=CONTEXT,
                    rich_markup_mode=None,
                    rich_help_panel=panel,
                )
                top.add_command(group)
    return top


def say_error(text: str) -> None:
    """One message on stderr, its first word in red on a terminal; names in it may come from files, and steer no terminal."""
    from ml_playground.core.humanise import printable  # noqa: PLC0415 - 2 ms that only an error needs

    typer.echo(f"{typer.style('error:', fg='red', bold=True)} {printable(text)}", err=True)


def usage_text(error: typer.TyperException) -> str:
    """What is wrong with the command line, and where its help is."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "mlp"
    return f"{error.format_message()}\nTry '{path} --help'."


def record(error: Exception) -> str:
    """Append the traceback to the error log; returns where it is, in words."""
    from ml_playground.core.run_folder import cache_folder  # noqa: PLC0415 - 6 ms that only a failure needs

    log = cache_folder() / "mlp-error.log"
    text = "".join(traceback.format_exception(error))
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now(UTC).isoformat()} mlp {shlex.join(sys.argv[1:])}\n{text}\n")
    except OSError as reason:
        typer.echo(text, err=True)
        return f"The traceback is above, for {log} could not be written: {reason.strerror}."
    return f"The traceback is in {log}; mlp --debug shows it here."


def reader_left() -> bool:
    """Whether stdout's reader has gone, as `head` does; from then on nothing more is written to it."""
    if sys.platform == "win32":
        return False
    stdout = 1
    poll = select.poll()
    # No event asked for: only a pipe without a reader answers.
    poll.register(stdout, 0)
    if not poll.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), stdout)
    return True


def exit_code_of(error: Exception, debug: bool) -> int:
    """Say what went wrong, once, and answer with the exit code for it."""
    if isinstance(error, typer.Exit):
        return error.exit_code
    if isinstance(error, BrokenPipeError) and reader_left():
        return DONE
    if isinstance(error, PlaygroundError):
        say_error(str(error))
        code = MENDABLE
    elif isinstance(error, typer.TyperException):
        say_error(usage_text(error))
        code = MENDABLE
    elif isinstance(error, OSError) and error.errno in STORAGE_ERRORS:
        say_error(f"{error.filename or 'a file'}: {error.strerror}; {STORAGE_ERRORS[error.errno]}.")
        code = MENDABLE
    elif isinstance(error, MemoryError):
        say_error("the memory gave out; make the batch, the context or the model smaller.")
        code = EXHAUSTED
    else:
        say_error(f"{type(error).__name__}: {error}\n{record(error)}")
        code = UNEXPECTED
    if debug:
        traceback.print_exception(error)
    return code


def run(group: Tree, args: list[str]) -> int:
    """Run one command line on a tree and return its exit code; a whole number that a command returns is its code."""
    debug = False
    try:
        with group.make_context("mlp", args) as context:
            debug = bool(context.params["debug"])
            result = group.invoke(context)
        sys.stdout.flush()
    except KeyboardInterrupt:
        say_error("interrupted.")
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last frame: whatever comes becomes a message and a code here
        return exit_code_of(error, debug)
    return result if type(result) is int else DONE


def run_process(args: list[str]) -> int:
    """Run a command line as the whole process, whose cleaning up after Ctrl-C is limited."""
    limit_cleaning()
    group = tree()
    if COMPLETION_VARIABLE in os.environ:
        group.main(prog_name="mlp")
    return run(group, args)
