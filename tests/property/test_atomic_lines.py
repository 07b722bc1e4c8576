"""Lines survive a writer that is killed at any byte."""

from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from ml_playground.core.atomic import append_lines, cut_lines, read_lines

LINES = st.lists(st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=8), max_size=6)


@given(lines=LINES, more=LINES, data=st.data())
def test_append_torn_at_any_byte_keeps_every_complete_line(
    lines: list[str], more: list[str], data: st.DataObject
) -> None:
    """After a torn write a reader sees a beginning of the lines, and the next writer goes on behind it."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        append_lines(path, lines)
        content = path.read_bytes()[: data.draw(st.integers(0, path.stat().st_size))]
        path.write_bytes(content)
        survived = read_lines(path)
        assert survived == lines[: content.count(b"\n")]
        append_lines(path, more)
        assert read_lines(path) == survived + more


@given(lines=LINES, allowed=st.sets(st.integers(0, 5)))
def test_cut_any_rule_keeps_the_order_of_the_rest(lines: list[str], allowed: set[int]) -> None:
    """What is kept and what is counted as dropped make up the whole."""
    numbered = [f"{number}:{line}" for number, line in enumerate(lines)]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.jsonl"
        append_lines(path, numbered)
        dropped = cut_lines(path, lambda line: int(line.partition(":")[0]) in allowed)
        assert read_lines(path) == [line for number, line in enumerate(numbered) if number in allowed]
        assert dropped == len(lines) - len(read_lines(path))
