"""Lines that outlive the hooks which wrote them."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.core.atomic import append_lines, read_lines
from ml_playground.training.hooks.records import Appender, cut_after, step_of, tell_stderr
from tests.fakes.hooks import Told


def test_appender_path_cannot_be_written_keeps_lines_until_it_can(tmp_path: Path) -> None:
    """A full disk costs neither the run nor, once there is room, a line; it is said once, and once when it is over."""
    told, path = Told(), tmp_path / "rows.jsonl"
    appender = Appender(path, "metrics", told)
    path.mkdir()
    appender.append(["1"])
    appender.append(["2"])
    path.rmdir()
    appender.append(["3"])
    assert read_lines(path) == ["1", "2", "3"]
    assert len(told) == 2
    assert told[0].startswith(f"metrics are kept in memory for now, training goes on: Could not write {path}")
    assert told[1] == f"metrics are written to {path} again"


@given(steps=st.lists(st.integers(0, 50)), first_step=st.integers(0, 50))
def test_cut_after_any_rows_keeps_exactly_those_that_are_not_written_again(
    tmp_path: Path, steps: list[int], first_step: int
) -> None:
    """What stays is what the resumed process will not compute; kept and dropped are all."""
    path = tmp_path / "rows.jsonl"
    path.unlink(missing_ok=True)
    append_lines(path, [json.dumps({"step": step}) for step in steps])
    dropped = cut_after(path, first_step)
    kept = [step_of(line) for line in read_lines(path)]
    assert kept == [step for step in steps if first_step > 0 and step <= first_step]
    assert dropped + len(kept) == len(steps)


@pytest.mark.parametrize("line", ["", "[1]", "{", '{"step": "1"}', "{}"])
def test_step_of_no_row_is_none(line: str) -> None:
    """Damaged lines have no step, and are cut."""
    assert step_of(line) is None


def test_tell_stderr_writes_a_line_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """Stdout is for what a command prints."""
    tell_stderr("hello")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "hello\n")
