"""CSV: which column says what, how a file is written, what becomes of a row, and every way in which one is wrong."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.data_pipeline.sources.csv_text import MOST_CHARACTERS, CsvRows, build
from ml_playground.data_pipeline.sources.settings import CsvText

HEADERS = "Sprecher: {speaker}\nPartei: {party}\nJahr: {year}\nThema: {topic}\n\n{content}\n"


def source(path: Path, **settings: Any) -> CsvRows:
    """The source over a path."""
    return build(CsvText.model_validate({"path": path, **settings}), Deps())


def texts(folder: Path, content: str | bytes, **settings: Any) -> list[str]:
    """What the rows of one file become."""
    (folder / "a.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return [document.text for document in source(folder / "a.csv", **settings).documents()]


def test_documents_are_rows_named_by_file_and_line(tmp_path: Path) -> None:
    """A quoted line end belongs to the text; blank lines are no rows; the id is the line where the row begins."""
    content = 'text,party\r\n"one\r\ntwo, ""three""",x\r\n\r\nfour,y\r\n'
    (tmp_path / "a.csv").write_bytes(content.encode())
    found = [(document.id, document.text) for document in source(tmp_path).documents()]
    assert found == [("a.csv:2", '\none\r\ntwo, "three"'), ("a.csv:5", "\nfour")]


@pytest.mark.parametrize(
    ("header", "row", "expected"),
    [
        ("date,speaker,party,agenda,text", "1999-05-04,Ann,SPD,Tax,Hello", "Ann SPD 1999 Tax Hello"),
        ("Datum,Redner,Fraktion,Thema,Rede", "04.05.1999,Ann,SPD,Steuer,Hallo", "Ann SPD 1999 Steuer Hallo"),
        ("JAHR,Sprecher/in,Partei,Top,Inhalt", "1999,Ann,SPD,Steuer,Hallo", "Ann SPD 1999 Steuer Hallo"),
        ("year,speaker_name,party_name,topic,speechContent", "1999,Ann,SPD,Tax,Hello", "Ann SPD 1999 Tax Hello"),
    ],
)
def test_columns_are_found_by_their_names_in_german_and_english(
    tmp_path: Path, header: str, row: str, expected: str
) -> None:
    """Case, blanks and signs do not matter."""
    found = texts(tmp_path, f"{header}\n{row}\n", template="{speaker} {party} {year} {topic} {content}")
    assert [text.replace("Sprecher/in", "") for text in found] == [expected]


def test_columns_that_settings_name_come_first(tmp_path: Path) -> None:
    """The detection would take the other ones."""
    content = "text,summary,speaker,chair,day,when,x\nlong,short,Ann,Bert,1.1.,1999,y\n"
    found = texts(
        tmp_path,
        content,
        content_column="summary",
        speaker_column="chair",
        date_column="when",
        template="{speaker} {year} {x} {content}",
    )
    assert found == ["Bert 1999 y short"]


def test_a_line_of_the_template_that_has_nothing_to_say_is_left_out(tmp_path: Path) -> None:
    """No empty headers, no doubled line ends; the empty line of the template stays."""
    content = "text,speaker,party,date,topic\nHi,Ann,,,Tax\nHo,,SPD,5/1999,\n"
    assert texts(tmp_path, content, template=HEADERS) == [
        "Sprecher: Ann\nThema: Tax\n\nHi\n",
        "Partei: SPD\nJahr: 1999\n\nHo\n",
    ]


def test_only_column_is_the_text_where_it_is_called_so_or_named(tmp_path: Path) -> None:
    """A line of prose is a single column, too: what is called like nothing is not taken for one in silence."""
    assert texts(tmp_path, "Rede\nHi\n") == ["\nHi"]
    assert texts(tmp_path, "Whatever\nHi\n", content_column="Whatever") == ["\nHi"]


@pytest.mark.parametrize("header", ["Es war einmal ein König.", "Whatever"])
def test_prose_is_no_table(tmp_path: Path, header: str) -> None:
    """Its first line would be lost as a header."""
    with pytest.raises(
        DataError,
        match=rf"a\.csv has the columns '{header}', none .* set prepare\.source\.content_column\. If the file is "
        r"plain text without a header, set prepare\.source\.kind = 'text_file'\.$",
    ):
        texts(tmp_path, f"{header}\nEr hatte eine Tochter\n")


@pytest.mark.parametrize("settings", [{}, {"content_column": "Rede"}])
def test_header_that_another_delimiter_makes_sense_of_says_so(tmp_path: Path, settings: dict[str, str]) -> None:
    """Else whole rows were texts."""
    with pytest.raises(
        (DataError, ConfigError), match=r"The header holds ';': perhaps that is its prepare\.source\.delimiter\.$"
    ):
        texts(tmp_path, "Redner;Partei;Rede\nAngela M.;CDU;Hallo\n", delimiter=",", **settings)


@pytest.mark.parametrize("line", ['{"text": "Hi", "n": 1}', '{"text":"Hi","n":1}', ' { "text": 1}'])
def test_json_lines_are_no_csv(tmp_path: Path, line: str) -> None:
    """Pieces of JSON are no names of columns."""
    with pytest.raises(
        DataError, match=r"a\.csv is JSON Lines, not CSV: .*\. Set prepare\.source\.kind = 'jsonl_text'"
    ):
        texts(tmp_path, f"{line}\n{line}\n")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_is_the_one_that_makes_sense_of_the_header(tmp_path: Path, delimiter: str) -> None:
    """Others may stand in the text, and even in a name."""
    header = delimiter.join(['"who, when; where|why"', "text", "party"])
    assert texts(tmp_path, f"{header}\n{delimiter.join(['x', 'Hi', 'SPD'])}\n", template="{party}: {content}") == [
        "SPD: Hi"
    ]


def test_delimiter_that_is_set_is_used(tmp_path: Path) -> None:
    """Also one that nobody would guess."""
    assert texts(tmp_path, "text^party\nHi^SPD\n", delimiter="^", template="{party}: {content}") == ["SPD: Hi"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_encoding_is_found_by_mark_or_by_what_makes_sense(tmp_path: Path, encoding: str) -> None:
    """The mark is no part of the first column's name."""
    content = "Rede;Partei\nWir müssen größere Häuser für die Bürger bauen;Grüne\n".encode(encoding)
    assert texts(tmp_path, content) == ["\nWir müssen größere Häuser für die Bürger bauen"]


def test_encoding_that_is_set_is_used(tmp_path: Path) -> None:
    """Bytes that would be letters of another one."""
    content = "text\nцЖяЁъЮ\n".encode("cp866")
    assert texts(tmp_path, content, encoding="cp866") == ["\nцЖяЁъЮ"]


def test_mark_of_an_encoding_that_is_set_is_no_part_of_the_header(tmp_path: Path) -> None:
    """Before a quote it would make the quote a letter, and a delimiter inside the quotes one between columns."""
    content = '"a,b","text"\n"x","Hi"\n'.encode("utf-8-sig")
    assert texts(tmp_path, content, encoding="utf-8", template="{a,b}: {content}") == ["x: Hi"]


def test_encoding_that_nothing_fits_asks_for_it(tmp_path: Path) -> None:
    """Rather no text than a wrong one."""
    with pytest.raises(DataError, match=r"a\.csv is no UTF-8 \(byte 0xe6 at offset 5\).*set prepare\.source\.encoding"):
        texts(tmp_path, "text\nцЖяЁъЮ\n".encode("cp866"))


def test_rows_without_text_are_counted_with_their_places(tmp_path: Path) -> None:
    """The first three places are enough to look."""
    (tmp_path / "a.csv").write_text("text,x\nHi,1\n,2\n  ,3\n\t,4\n,5\n")
    one = source(tmp_path)
    assert [document.id for document in one.documents()] == ["a.csv:2"]
    counts = one.counts()
    assert counts.found == 5
    assert counts.left_out["no_content"].model_dump() == {
        "documents": 4,
        "characters": 0,
        "places": ("a.csv:3", "a.csv:4", "a.csv:5"),
    }


BROKEN = {
    "short": ("text,x\nHi,1\nHo\n", r"^\S+/a\.csv:3: 1 cell, where the header names 2 columns"),
    "long": ("text,x\nHi,1,2\n", r"^\S+/a\.csv:2: 3 cells, where the header names 2 columns"),
    "quote inside": ('text,x\n"Hi "there" you",1\n', r"^\S+/a\.csv:2: ',' expected after '\"'; a quote inside"),
    "never closed": (
        'text,x\nHi,1\n"Ho,2\nHa,3\n',
        r"^\S+/a\.csv:3: a quote that opens here is never closed; the file ends 2 lines later",
    ),
    "NUL": ("text,x\nHi\0,1\n", r"^\S+/a\.csv:2: it holds NUL, which no text does"),
    "carriage return": ("text,x\nHi\rHo,1\n", r"^\S+/a\.csv:2: it holds a carriage return outside quotes"),
}


@pytest.mark.parametrize("name", ["short", "long", "quote inside", "never closed", "carriage return", "NUL"])
def test_broken_row_ends_with_file_line_and_what_to_do(tmp_path: Path, name: str) -> None:
    """As it comes, nothing is skipped."""
    content, message = BROKEN[name]
    with pytest.raises(DataError, match=message + r".*\. Mend the row, .*broken_rows=skip"):
        texts(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "kept", "characters"),
    [
        ("text,x\nHi,1\nHo\nHa,3\n", ["\nHi", "\nHa"], 2),
        ('text,x\n"Hi "there" you",1\nHa,3\n', ["\nHa"], 19),
        ('text,x\nHa,3\n"Ho,2\nHi,4\n', ["\nHa"], 11),
        ("text,x\nHi\0,1\nHa,\0\n", ["\nHa"], 4),
    ],
)
def test_broken_rows_are_skipped_and_counted_where_that_is_set(
    tmp_path: Path, content: str, kept: list[str], characters: int
) -> None:
    """The row behind a broken one is read as if nothing had been."""
    (tmp_path / "a.csv").write_text(content)
    one = source(tmp_path, broken_rows="skip")
    assert [document.text for document in one.documents()] == kept
    left = one.counts().left_out["broken"]
    assert (one.counts().found, left.documents, left.characters) == (len(kept) + 1, 1, characters)


def test_header_with_nul_is_no_table(tmp_path: Path) -> None:
    """One that holds NUL from its beginning is no text with a broken row, and not to be skipped row by row."""
    with pytest.raises(DataError, match=r"a\.csv is binary: read as utf-8, it holds NUL .* set .*encoding = 'utf-16'"):
        texts(tmp_path, "\0text,x\nHi,1\n", broken_rows="skip")


def test_more_cells_that_are_empty_break_no_row(tmp_path: Path) -> None:
    """Spreadsheets end rows so."""
    assert texts(tmp_path, "text,x\nHi,1,,\n") == ["\nHi"]


def test_line_without_end_is_refused(tmp_path: Path) -> None:
    """It is held whole; a file of gigabytes in one line must not be."""
    with pytest.raises(DataError, match=r"a\.csv:2: the line has more than 16,777,216 characters"):
        texts(tmp_path, b"text,x\n" + b"a" * (MOST_CHARACTERS + 300_000))


def test_cell_without_end_is_refused_where_it_begins(tmp_path: Path) -> None:
    """A quote that is never closed swallows all lines behind it, up to the limit."""
    with pytest.raises(
        DataError, match=r"^\S+/a\.csv:3: a cell has more than 16,777,216 characters; a quote that opens"
    ):
        texts(tmp_path, b'text,x\nHi,1\n"' + (b"a" * 9_999 + b"\n") * (MOST_CHARACTERS // 10_000 + 2))


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        (
            "a,b\n1,2\n",
            {},
            r"has the columns 'a', 'b', none of which is called like a text; set prepare\.source\.conte",
        ),
        (
            "text,b\n1,2\n",
            {"content_column": "tekst"},
            r"content_column = 'tekst' is none of the columns; did you mean 't",
        ),
        ("text,b\n1,2\n", {"template": "{bb} {content}"}, r"\{bb\} in the template is none of the columns"),
        (
            "text,b\n1,2\n",
            {"template": "{year} {content}"},
            r"none of which is called like a date, which \{year\} in pre",
        ),
        (
            "text,b\n1,2\n",
            {"template": "{year}{content}", "date_column": "c"},
            r"date_column = 'c' is none of the colum",
        ),
        (
            "text,Text\n1,2\n",
            {},
            r"has 2 columns that may be the content: 'text', 'Text'\. Set prepare\.source\.content_",
        ),
        ("text,text\n1,2\n", {}, r"has 2 columns called 'text'; give each a name of its own"),
        ("text,text\n1,2\n", {"content_column": "text"}, r"'text' more than once; give each a name of its own"),
        ("text,party\n1,\n", {"template": "{party} {content}"}, r"No row of .* has anything for \{party\}"),
        ("text,b\n,2\n", {}, r"a\.csv has 1 row, none of them with a text; the first has 'text', 'b'"),
        ("text,b\n", {}, r"a\.csv has no rows; name a file with some"),
        ("\n\n", {}, r"a\.csv has no rows"),
        ('"text\n', {}, r"a\.csv:1: the header cannot be read: a quote that opens here is never closed"),
    ],
)
def test_columns_that_do_not_fit_say_what_to_set(
    tmp_path: Path, content: str, settings: dict[str, Any], message: str
) -> None:
    """Each names the file, what it has, and the setting."""
    with pytest.raises((DataError, ConfigError), match=message):
        texts(tmp_path, content, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"template": "{speaker}"}, "leaves out the text of a row; write {content} where it belongs"),
        ({"template": "{content} {"}, "a brace stands alone in '{content} {'"),
        ({"speaker_column": "x"}, "speaker_column has no effect, for template does not name {speaker}"),
        ({"delimiter": "ab"}, "pattern"),
        ({"delimiter": '"'}, "pattern"),
    ],
)
def test_settings_without_effect_are_refused(settings: dict[str, str], message: str) -> None:
    """Before anything is read."""
    with pytest.raises(ValidationError, match=".*") as caught:
        CsvText.model_validate({"path": Path("a.csv"), **settings})
    assert message in str(caught.value)


def test_template_writes_doubled_braces_as_they_are(tmp_path: Path) -> None:
    """A brace may be wanted."""
    assert texts(tmp_path, "text\nHi\n", template="{{{content}}}") == ["{Hi}"]


def test_provenance_says_how_the_first_file_is_read(tmp_path: Path) -> None:
    """Whoever wonders which column was taken finds it in dataset.json."""
    (tmp_path / "a.csv").write_text("Rede;Redner\nHi;Ann\n")
    (tmp_path / "b.csv").write_text("")
    account = source(tmp_path, template="{speaker}: {content}").provenance()
    assert [file.name for file in account.files] == ["a.csv"]
    assert [file.name for file in account.skipped] == ["b.csv"]
    assert account.facts == {
        "path": str(tmp_path),
        "encoding": "utf-8",
        "delimiter": ";",
        "column of content": "Rede",
        "column of speaker": "Redner",
    }


def test_unknown_encoding_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    """As for text files."""
    with pytest.raises(ConfigError, match=r"prepare\.source\.encoding = 'utf8x' is no encoding"):
        source(tmp_path, encoding="utf8x")
