"""Each code of the table: what it is found in, and that what is right beside it is not."""
# ruff: noqa: RUF001 - letters that look like others are what this is about

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ml_playground.core.error_handling import DataError
from ml_playground.core.values import Document
from ml_playground.data_pipeline.checks.checking_rows import check_rows
from ml_playground.data_pipeline.checks.checking_texts import check_texts
from ml_playground.data_pipeline.checks.encodings import fitting_encoding
from ml_playground.data_pipeline.checks.findings import excerpt_of
from ml_playground.data_pipeline.checks.held_out import SplitWatcher
from ml_playground.data_pipeline.checks.inputs import Input, document_inputs, file_input, named_input
from ml_playground.data_pipeline.checks.marks import RowMarks
from ml_playground.data_pipeline.checks.quarantine import separate_lines, separate_rows
from ml_playground.data_pipeline.checks.report import Report
from ml_playground.data_pipeline.checks.row_codes import ROW_CODES
from ml_playground.data_pipeline.checks.table import CHECKS
from ml_playground.data_pipeline.checks.text_codes import TEXT_CODES
from ml_playground.data_pipeline.settings import TextFile
from ml_playground.data_pipeline.source_protocol import FileSource, NamedFile
from ml_playground.data_pipeline.sources.text_file import TextFiles
from tests.fakes.prepared_text import text_settings, write_texts

PARAGRAPH = (
    "It was a bright cold day in April, and the clocks were striking thirteen; he slipped quickly through the glass doors. "
    * 2
)
OTHER = (
    "Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in my purse, I went to sea. "
    * 2
)


def chat(*turns: str, **others: Any) -> str:
    """A row; each turn is the initial of a role and its words."""
    roles = {"s": "system", "u": "user", "a": "assistant", "t": "tool", "x": "robot"}
    return json.dumps({"messages": [{"role": roles[turn[0]], "content": turn[2:]} for turn in turns], **others})


def texts(*contents: str | bytes) -> list[Input]:
    """Documents `0`, `1`, ..."""
    return [
        Input(str(number), lambda content=content: iter([content if isinstance(content, bytes) else content.encode()]))
        for number, content in enumerate(contents)
    ]


def of_texts(*contents: str | bytes, **options: Any) -> Report:
    """The report on texts."""
    return check_texts(texts(*contents), most_examples=5, **options).report


def of_rows(rows: Sequence[str | bytes], val: Sequence[str] = (), **options: Any) -> Report:
    """The report on rows, and on others that are held out."""
    content = b"".join((row if isinstance(row, bytes) else row.encode()) + b"\n" for row in rows)
    files = [Input("train", lambda: iter([content]))]
    if val:
        files.append(Input("val", lambda: iter(["".join(f"{row}\n" for row in val).encode()]), held_out=True))
    return check_rows(files, most_examples=5, **options).report


def places(report: Report, code: str) -> list[tuple[str, int]]:
    """File and line of each example."""
    return [
        (example.place.file, example.place.line)
        for finding in report.findings
        if finding.code == code
        for example in finding.examples
    ]


TEXTS: Mapping[str, tuple[Sequence[str | bytes], list[tuple[str, int]]]] = {
    "wrong_encoding": (["fine\n", b"fine\nGr\xfc\xdfe\n"], [("1", 2)]),
    "nul": (["a\nb\0c\n"], [("0", 2)]),
    "lone_surrogate": ([], []),
    "control_character": (["a\n\x1b[31mred\x1b[0m\n"], [("0", 2)]),
    "byte_order_mark": (["\ufeffa\nb\ufeff\n"], [("0", 1), ("0", 2)]),
    "replacement_character": (["a\nGr\ufffd\ufffde\n"], [("0", 2)]),
    "mojibake": (["a\nGrÃ¼ÃŸe\n"], [("0", 2)]),
    "empty_document": (["a", " \n\t\n"], [("1", 1)]),
    "no_letters": (["a", "?!\n---\n"], [("1", 1)]),
    "repeated_character": (["a\n" + "=" * 200 + "\n"], [("0", 2)]),
    "repeated_line": (["a\n\nb\n" + "again\n" * 50], [("0", 4)]),
    "repeats_itself": (["I am a model. " * 100], [("0", 1)]),
    "long_line": (["a\n" + " ".join(map(str, range(30_000))) + "\n"], [("0", 2)]),
    "mixed_line_ends": (["a\n", "a\r\nb\n"], [("1", 1)]),
    "duplicate_document": ([PARAGRAPH, "c", PARAGRAPH], [("2", 1)]),
    "near_duplicate_document": ([PARAGRAPH, "c", PARAGRAPH.replace(" ", "\n")], [("2", 1)]),
    "duplicate_paragraph": ([PARAGRAPH + "\n\n" + " ".join(map(str, range(3000))) + "\n\n" + PARAGRAPH], [("0", 5)]),
    "much_duplicate_text": (["a\n\n" + PARAGRAPH, OTHER, "b\n\n" + PARAGRAPH], [("2", 3)]),
}


def weighted(*turns: tuple[str, float | None]) -> str:
    """A row of roles and the weights of what they say."""
    return json.dumps({"messages": [{"role": role, "content": "words", "weight": weight} for role, weight in turns]})


FINE = chat("u:What is the capital of France?", "a:Paris.")
LONG = "the quick brown fox jumps over the lazy dog"
ROWS: Mapping[str, tuple[Sequence[str | bytes], list[int]]] = {
    "wrong_encoding": ([FINE, b'{"text": "Gr\xfc\xdfe, sch\xf6n"}'], [2]),
    "nul": ([FINE, chat("u:a", "a:b\0")], [2]),
    "lone_surrogate": ([FINE, chat("u:a", "a:b").replace("b", r"\ud83d")], [2]),
    "control_character": ([FINE, chat("u:a", "a:\x1b[31mred")], [2]),
    "byte_order_mark": (["\ufeff" + FINE], [1]),
    "replacement_character": ([FINE, chat("u:a", "a:Gr\ufffde")], [2]),
    "mojibake": ([FINE, chat("u:a", "a:GrÃ¼ÃŸe"), json.dumps({"text": "schÃ¶n"}, ensure_ascii=False)], [2, 3]),
    "no_letters": ([FINE, chat("u:??", "a:!!")], [2]),
    "repeated_character": ([FINE, chat("u:a", "a:" + "ha" + "a" * 200)], [2]),
    "repeats_itself": ([FINE, chat("u:a", "a:" + "no more. " * 90)], [2]),
    "row_too_long": ([FINE, b'{"text": "' + b"a b " * (1 << 22) + b'"}', chat("u:a", "a:b")], [2]),
    "broken_json": ([FINE, FINE[:-1]], [2]),
    "nested_too_deep": ([FINE, '{"a": ' + "[" * 99 + "]" * 99 + "}"], [2]),
    "no_json_number": ([FINE, '{"text": "a", "score": NaN}'], [2]),
    "duplicate_key": ([FINE, '{"text": "a", "text": "b"}'], [2]),
    "not_an_object": ([FINE, "[]"], [2]),
    "blank_line": ([FINE, "", " \r"], [2, 3]),
    "unknown_shape": ([FINE, '{"mesages": []}'], [2]),
    "bad_message": ([FINE, '{"messages": [{"role": "user"}]}'], [2]),
    "empty_row": ([FINE, '{"messages": []}', '{"text": " "}'], [2, 3]),
    "unknown_role": ([FINE, chat("u:a", "x:b", "a:c")], [2]),
    "no_assistant": ([FINE, chat("s:a", "u:b")], [2]),
    "empty_answer": ([FINE, chat("u:a", "a: ")], [2]),
    "empty_message": ([FINE, chat("s:", "u:a", "a:b")], [2]),
    "system_not_first": ([FINE, chat("u:a", "s:b", "a:c")], [2]),
    "same_role_twice": ([FINE, chat("u:a", "u:b", "a:c")], [2]),
    "starts_with_assistant": ([FINE, weighted(("assistant", 0), ("user", None), ("assistant", None))], [2]),
    "orphan_answer": ([FINE, chat("s:z", "a:a", "u:b", "a:c")], [2]),
    "nothing_trained": ([FINE, weighted(("user", None), ("assistant", 0))], [2]),
    "same_answers": ([FINE, '{"prompt": "a", "chosen": "b", "rejected": "b"}'], [2]),
    "bad_tools": ([FINE, chat("u:a", "a:b", tools=3), chat("u:c", "a:d", tools="{")], [2, 3]),
    "ends_without_answer": ([FINE, chat("u:a", "a:b", "u:c")], [2]),
    "few_answers": ([FINE, chat("u:a", "t:b", "t:c", "t:d", "a:e")], [2]),
    "answer_in_prompt": ([FINE, chat(f"u:Say: {LONG}!", f"a:{LONG}")], [2]),
    "duplicate_row": ([FINE, chat("u:a", "a:b"), FINE], [3]),
    "near_duplicate_row": ([FINE, FINE.replace("Paris.", " Paris.\\n")], [2]),
    "different_answers": ([chat("u:a", "a:b"), FINE, chat("u:a", "a:c")], [1, 3]),
    "long_row": ([chat(f"u:What is {n}?", "a:A number." * (50 if n == 20 else 1)) for n in range(40)], [21]),
    "odd_ratio": ([chat(f"u:What is {n}?", "a:A number." * (50 if n == 20 else 1)) for n in range(40)], [21]),
}


@pytest.mark.parametrize("code", [code for code, (contents, _) in TEXTS.items() if contents])
def test_planted_fault_of_a_text_is_found_where_it_is(code: str) -> None:
    """By document and line."""
    contents, expected = TEXTS[code]
    assert places(of_texts(*contents), code) == expected


@pytest.mark.parametrize("code", list(ROWS))
def test_planted_fault_of_a_row_is_found_where_it_is(code: str) -> None:
    """By line."""
    rows, expected = ROWS[code]
    assert [line for _, line in places(of_rows(rows), code)] == expected


def test_every_code_has_a_planted_fault() -> None:
    """A code that nothing reports is a promise that nobody keeps."""
    elsewhere = {"refused", "unreadable", "validation_leak", "validation_overlap"}
    assert set(TEXTS) | set(ROWS) | elsewhere == set(CHECKS)
    assert not set(TEXT_CODES) & set(ROW_CODES)


@pytest.mark.parametrize("code", list(CHECKS))
def test_words_of_a_code_are_sentences(code: str) -> None:
    """What is counted, what it is, one sentence each on its effect and what to do."""
    check = CHECKS[code]
    assert check.unit.isalpha() and not check.title.endswith(".")
    assert check.effect.endswith(".") and check.remedy.endswith(".")
    assert check.effect[0].isupper() and check.remedy[0].isupper()


def test_clean_rows_have_no_findings() -> None:
    """Short answers, tools, several turns, Chinese, code, plain text."""
    rows = [
        FINE,
        chat("s:Be brief.", "u:2 + 2?", "a:4"),
        chat("u:Hi", "a:Hello!", "u:Weather?", "t:sunny", "a:Sunny.", "u:Thanks", "a:👍"),
        chat("u:法国的首都是哪里？", "a:巴黎"),
        json.dumps({"prompt": "Print é in Python", "completion": "print('é')\n"}),
        json.dumps({"text": "Once upon a time."}, ensure_ascii=False),
    ]
    assert of_rows(rows).findings == ()


def test_notes_say_what_exactly_is_wrong() -> None:
    """What it would be mended to, which encoding fits, which column."""
    report = of_texts("schÃ¶n\n", b"Gr\xfc\xdfe aus K\xf6ln\n")
    assert [(one.code, one.examples[0].note) for one in report.findings] == [
        ("wrong_encoding", "byte 0xfc; the encoding that fits: cp1252"),
        ("mojibake", "would be 'ö'"),
    ]
    rows = of_rows([FINE[:-1], b'{"text": "Gr\xfc\xdfe"}', chat("u:Hi", "a:Hi"), chat("u: Hi", "a:Hi")])
    assert {one.code: one.examples[0].note for one in rows.findings} == {
        "broken_json": f"column {len(FINE)}: Expecting ',' delimiter, got the end of the line",
        "wrong_encoding": "column 13: byte 0xfc is no UTF-8 (invalid start byte); the encoding that fits: cp1252",
        "near_duplicate_row": "as train:3",
    }


def test_findings_are_sorted_by_how_bad_they_are() -> None:
    """Errors first; what is frequent before what is rare."""
    report = of_rows(["{", "{", chat("u:a", "x:b"), chat("u:a", "a:b"), chat("u:a", "a:b"), ""])
    assert [(one.check.severity, one.count) for one in report.findings] == [
        ("error", 2),
        ("error", 1),
        ("error", 1),
        ("warning", 1),
        ("info", 1),
    ]
    assert [report.count(severity) for severity in ("error", "warning", "info")] == [3, 1, 1]


def test_utf_16_is_one_error_that_names_it() -> None:
    """Each of its lines would be one, and none would say what to do."""
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        (finding,) = of_texts("hello, world\n".encode(encoding) * 3).findings
        assert (finding.code, finding.count) == ("wrong_encoding", 1)
        assert encoding in finding.examples[0].note or finding.examples[0].note == "it is utf-16"


def test_binary_file_is_one_error_that_says_so() -> None:
    """No encoding would help: it is left out, as preparing says."""
    (finding,) = of_texts(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\n\xff\xfe\n" * 50).findings
    assert (finding.code, finding.count, finding.examples[0].note) == ("nul", 1, "the file is binary")


SAMPLES = {
    "cp1252": "Schöne Grüße aus Köln, für 5 €",
    "cp1250": "Zażółć gęślą jaźń, proszę bardzo",
    "cp1251": "Съешь же ещё этих мягких французских булок, да выпей чаю",
    "koi8_r": "Съешь же ещё этих мягких французских булок, да выпей чаю",
    "shift_jis": "これはペンです。ありがとうございます",
    "euc_jp": "これはペンです。ありがとうございます",
    "euc_kr": "안녕하세요 세계, 반갑습니다",
    "gb18030": "你好，世界。我们学习机器的语言。",
    "big5": "你好，世界。我們學習機器的語言。",
    "utf-16": "hello, world",
}


@pytest.mark.parametrize("encoding", list(SAMPLES))
def test_encoding_of_a_sample_is_named(encoding: str) -> None:
    """The one it was written in, among the usual ones."""
    assert fitting_encoding(SAMPLES[encoding].encode(encoding)) == encoding


def test_encoding_of_noise_is_not_named() -> None:
    """A guess that is wrong costs more than none."""
    assert fitting_encoding(bytes(range(0x80, 0x100))) is None
    assert fitting_encoding(b"\x00\xff\x13") is None


def test_leak_of_rows_into_validation_is_found_by_the_question() -> None:
    """The same question with another answer is known too."""
    report = of_rows(
        [FINE, chat("u:b", "a:c"), '{"text": "once"}'], [chat("u:b", "a:d"), '{"text": "once"}', chat("u:x", "a:y")]
    )
    assert places(report, "validation_leak") == [("val", 1), ("val", 2)]


def test_leak_of_texts_into_validation_is_weighed_by_its_share() -> None:
    """A licence in a thousand pages is no reason to doubt the loss."""
    much = [*texts(PARAGRAPH), Input("val", lambda: iter([PARAGRAPH.encode()]), held_out=True)]
    little = [
        *texts(PARAGRAPH),
        Input("val", lambda: iter([(PARAGRAPH + "\n\n" + " ".join(map(str, range(9000)))).encode()]), held_out=True),
    ]
    assert places(check_texts(much, most_examples=1).report, "validation_leak") == [("val", 1)]
    assert places(check_texts(little, most_examples=1).report, "validation_overlap") == [("val", 1)]


@pytest.mark.parametrize("split_by", ["position", "document", "hash"])
def test_leak_within_a_source_is_found_by_its_split(tmp_path: Path, split_by: str) -> None:
    """Whatever way the settings split, a paragraph on both sides is one, and one on one side is none."""
    names = [f"{number}.txt" for number in range(20)]
    contents = {name: f"{name} {OTHER.replace('sea', name)}\n" for name in names}
    folder = write_texts(tmp_path, contents)
    settings = text_settings(folder, split_by=split_by, val_fraction=0.3)
    none = check_texts(map(file_input, sorted(folder.iterdir())), most_examples=1, split=SplitWatcher(settings))
    assert [one.code for one in none.report.findings] == []
    write_texts(tmp_path, {name: contents[name] + "\n" + PARAGRAPH for name in names})
    inputs = [named_input(NamedFile(name, folder / name, "utf-8")) for name in sorted(names)]
    both = check_texts(inputs, most_examples=1, split=SplitWatcher(settings))
    assert {one.code for one in both.report.findings} == {"much_duplicate_text", "validation_leak"}


def test_source_that_refuses_its_text_is_one_error(tmp_path: Path) -> None:
    """In another encoding than UTF-8 the source itself reads, and says what is wrong."""
    folder = write_texts(tmp_path, {"a.txt": "fine"})
    (folder / "b.txt").write_bytes(b"\x81 undefined")
    source = TextFiles(TextFile(path=folder, encoding="cp1252"))
    assert isinstance(source, FileSource)
    (finding,) = check_texts(map(named_input, source.files()), most_examples=1).report.findings
    assert (finding.code, finding.count) == ("unreadable", 1)
    assert "b.txt is not cp1252: byte 0x81" in finding.examples[0].note


def test_documents_of_a_source_without_files_are_checked() -> None:
    """Pieces of one document are one; a plugin may bring such a source."""

    class Speeches:
        def documents(self) -> Iterable[Document]:
            yield from [Document("a", "GrÃ¼"), Document("a", "ÃŸe\n"), Document("b", "fine\n")]

    report = check_texts(document_inputs(Speeches()), most_examples=5).report  # type: ignore[arg-type]
    assert places(report, "mojibake") == [("a", 1)]
    assert report.documents == 2


def test_empty_files_of_rows_are_an_error(tmp_path: Path) -> None:
    """Nothing was checked; that must not look like success."""
    (tmp_path / "rows.jsonl").write_bytes(b"")
    with pytest.raises(DataError, match="no row to check"):
        check_rows([file_input(tmp_path / "rows.jsonl")], most_examples=1)


@pytest.mark.parametrize(("name", "words"), [("gone.txt", "does not exist"), (".", "is a folder")])
def test_file_that_is_none_is_an_error(tmp_path: Path, name: str, words: str) -> None:
    """Before anything is read."""
    with pytest.raises(DataError, match=words):
        file_input(tmp_path / name)


def test_excerpts_are_short_and_cannot_disturb_a_terminal() -> None:
    """What was found, with a little around it."""
    shown = excerpt_of(b"a" * 100 + b"\x1b[31m\n" + b"b" * 100, 100, 101)
    assert shown.startswith("…aaa") and shown.endswith("bbb…")
    assert r"\x1b[31m\n" in shown
    assert len(shown) < 120


def test_excerpt_shows_broken_bytes_and_whole_characters() -> None:
    """What is no UTF-8 is seen; an `ä` that the cut goes through is not taken for it."""
    assert excerpt_of(b"sch\xf6n", 3, 4) == "sch\ufffdn"
    text = ("ä" * 40 + "!" + "ä" * 40).encode()
    for shift in (0, 1):
        shown = excerpt_of(b"-" * shift + text, 80 + shift, 81 + shift)
        assert set(shown) <= set("…ä!-")


def test_lines_are_counted_as_editors_count_them() -> None:
    """What ends with a line feed has no empty line after it."""
    assert [of_texts(text).rows for text in ("", "a", "a\n", "a\nb", "a\n\n")] == [0, 1, 1, 2, 2]


@pytest.mark.parametrize("later", ["", f"{FINE}\n{FINE}\n{FINE}\n", f"{FINE}\n{FINE} \n"])
def test_rows_that_change_between_the_passes_are_not_separated(tmp_path: Path, later: str) -> None:
    """What was found would be said of other rows; nothing is written then."""
    path, away, clean = tmp_path / "rows.jsonl", tmp_path / "bad.jsonl", tmp_path / "good.jsonl"
    path.write_text(f"{FINE}\n{FINE}\n")
    files = [file_input(path)]
    with RowMarks() as marks:
        check = check_rows(files, most_examples=1, marks=marks)
        path.write_text(later)
        with pytest.raises(DataError, match="changed while it was checked; nothing was written"):
            separate_rows(files, check, marks, away, clean)
    assert list(tmp_path.iterdir()) == [path]


def test_sources_name_their_files(tmp_path: Path) -> None:
    """In the order of their documents."""
    folder = write_texts(tmp_path, {"b.txt": "b", "a/c.txt": "c"})
    source = TextFiles(TextFile(path=folder))
    assert [file.name for file in source.files()] == [document.id for document in source.documents()]


def test_quarantine_of_a_text_without_line_ends_holds_one_entry(tmp_path: Path) -> None:
    """Each stretch of it has the same fault of the same line; said once, and none of the stretches is kept for it."""
    path, away = tmp_path / "one.txt", tmp_path / "bad.jsonl"
    path.write_text("0 " * 500_000)
    check = check_texts([file_input(path)], most_examples=1)
    separate_lines([file_input(path)], check, away, lambda done: None)
    (entry,) = map(json.loads, away.read_text().splitlines())
    assert (entry["line"], entry["codes"], entry["reason"].count("compresses")) == (1, ["repeats_itself"], 1)
