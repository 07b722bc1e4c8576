"""What the console says at the end."""

from ml_playground.training.hooks.console_text import Numbers, end_line, start_line


def test_end_line_of_a_run_that_goes_back_says_where_to() -> None:
    """Nobody is told of a checkpoint that there is none of."""
    assert end_line(Numbers("a/b", "token", 9), None, None).endswith(": goes back to its beginning")
    assert end_line(Numbers("a/b", "token", 9, saved_step=4), None, None).endswith(
        ": goes back to the checkpoint of step 4"
    )


def test_end_line_after_the_second_ctrl_c_says_what_the_same_command_does() -> None:
    """Not a failure, and nothing to worry about."""
    numbers = Numbers("toy/run", "token", 60, step=43, targets=100.0, elapsed_s=2.0)
    assert end_line(numbers, None, KeyboardInterrupt()).endswith(
        ": interrupted; the same command does the steps since the last save again"
    )


def test_start_line_what_the_flight_check_found_stands_on_lines_of_its_own() -> None:
    """The run, then what it needs, then what its user should know."""
    facts = {
        "parameters": "12",
        "passed over": "step_000020 is damaged",
        "checked": "peak 1 GB",
        "notes": "a prompt is too long",
    }
    numbers = Numbers("toy/1", "token", 60, facts=facts)
    assert start_line(numbers).split("\n") == [
        "training toy/1: 60 steps (parameters 12)",
        "passed over: step_000020 is damaged",
        "checked: peak 1 GB",
        "notes: a prompt is too long",
    ]


def test_start_line_of_a_single_step_is_in_the_singular() -> None:
    """As people say it."""
    assert start_line(Numbers("toy/1", "token", 1)) == "training toy/1: 1 step"


def test_end_line_of_a_run_that_ended_early_says_what_its_hooks_say() -> None:
    """A run that used its minutes was not stopped early."""
    assert end_line(Numbers("a/b", "token", 9), "stopped_early", None).endswith(": stopped early")
    used = Numbers("a/b", "token", 9, early_end="used its 1 minute")
    assert end_line(used, "stopped_early", None).endswith(": used its 1 minute")


def test_end_line_of_a_run_whose_numbers_gave_out_holds_for_spikes_too() -> None:
    """It may be a loss of 11 that is too high, which is a number; what it was is said by the command."""
    assert end_line(Numbers("a/b", "token", 9), "nan", None).endswith(": ended: the numbers gave out")
