"""Laws of checking data: counts of a naive reference, the same result however a file is read, and nothing lost on the way to quarantine."""

import base64
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.core.values import ChatExample, Message
from ml_playground.data_pipeline.checks.checking_rows import RowCheck, check_rows
from ml_playground.data_pipeline.checks.checking_texts import check_texts
from ml_playground.data_pipeline.checks.degenerate import MOST_CHARACTERS, repeated_characters, repeats_itself
from ml_playground.data_pipeline.checks.held_out import SplitWatcher
from ml_playground.data_pipeline.checks.inputs import Input, file_input
from ml_playground.data_pipeline.checks.marks import RowMarks
from ml_playground.data_pipeline.checks.mojibake import runs
from ml_playground.data_pipeline.checks.outliers import LogHistogram
from ml_playground.data_pipeline.checks.quarantine import separate_rows
from ml_playground.data_pipeline.checks.report import Report
from ml_playground.data_pipeline.checks.row_scan import scan_row
from ml_playground.data_pipeline.checks.stretches import stretches
from ml_playground.data_pipeline.checks.turns import LEAST_LEAK, chat_faults, role_faults
from ml_playground.data_pipeline.sources.jsonl_rows import lines
from ml_playground.data_pipeline.sources.packed_files import packing_of
from tests.fakes.prepared_text import text_settings
from tests.fakes.texts_of_languages import clean_texts, misread

PLANTED = [
    "\0",
    "\x1b[31m",
    "\x85",
    "\ufeff",
    "\ufffd",
    misread("größer", "cp1252"),
    misread("中文", "latin-1"),
    "\x07\x07",
]
PROSE = (
    "Most of a text is sound: whoever reads it finds a sentence, and another one, with nothing between them but a space. "
    "A file of which a third is NUL would be no text in bytes at all, however many letters its halves spell out; so there "
    "is enough of it here to hold that share low, whatever stands above, and none of these words comes near any limit."
)
damaged_lines = st.lists(st.sampled_from(["plain", "schön", "", *PLANTED]), max_size=4).map(" ".join)
damaged_texts = st.lists(damaged_lines, max_size=12).map("\n".join)


def in_blocks(content: bytes, size: int, name: str = "text", *, held_out: bool = False) -> Input:
    """A document that is read some bytes at a time."""

    def blocks() -> Iterator[bytes]:
        return (content[start : start + size] for start in range(0, len(content), size))

    return Input(name, blocks, held_out=held_out)


def counts(report: Report) -> dict[str, int]:
    """What was found, how often."""
    return {finding.code: finding.count for finding in report.findings}


def naive_counts(text: str) -> Counter[str]:
    """Line by line and letter by letter, as one would write it down first."""
    found: Counter[str] = Counter()
    for line in text.split("\n"):
        mojibake = list(runs(line))
        rest = line
        for run in mojibake:
            rest = rest.replace(line[run.start : run.end], " ")
        found["mojibake"] += bool(mojibake)
        found["nul"] += "\0" in rest
        controls = [
            letter for letter in rest if (letter < " " or "\x7f" <= letter < "\xa0") and letter not in "\t\n\f\r\0"
        ]
        found["control_character"] += bool(controls)
        found["byte_order_mark"] += "\ufeff" in rest
        found["replacement_character"] += "\ufffd" in rest
    return +found


@given(damaged_texts)
def test_counts_of_damaged_lines_are_those_of_a_naive_reference(text: str) -> None:
    """Screens over whole stretches must not hide what a look at each line finds."""
    text = f"{text}\n{PROSE}"
    found = counts(check_texts([in_blocks(text.encode(), 1 << 18)], most_examples=0).report)
    assert found == naive_counts(text)


@given(clean_texts().filter(lambda text: any(map(str.isalnum, text))))
def test_clean_text_of_any_language_has_no_findings(text: str) -> None:
    """Not even something that is only good to know."""
    assert check_texts([in_blocks(text.encode(), 1 << 18)], most_examples=3).report.findings == ()


@given(damaged_texts, st.integers(1, 200))
def test_findings_do_not_depend_on_how_a_text_is_read(text: str, size: int) -> None:
    """Counts, places, excerpts: all of it."""
    content = (text + "\n\n" + "to be or not to be " * 20 + "\n\n").encode() * 2
    whole = check_texts([in_blocks(content, 1 << 18)], most_examples=5).report
    assert check_texts([in_blocks(content, size)], most_examples=5).report == whole


@given(
    st.lists(
        st.sampled_from([b"a", "ä".encode(), "中".encode(), b"\n", b"\n\n", b"  ", b"\r\n", b"\xff"]),
        min_size=20,
        max_size=80,
    ),
    st.integers(1, 50),
    st.integers(1, 40),
    st.integers(8, 40),
)
def test_stretches_are_decided_by_the_text_alone(pieces: list[bytes], size: int, least: int, more: int) -> None:
    """They lose nothing, begin where they say, and cut no character."""
    content = b"".join(pieces)
    blocks = [content[start : start + size] for start in range(0, len(content), size)]
    found = list(stretches(blocks, least, least + more))
    assert found == list(stretches([content] if content else [], least, least + more))
    assert b"".join(stretch.data for stretch in found) == content
    for stretch in found:
        assert content[: stretch.offset].count(b"\n") == stretch.line - 1
        assert 0 < len(stretch.data) <= least + more
        if b"\xff" not in content:
            stretch.data.decode()


@given(
    st.text("ab ä中\n", max_size=30),
    st.sampled_from("aä中😀="),
    st.integers(1, 3 * MOST_CHARACTERS),
    st.text("ab ä中\n", max_size=90),
)
def test_repeated_character_is_found_from_its_length_on(before: str, letter: str, times: int, after: str) -> None:
    """The screen over bytes sees each long run, of characters of any size, wherever it begins."""
    text = before.rstrip(letter) + letter * times + after.lstrip(letter)
    assert bool(list(repeated_characters(text.encode()))) == (times >= MOST_CHARACTERS)


@given(st.text(min_size=1, max_size=20), st.integers(0, 30))
def test_phrase_over_and_over_repeats_itself(phrase: str, start: int) -> None:
    """Whatever is said, some hundred times are enough."""
    text = (phrase * 900).encode("utf-8", "replace")[start:]
    assert repeats_itself(text)


@given(st.lists(st.floats(1, 1e6), min_size=30, max_size=80), st.floats(1, 1e9))
def test_outliers_are_what_lies_outside_of_the_fences(values: list[float], other: float) -> None:
    """Counting bins and asking of each number give one answer."""
    found = LogHistogram()
    for value in [*values, other]:
        found.add(value)
    fences = found.fences()
    assert fences is not None
    expected = sum(map(fences.below, [*values, other])), sum(map(fences.above, [*values, other]))
    assert found.outside(fences) == expected


INITIALS = {"s": "system", "u": "user", "a": "assistant", "t": "tool", "x": "robot"}


@given(st.text("suatx", min_size=1, max_size=8))
def test_turns_are_judged_as_a_grammar_says(initials: str) -> None:
    """Who speaks when, written as a word over the initials of the roles."""
    codes = {fault.code for fault in role_faults(tuple(INITIALS[initial] for initial in initials))}
    spoken = initials.replace("s", "")
    assert ("unknown_role" in codes) == ("x" in initials)
    assert ("system_not_first" in codes) == ("s" in initials[1:])
    assert ("same_role_twice" in codes) == ("uu" in spoken or "aa" in spoken)
    assert ("no_assistant" in codes) == ("a" not in initials)
    assert ("starts_with_assistant" in codes) == spoken.startswith("a")
    assert ("ends_without_answer" in codes) == ("a" in spoken and not spoken.endswith("a"))
    if re.fullmatch("s?(ut{0,2}a)+", initials):
        assert codes == set()


@given(st.text(max_size=40), st.text(min_size=1, max_size=60), st.text(max_size=40))
def test_answer_in_its_question_is_found_from_its_length_on(before: str, answer: str, after: str) -> None:
    """Planted anywhere in the question; a short one is a name that was asked about."""
    chat = ChatExample("", (Message("user", before + answer + after), Message("assistant", answer)))
    found = "answer_in_prompt" in {fault.code for fault in chat_faults(chat)}
    assert found == (len(answer.strip()) >= LEAST_LEAK)


messages = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["user", "assistant", "system", "tool", "robot"]),
            "content": st.sampled_from(["hi", "hi ", "", "to be or not to be, that is it", "schÃ¶n", "\x07"]),
        }
    ),
    max_size=3,
)
raw_rows = st.one_of(
    messages.map(lambda found: json.dumps({"messages": found}).encode()),
    st.tuples(st.sampled_from("abc"), st.sampled_from(["yes", "no", " yes"])).map(
        lambda pair: json.dumps({"prompt": pair[0], "completion": pair[1]}).encode()
    ),
    st.sampled_from(
        [b"", b"{", b"[1]", b'{"text": "\xff"}', b'{"text": "\xc3\xa4"}', b'{"a": NaN}', b'{"text": ""}', b"\r"]
    ),
)
# Whatever JSON may hold, halves of surrogate pairs and terminal sequences among it; and bytes that are none.
words = st.text(st.sampled_from('aä😀\ud83d\x1b\0 \n"\\{['), max_size=6)
strange_rows = st.one_of(
    st.binary(max_size=20).map(lambda raw: raw.replace(b"\n", b"")),
    st.dictionaries(words, words, max_size=2).map(lambda row: json.dumps(row).encode()),
    st.tuples(words, words, words).map(
        lambda row: json.dumps(
            {"messages": [{"role": row[0], "content": row[1]}, {"role": "assistant", "content": row[2]}]}
        ).encode()
    ),
)
# By its first bytes a file is known to be packed.
row_files = st.lists(raw_rows | strange_rows, min_size=1, max_size=25).filter(
    lambda rows: packing_of("rows.jsonl", b"\n".join(rows)) is None
)


def checked(rows: Sequence[bytes], size: int = 1 << 18, val: Sequence[bytes] = (), **options: Any) -> RowCheck:
    """The rows as a file, and others held out."""
    files = [in_blocks(b"\n".join(rows), size, "train")]
    files += [in_blocks(b"\n".join(val), size, "val", held_out=True)] if val else []
    return check_rows(files, most_examples=options.pop("most_examples", 4), **options)


@given(row_files, st.integers(1, 60))
def test_findings_do_not_depend_on_how_rows_are_read(rows: list[bytes], size: int) -> None:
    """A row that two blocks share is one row."""
    content = [*rows, b'{"text": "end"}']
    assert checked(content, size).report == checked(content).report


@given(row_files, row_files)
def test_counts_of_rows_are_those_of_the_rows_judged_again(rows: list[bytes], val: list[bytes]) -> None:
    """What is written away is what was counted; leaks are counted where they are validated on, and taken out of the training."""
    judged: Counter[str] = Counter()
    number = 0
    with RowMarks() as marks:
        check = checked([*rows, b'{"text": "end"}'], val=val, most_characters=10, marks=marks)
        marked = marks.reader()
        for content in (b"\n".join([*rows, b'{"text": "end"}']), b"\n".join(val)):
            for line in lines([content]):
                judged.update(fault.code for fault in check.faults(scan_row(line)))
                judged.update(marked.codes(number))
                number += 1
    found = counts(check.report)
    assert bool(found.pop("validation_leak", 0)) == bool(judged.pop("validation_leak", 0))
    assert found == judged
    assert number == check.report.rows


@given(rows=row_files)
def test_quarantine_and_clean_rows_together_are_the_input(
    rows: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Byte for byte and in order, and the input itself stays as it was; where only blank rows are left there is no clean file."""
    folder = tmp_path_factory.mktemp("rows")
    source, away, clean = folder / "rows.jsonl", folder / "bad.jsonl", folder / "good.jsonl"
    source.write_bytes(b"".join(row + b"\n" for row in rows))
    before = source.read_bytes()
    files = [file_input(source)]
    with RowMarks() as marks:
        check = check_rows(files, most_examples=0, marks=marks)
        separated = separate_rows(files, check, marks, away, clean)
    entries = [json.loads(line) for line in away.read_bytes().splitlines()]
    bad = {entry["line"]: original(entry) for entry in entries}
    left = [row for number, row in enumerate(rows, 1) if number not in bad]
    assert clean.exists() == any(row.strip() for row in left)
    good = iter(clean.read_bytes().split(b"\n")[:-1] if clean.exists() else left)
    assert [bad[number] if number in bad else next(good) for number in range(1, len(rows) + 1)] == rows
    assert next(good, None) is None
    assert (separated.bad, separated.good) == (len(entries), len(left) if clean.exists() else 0)
    assert source.read_bytes() == before
    assert all(entry["codes"] and entry["reason"] and entry["file"] == str(source) for entry in entries)


def original(entry: dict[str, Any]) -> bytes:
    """The row of a quarantine's entry."""
    return base64.b64decode(entry["row_base64"]) if "row_base64" in entry else entry["row"].encode()


@given(rows=row_files)
def test_clean_rows_have_no_errors_or_warnings_left(
    rows: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Going on with the clean file is what the command recommends."""
    folder = tmp_path_factory.mktemp("rows")
    source, clean = folder / "rows.jsonl", folder / "good.jsonl"
    source.write_bytes(b"".join(row + b"\n" for row in [*rows, b'{"text": "end"}']))
    files = [file_input(source)]
    with RowMarks() as marks:
        separate_rows(files, check_rows(files, most_examples=0, marks=marks), marks, None, clean)
    again = check_rows([file_input(clean)], most_examples=1).report
    assert [finding.code for finding in again.findings if finding.check.severity != "info"] == []


paragraphs = st.sampled_from([f"{letter * 3} says what {letter} says. " * 12 for letter in "abcdefg"] + ["short"])
documents = st.lists(st.lists(paragraphs, min_size=1, max_size=3).map("\n\n".join), min_size=1, max_size=12)


@given(documents, st.data(), st.sampled_from(["position", "document"]))
def test_copies_that_are_dropped_change_nothing_of_what_leaks(
    texts: list[str], data: st.DataObject, split_by: str
) -> None:
    """With copies put in anywhere and dropped again, exactly the passages leak that leak without them."""
    texts = list(dict.fromkeys(texts))
    copied = list(texts)
    for _ in range(data.draw(st.integers(0, 5))):
        # Behind its original, as far as one likes.
        place = data.draw(st.integers(1, len(copied)))
        copied.insert(place, data.draw(st.sampled_from(copied[:place])))

    def leaks(contents: list[str], duplicates: str) -> dict[str, int]:
        settings = text_settings(Path("texts"), split_by=split_by, val_fraction=0.3, duplicates=duplicates)
        files = [in_blocks(text.encode(), 1 << 18, f"{number}") for number, text in enumerate(contents)]
        report = check_texts(files, most_examples=0, split=SplitWatcher(settings)).report
        return {code: number for code, number in counts(report).items() if code.startswith("validation")}

    assert leaks(copied, "drop") == leaks(texts, "keep")
