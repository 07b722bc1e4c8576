"""JSON Lines and Parquet as text: fields by name or path, what is counted, and every way in which a row is wrong."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ml_playground.configuration.sample_settings import SampleSettings
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.data_pipeline.sources import jsonl_text, parquet_rows
from ml_playground.data_pipeline.sources.jsonl_rows import MOST_LINE_BYTES
from ml_playground.data_pipeline.sources.settings import JsonlText, Parquet


def jsonl(path: Path, **settings: Any) -> jsonl_text.JsonlRows:
    """The source over a path."""
    return jsonl_text.build(JsonlText.model_validate({"path": path, **settings}), Deps())


def parquet(path: Path, **settings: Any) -> parquet_rows.ParquetRows:
    """The source over a path."""
    return parquet_rows.build(Parquet.model_validate({"path": path, **settings}), Deps())


def written(folder: Path, *rows: Any) -> Path:
    """Rows as JSON Lines; a text is a line as it is."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "a.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "a.jsonl"


def test_jsonl_rows_are_documents_named_by_file_and_line(tmp_path: Path) -> None:
    """Blank lines are no rows."""
    path = written(tmp_path, {"text": "one\ntwo"}, "", {"text": "three", "x": 1})
    found = [(document.id, document.text) for document in jsonl(path).documents()]
    assert found == [("a.jsonl:1", "\none\ntwo"), ("a.jsonl:3", "\nthree")]


def test_jsonl_field_may_lie_deep_and_have_dots(tmp_path: Path) -> None:
    """A key of that very name comes before a path."""
    path = written(tmp_path, {"a": {"b": {"c": "deep"}}}, {"a.b.c": "flat", "a": {"b": {"c": "deep"}}})
    assert [document.text for document in jsonl(path, content_column="a.b.c").documents()] == ["\ndeep", "\nflat"]


def test_jsonl_values_of_every_kind_become_words_on_one_line(tmp_path: Path) -> None:
    """Lists and objects are joined, numbers as a person writes them, null is nothing."""
    rows: list[Any] = [
        1999,
        1999.0,
        0.5,
        True,
        None,
        ["a", 1, None],
        {"a": {"b": 1, "c": None}, "d": []},
        " two\n words ",
    ]
    path = written(tmp_path, *({"text": "Hi", "x": value} for value in rows))
    found = [document.text for document in jsonl(path, template="<{x}>\n{content}").documents()]
    assert found == [
        *("<1999>\nHi", "<1999>\nHi", "<0.5>\nHi", "<true>\nHi", "Hi"),
        *("<a, 1>\nHi", "<a: b: 1>\nHi", "<two words>\nHi"),
    ]


def test_jsonl_rows_need_not_have_the_same_keys(tmp_path: Path) -> None:
    """Those without text are counted."""
    path = written(
        tmp_path, {"meta": 1}, {"text": "Hi"}, {"Rede": "Ho", "Redner": "Ann"}, {"text": None}, {"text": " "}
    )
    one = jsonl(path, template="{speaker}: {content}")
    assert [document.text for document in one.documents()] == [": Hi", "Ann: Ho"]
    assert one.counts().found == 5
    assert one.counts().left_out["no_content"].places == ("a.jsonl:1", "a.jsonl:4", "a.jsonl:5")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('{"text": ', r"^\S+/a\.jsonl:2: column 10: Expecting value, got the end of the line"),
        ("[1]", r"^\S+/a\.jsonl:2: "),
        ({"text": 5}, r"^\S+/a\.jsonl:2: 'text' is int, not text"),
        ({"text": "a\0b"}, r"^\S+/a\.jsonl:2: it holds NUL, which no text does"),
        ('{"text": "a\\ud800b"}', r"^\S+/a\.jsonl:2: it holds half a surrogate pair \('\\ud800'\)"),
        (
            '{"text": "' + "a" * MOST_LINE_BYTES + '"}',
            r"^\S+/a\.jsonl:2: the row has 16,777,228 bytes, at most 16,777,216 are",
        ),
    ],
    ids=["no json", "a list", "a number", "NUL", "surrogate", "long"],
)
def test_jsonl_broken_row_ends_or_is_counted(tmp_path: Path, row: Any, message: str) -> None:
    """With file and line; skipped only where that is set."""
    path = written(tmp_path, {"text": "Hi"}, row, {"text": "Ho"})
    with pytest.raises(DataError, match=message + r".*\. Mend the row, .*broken_rows=skip"):
        list(jsonl(path).documents())
    one = jsonl(path, broken_rows="skip")
    assert [document.text for document in one.documents()] == ["\nHi", "\nHo"]
    left = one.counts().left_out["broken"]
    assert (one.counts().found, left.documents, left.places) == (3, 1, ("a.jsonl:2",))


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        (
            [{"a": "Hi"}],
            {},
            r"a\.jsonl has 1 row, none of them with a text; the first has 'a'\. Set prepare\.source\.conte",
        ),
        ([{"text": "Hi"}], {"content_column": "a.b"}, r"column = 'a\.b' is in no row of \S+ \(the first has 'text'\)"),
        (
            [{"text": "Hi"}],
            {"template": "{x.y} {content}"},
            r"No row of .* has anything for \{x\.y\} in prepare\.source\.tem",
        ),
        (
            ["[1]", "{"],
            {"broken_rows": "skip"},
            r"a\.jsonl has 2 rows, none of which can be read \(the first is a\.jsonl:1\); set .*broken_rows = 'stop'",
        ),
        ([{"text": "Hi", "Text": "Ho"}], {}, r"a\.jsonl:1 has 2 columns that may be the content: 'text', 'Text'"),
    ],
)
def test_jsonl_that_gives_no_text_says_what_to_set(
    tmp_path: Path, rows: list[Any], settings: dict[str, Any], message: str
) -> None:
    """The setting, and what the first row has."""
    with pytest.raises(DataError, match=message):
        list(jsonl(written(tmp_path, *rows), **settings).documents())


def table(folder: Path, columns: dict[str, Any], **options: Any) -> Path:
    """A Parquet file."""
    pq.write_table(pa.table(columns), folder / "a.parquet", **options)
    return folder / "a.parquet"


def test_parquet_rows_are_documents_named_by_file_and_number(tmp_path: Path) -> None:
    """Nulls and blanks are counted, not given."""
    path = table(tmp_path, {"text": ["one", None, " ", "two"], "n": [1, 2, 3, 4]})
    one = parquet(path)
    assert [(document.id, document.text) for document in one.documents()] == [
        ("a.parquet:1", "\none"),
        ("a.parquet:4", "\ntwo"),
    ]
    assert one.counts().left_out["no_content"].places == ("a.parquet:2", "a.parquet:3")


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view", "dictionary"])
def test_parquet_text_may_be_stored_in_any_way(tmp_path: Path, kind: str) -> None:
    """Whatever wrote it."""
    kinds = {"string": pa.string(), "large_string": pa.large_string(), "string_view": pa.string_view()}
    values = pa.array(["a", "b", "a"])
    path = table(tmp_path, {"text": values.dictionary_encode() if kind == "dictionary" else values.cast(kinds[kind])})
    assert [document.text for document in parquet(path).documents()] == ["\na", "\nb", "\na"]


def test_parquet_dates_and_years_are_read_as_a_person_writes_them(tmp_path: Path) -> None:
    """A year with a null beside it is a float in pandas."""
    path = table(
        tmp_path,
        {"Rede": ["Hi", "Ho"], "Datum": [date(1999, 5, 4), None], "y": [1999.0, float("nan")], "z": [1.5, 2.0]},
    )
    found = parquet(path, template="{date}, {year}, {y}, {z}: {content}").documents()
    assert [document.text for document in found] == ["1999-05-04, 1999, 1999, 1.5: Hi", ", , , 2: Ho"]


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        (
            {"text": [1, 2]},
            {},
            r"a\.parquet: the column 'text' is int64, not text; set prepare\.source\.content_column",
        ),
        ({"a": ["x"], "b": ["y"]}, {}, r"has the columns 'a', 'b', none of which is called like a text"),
        (
            {"text": ["x"]},
            {"content_column": "tex"},
            r"content_column = 'tex' is none of the columns; did you mean 'text'",
        ),
    ],
)
def test_parquet_columns_that_do_not_fit_say_what_to_set(
    tmp_path: Path, columns: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    """As for CSV."""
    with pytest.raises((DataError, ConfigError), match=message):
        list(parquet(table(tmp_path, columns), **settings).documents())


def test_parquet_date_that_no_calendar_has_says_so(tmp_path: Path) -> None:
    """The library raises what it finds in Python for that; 10^8 days lie behind the year 9999."""
    path = table(tmp_path, {"text": ["a"], "date": pa.array([10**8], pa.int32()).cast(pa.date32())})
    with pytest.raises(
        DataError, match=r"a\.parquet cannot be read as Parquet: date value out of range\. Make it anew"
    ):
        list(parquet(path, template="{date} {content}").documents())


def test_parquet_that_is_none_says_so(tmp_path: Path) -> None:
    """And what to do."""
    (tmp_path / "a.parquet").write_text("text")
    with pytest.raises(
        DataError, match=r"a\.parquet cannot be read as Parquet: .*\. Make it anew, or name another file"
    ):
        list(parquet(tmp_path / "a.parquet").documents())


def test_parquet_that_was_damaged_says_so(tmp_path: Path) -> None:
    """In the middle of the text, where only reading finds it."""
    path = table(
        tmp_path, {"text": [f"{number} to be" for number in range(5_000)]}, compression="zstd", use_dictionary=False
    )
    content = bytearray(path.read_bytes())
    content[2_000:2_200] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.parquet cannot be read as Parquet"):
        list(parquet(path).documents())


def test_row_as_it_comes_begins_with_the_line_break_that_texts_go_on_from(tmp_path: Path) -> None:
    """Were the default prompt what stands before the end mark, the model would end every text at once."""
    (document,) = jsonl(written(tmp_path, {"text": "Hi there"})).documents()
    (prompt,) = SampleSettings().prompts
    assert document.text.startswith(prompt)
    assert not document.text.endswith(prompt)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("meta.txt", r"'meta\.txt' is in no row of \S+a\.jsonl; did you mean 'meta\.text'\? "),
        ("zzz", r"'zzz' is in no row of \S+a\.jsonl "),
    ],
)
def test_jsonl_field_that_no_row_has_names_those_there_are(tmp_path: Path, column: str, message: str) -> None:
    """Also those that lie deeper, by the path that would be set."""
    path = written(tmp_path, {"id": 1, "meta": {"text": "Hi", "empty": {}}}, {"id": 2})
    with pytest.raises(
        DataError,
        match=rf"content_column = {message}\(the first has 'id', 'meta\.text', 'meta\.empty'\)\.$",
    ):
        list(jsonl(path, content_column=column).documents())


def test_jsonl_field_that_is_there_and_empty_is_not_said_to_be_missing(tmp_path: Path) -> None:
    """The name is right; the rows have nothing."""
    with pytest.raises(DataError, match=r"has 1 row, none of them with a text"):
        list(jsonl(written(tmp_path, {"meta": {"text": " "}}), content_column="meta.text").documents())


def test_broken_row_of_one_of_several_files_names_it_and_the_folder(tmp_path: Path) -> None:
    """Of a source that is one file, file and line stand once, as they can be opened."""
    written(tmp_path, "[1]")
    with pytest.raises(DataError, match=rf"^a\.jsonl:1 in {tmp_path}: "):
        list(jsonl(tmp_path).documents())
