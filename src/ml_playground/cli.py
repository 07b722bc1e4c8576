"""The command `mlp`: it hears Ctrl-C first, and imports all the rest afterwards.

Exit codes: 0 done or paused by its user; 1 an unexpected failure; 2 something its user can mend; 3 the numbers or the
memory gave out; 130 interrupted where there was nothing to save.
"""

# What `signal` is made of. To import `signal` itself takes 3 ms, in which Ctrl-C would still be Python's to answer.
import _signal  # pyright: ignore[reportMissingImports]
import os
import sys


def leave_in_silence(_number: int, _frame: object) -> None:
    """A handler of Ctrl-C for the time in which nothing has begun: there is nothing to undo, and nothing to tell.

    KeyboardInterrupt would not do: a callback of the import system may meet it, which prints its traceback and goes on.
    """
    os._exit(130)


def main(argv: list[str] | None = None) -> int:
    """The exit code of one command line; without arguments of the caller's it is the whole process, and its signals are ours."""
    # A shell that started it in the background has Ctrl-C ignored.
    if argv is None and _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, leave_in_silence)

    from ml_playground.commands.command_line import run, run_process, tree  # noqa: PLC0415 - Ctrl-C is heard by now

    return run_process(sys.argv[1:]) if argv is None else run(tree(), argv)


if __name__ == "__main__":
    sys.exit(main())
