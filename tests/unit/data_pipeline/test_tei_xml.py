"""Minutes in TEI: what becomes a line, what becomes a document, and what no parser may be made to do."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import DataError
from ml_playground.data_pipeline.sources import tei_lines
from ml_playground.data_pipeline.sources.settings import TeiXml
from ml_playground.data_pipeline.sources.tei_xml import Minutes, build

HEADER = """<teiHeader><fileDesc><titleStmt><title>Plenarprotokoll</title><legislativePeriod>13</legislativePeriod>
<sessionNo>1</sessionNo></titleStmt><publicationStmt><date when="1994-11-10">10.11.94</date></publicationStmt>
</fileDesc></teiHeader>"""
BODY = """<div type="agenda_item" n="1" desc="Eröffnung">
  <sp who="Rita Süssmuth" parliamentary_group="CDU/CSU" party="CDU"><speaker>Präsidentin Süssmuth:</speaker>
    <p>Meine   Damen und <hi>Herren</hi>, am <date>10.</date>!</p><stage type="interjection">(Beifall)</stage><p>Weiter.</p></sp>
  <sp who="#p7" party="NA"><speaker>Stefan Heym:</speaker><p>Ja.<stage>(Lachen)</stage>Nein.</p></sp>
</div>
<div type="debate"><head>Aussprache</head><sp name="Ann"><p>Also:</p></sp></div>"""


def minutes(path: Path, **settings: Any) -> Minutes:
    """The source over a path."""
    return build(TeiXml.model_validate({"path": path, **settings}), Deps())


def written(folder: Path, body: str = BODY, header: str = HEADER, before: str = "") -> Path:
    """One sitting."""
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n{before}<TEI>{header}<text><body>{body}</body></text></TEI>'
    (folder / "13_1.xml").write_text(text, encoding="utf-8")
    return folder / "13_1.xml"


def documents(path: Path, **settings: Any) -> dict[str, str]:
    """Each document's whole text."""
    found: dict[str, str] = {}
    for document in minutes(path, **settings).documents():
        found[document.id] = found.get(document.id, "") + document.text
    return found


def test_sitting_becomes_tagged_lines(tmp_path: Path) -> None:
    """Document, division, speaker, paragraph, stage, in the order in which they stand."""
    assert documents(written(tmp_path)) == {
        "13_1.xml": """\
<document> Plenarprotokoll 13/1, 1994-11-10
<division> agenda_item 1: Eröffnung
<speaker> Rita Süssmuth (CDU/CSU)
<paragraph> Meine Damen und Herren, am 10.!
<stage> (Beifall)
<paragraph> Weiter.
<speaker> Stefan Heym
<paragraph> Ja.
<stage> (Lachen)
<paragraph> Nein.
<division> debate
<division> Aussprache
<speaker> Ann
<paragraph> Also:
"""
    }


def test_division_as_document_begins_with_the_sitting(tmp_path: Path) -> None:
    """So that each tells where it stands."""
    found = documents(written(tmp_path), document="division")
    assert list(found) == ["13_1.xml#0", "13_1.xml#1"]
    assert found["13_1.xml#1"] == (
        "<document> Plenarprotokoll 13/1, 1994-11-10\n<division> debate\n<division> Aussprache\n"
        "<speaker> Ann\n<paragraph> Also:\n"
    )


def test_speech_as_document_begins_with_sitting_and_division(tmp_path: Path) -> None:
    """Text between two speeches is a document of its own, without a speaker."""
    found = documents(written(tmp_path, BODY.replace("</sp>\n  <sp", "</sp>Pause.<sp")), document="speech")
    assert list(found) == [f"13_1.xml#{number}" for number in range(4)]
    assert found["13_1.xml#1"] == (
        "<document> Plenarprotokoll 13/1, 1994-11-10\n<division> agenda_item 1: Eröffnung\n<paragraph> Pause.\n"
    )
    assert found["13_1.xml#2"] == (
        "<document> Plenarprotokoll 13/1, 1994-11-10\n<division> agenda_item 1: Eröffnung\n"
        "<speaker> Stefan Heym\n<paragraph> Ja.\n<stage> (Lachen)\n<paragraph> Nein.\n"
    )


def test_tags_that_are_not_named_are_left_out_and_counted(tmp_path: Path) -> None:
    """Their characters, and where the first are."""
    one = minutes(written(tmp_path), tags=("speaker", "paragraph"))
    text = "".join(document.text for document in one.documents())
    assert text.startswith("<speaker> Rita Süssmuth (CDU/CSU)\n<paragraph> Meine")
    assert "Beifall" not in text
    left = one.counts().left_out["tags"]
    assert (one.counts().found, left.documents, left.characters) == (1, 0, len("(Beifall)(Lachen)"))


def test_units_without_text_are_counted(tmp_path: Path) -> None:
    """A speech of nothing, a division of nothing."""
    path = written(tmp_path, "<div><sp who='A'><p> </p></sp><sp who='B'><p>Ja</p></sp></div><div/>")
    for unit, found, empty in (("speech", 2, 1), ("division", 2, 1), ("file", 1, 0)):
        one = minutes(path, document=unit)
        assert len({document.id for document in one.documents()}) == found - empty
        counts = one.counts()
        assert counts.found == found
        assert sum(left.documents for left in counts.left_out.values()) == empty


def test_namespaces_and_doctypes_do_not_matter(tmp_path: Path) -> None:
    """TEI comes with either; a doctype's file is not fetched."""
    plain = documents(written(tmp_path))
    path = tmp_path / "13_1.xml"
    text = path.read_text(encoding="utf-8").replace("<", "<t:").replace("<t:/", "</t:").replace("<t:?", "<?")
    path.write_text(text.replace("<t:TEI>", '<!DOCTYPE TEI SYSTEM "http://example.org/tei.dtd"><t:TEI xmlns:t="u">'))
    assert documents(path) == plain


def test_several_sittings_in_one_file_each_have_their_line(tmp_path: Path) -> None:
    """A teiCorpus."""
    one = f"<TEI>{HEADER}<text><body><p>eins</p></body></text></TEI>"
    (tmp_path / "a.xml").write_text(f"<teiCorpus>{one}{one.replace('>1<', '>2<').replace('eins', 'zwei')}</teiCorpus>")
    assert documents(tmp_path / "a.xml")["a.xml"].splitlines() == [
        "<document> Plenarprotokoll 13/1, 1994-11-10",
        "<paragraph> eins",
        "<document> Plenarprotokoll 13/2, 1994-11-10",
        "<paragraph> zwei",
    ]


def test_encodings_that_the_file_declares_are_read(tmp_path: Path) -> None:
    """XML says what it is written in."""
    text = written(tmp_path).read_text(encoding="utf-8")
    expected = documents(tmp_path / "13_1.xml")
    for encoding in ("ISO-8859-1", "windows-1252", "UTF-16"):
        (tmp_path / "13_1.xml").write_text(text.replace("UTF-8", encoding), encoding=encoding)
        assert documents(tmp_path / "13_1.xml") == expected


@pytest.mark.parametrize(("encoding", "reason"), [("foo", "unknown encoding: foo"), ("Shift_JIS", "multi-byte")])
def test_encodings_that_the_parser_cannot_read_say_so(tmp_path: Path, encoding: str, reason: str) -> None:
    """The parser asks Python, which raises errors of its own."""
    path = tmp_path / "a.xml"
    path.write_text(f'<?xml version="1.0" encoding="{encoding}"?><TEI><text><p>a</p></text></TEI>', encoding="ascii")
    with pytest.raises(DataError, match=rf"a\.xml:1: the encoding that this XML declares .*{reason}.* anew in UTF-8"):
        documents(path)


@pytest.mark.parametrize(
    ("inside", "words"),
    [
        ("Meine<lb/>Damen<pb n='2'/>und", "Meine Damen und"),
        ("Bun<lb break='no'/>des<hi>tag</hi>", "Bundestag"),
        ("<list><item>eins</item><item>zwei</item></list>", "eins zwei"),
        ("<table><row><cell>a</cell><cell>b</cell></row><row><cell>c</cell></row></table>", "a b c"),
        ("Ja<note>Anlage 1</note>Nein", "Ja Anlage 1 Nein"),
    ],
)
def test_words_that_markup_keeps_apart_stay_apart(tmp_path: Path, inside: str, words: str) -> None:
    """A line, an item, a cell or a note ends a word without a blank; what stands inside a word does not."""
    assert f"<paragraph> {words}\n" in documents(written(tmp_path, f"<p>{inside}</p>"))["13_1.xml"]


@pytest.mark.parametrize(
    ("doctype", "body"),
    [
        ('<!DOCTYPE TEI [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>', "<p>&b;</p>"),
        ('<!DOCTYPE TEI [<!ENTITY a SYSTEM "file:///etc/passwd">]>', "<p>&a;</p>"),
        ('<!DOCTYPE TEI [<!ENTITY % a SYSTEM "file:///etc/passwd"> %a;]>', "<p>x</p>"),
        ('<!DOCTYPE TEI SYSTEM "tei.dtd">', "<p>x&a;y</p>"),
    ],
)
def test_entities_are_refused_unexpanded(tmp_path: Path, doctype: str, body: str) -> None:
    """No bomb, no file of this machine, and no text that is silently missing."""
    with pytest.raises(
        DataError, match=r"13_1\.xml:\d+: it declares or needs the entity '[ab]', and entities are neither"
    ):
        documents(written(tmp_path, body, before=doctype))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("<p>x</q>", r"13_1\.xml:4: this is no well-formed XML: mismatched tag \(column \d+\)\. Mend it there"),
        ("<p>&nbsp;</p>", r"no well-formed XML: undefined entity"),
        ("<p>x</p>" + "<a>" * 300, r"more than 200 elements stand inside each other; no minutes in TEI do"),
    ],
)
def test_broken_xml_names_file_and_line(tmp_path: Path, body: str, message: str) -> None:
    """Where to look, and what is wrong."""
    with pytest.raises(DataError, match=message):
        documents(written(tmp_path, body))


@pytest.mark.parametrize("inside", ["<p>{}</p>", "<p x='{}'>x</p>", "<!-- {} -->"])
def test_what_the_parser_would_hold_whole_is_bounded(tmp_path: Path, inside: str) -> None:
    """A paragraph, an attribute, a comment of many megabytes."""
    path = written(tmp_path, inside.format("a " * (tei_lines.MOST_CHARACTERS // 2 + 300_000)))
    with pytest.raises(DataError, match=r"more than 16,777,216 (characters|bytes stand between)"):
        documents(path)


def test_xml_that_is_no_tei_says_so(tmp_path: Path) -> None:
    """Well-formed, and without text."""
    (tmp_path / "a.xml").write_text("<html><body><p>Hi</p></body></html>")
    with pytest.raises(DataError, match=r"a\.xml holds no text of TEI: none of 1 file has a paragraph or stage inside"):
        documents(tmp_path / "a.xml")


def test_empty_files_are_skipped(tmp_path: Path) -> None:
    """As for all sources of files."""
    written(tmp_path)
    (tmp_path / "0.xml").write_text("")
    assert list(documents(tmp_path)) == ["13_1.xml"]
    assert [file.name for file in minutes(tmp_path).provenance().skipped] == ["0.xml"]


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (["speaker"], "tags names neither paragraph nor stage"),
        (["stage", "stage"], "names one twice"),
        ([], "at least 1"),
    ],
)
def test_tags_without_text_are_refused(tags: list[str], message: str) -> None:
    """Before anything is read."""
    with pytest.raises(ValidationError, match=message):
        TeiXml.model_validate_json(json.dumps({"path": "a.xml", "tags": tags}))


def test_lines_without_text_wait_only_so_long(tmp_path: Path) -> None:
    """A thousand headings are kept for the text behind them; more become text themselves, and do not fill the memory."""
    headings = "<div><head>Thema</head></div>"
    with pytest.raises(DataError, match="holds no text of TEI"):
        documents(written(tmp_path, headings * 900))
    assert documents(written(tmp_path, headings * 1_500))["13_1.xml"].count("<division> Thema\n") == 1_500
