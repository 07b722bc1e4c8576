"""Sources of rows and mixtures: what was written is read again, however it is packed and cut; a mixture keeps its shares everywhere."""

import csv
import gzip
import io
import json
import tempfile
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.configuration.families import SOURCES
from ml_playground.core.deps import Deps
from ml_playground.core.registry import load_object
from ml_playground.core.values import Document
from ml_playground.data_pipeline.source_counts import CountingSource
from ml_playground.data_pipeline.source_protocol import AGAIN, Provenance
from ml_playground.data_pipeline.sources.mixture import MixedSource
from ml_playground.data_pipeline.sources.settings import Mixture
from ml_playground.data_pipeline.sources.tei_lines import tagged_lines
from ml_playground.data_pipeline.sources.templates import Template
from ml_playground.data_pipeline.transforms.split import split_of_id

# Of everything that Unicode has but halves of characters and NUL, which no text holds; line ends and quotes often.
characters = st.one_of(
    st.sampled_from("\",;\t|\n\r'{}<>& ab"), st.characters(exclude_categories=["Cs"], exclude_characters="\0")
)
cells = st.text(characters, max_size=12)
tables = st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=6)
PACKINGS = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}


def source(**settings: Any) -> Any:
    """A source of any kind."""
    row = SOURCES[settings["kind"]]
    return load_object(row.build)(load_object(row.settings).model_validate_json(json.dumps(settings)), Deps())


def expected(rows: list[tuple[str, str, str]]) -> list[str]:
    """What the rows of a table become by the template of these tests."""
    return [f"{text}|{' '.join(speaker.split())}" for text, speaker, _ in rows if text.strip()]


def read(made: Any) -> list[str]:
    """All of its texts, pieces joined, and its books in balance."""
    found: dict[str, str] = {}
    for document in made.documents():
        found[document.id] = found.get(document.id, "") + document.text
    assert isinstance(made, CountingSource)
    assert made.counts().imbalances(len(found), sum(map(len, found.values()))) == []
    return list(found.values())


TEMPLATE = "{content}|{speaker}"


def readable(rows: list[tuple[str, str, str]]) -> bool:
    """Whether some row has a text, and the template finds a speaker: else it is an error."""
    return any(text.strip() and speaker.split() for text, speaker, _ in rows)


@given(
    rows=tables, delimiter=st.sampled_from(",;\t|"), packing=st.sampled_from(sorted(PACKINGS)), quoting=st.booleans()
)
def test_csv_that_was_written_is_read_again(
    rows: list[tuple[str, str, str]], delimiter: str, packing: str, quoting: bool
) -> None:
    """Whatever the cells hold, whatever separates and packs them."""
    if not readable(rows):
        return
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL if quoting else csv.QUOTE_MINIMAL)
    writer.writerows([("Rede", "Redner", "x"), *rows])
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, f"a.csv{packing}").write_bytes(PACKINGS[packing](text.getvalue().encode()))
        assert read(source(kind="csv_text", path=folder, template=TEMPLATE)) == expected(rows)


@given(rows=tables, packing=st.sampled_from(sorted(PACKINGS)), deep=st.booleans(), ascii_only=st.booleans())
def test_jsonl_that_was_written_is_read_again(
    rows: list[tuple[str, str, str]], packing: str, deep: bool, ascii_only: bool
) -> None:
    """Flat or nested, escaped or not, packed or not."""
    if not readable(rows):
        return
    objects = [{"m": {"text": row[0], "who": row[1]}} if deep else {"text": row[0], "who": row[1]} for row in rows]
    lines = "".join(json.dumps(one, ensure_ascii=ascii_only) + "\n" for one in objects)
    columns = {"content_column": "m.text", "speaker_column": "m.who"} if deep else {}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, f"a.jsonl{packing}").write_bytes(PACKINGS[packing](lines.encode()))
        assert read(source(kind="jsonl_text", path=folder, template=TEMPLATE, **columns)) == expected(rows)


@given(rows=tables, group=st.integers(1, 4), compression=st.sampled_from(["none", "zstd", "snappy"]))
def test_parquet_that_was_written_is_read_again(rows: list[tuple[str, str, str]], group: int, compression: str) -> None:
    """In row groups of any size."""
    if not readable(rows):
        return
    columns = dict(zip(("text", "speaker", "x"), map(list, zip(*rows, strict=True)), strict=True))
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(pa.table(columns), Path(folder, "a.parquet"), row_group_size=group, compression=compression)
        assert read(source(kind="parquet", path=folder, template=TEMPLATE)) == expected(rows)


words = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"], exclude_characters="\ufffe\uffff"),
    min_size=1,
    max_size=8,
)
names = words.filter(lambda word: not word.startswith("#") and word not in {"NA", "None", "none", "NULL"})
speeches = st.lists(
    st.tuples(names, st.lists(st.tuples(st.sampled_from(["p", "stage"]), words), max_size=3)), min_size=1, max_size=4
)


def as_tei(content: list[tuple[str, list[tuple[str, str]]]], blank: str) -> str:
    """Speeches as minutes."""
    said = "".join(
        f"<sp who={quoteattr(who)}>{blank}"
        + "".join(f"<{tag}>{blank}{escape(text)}</{tag}>{blank}" for tag, text in parts)
        + "</sp>"
        for who, parts in content
    )
    return f"<TEI><text><body><div>{said}</div></body></text></TEI>"


def as_speakers(content: list[tuple[str, list[tuple[str, str]]]]) -> set[str]:
    """The lines that name who speaks: a whole sitting names those, too, who say nothing."""
    return {f"<speaker> {who}" for who, _ in content}


@given(content=speeches, blank=st.sampled_from(["", " ", "\n  "]), packing=st.sampled_from(sorted(PACKINGS)))
def test_tei_that_was_written_is_read_again(
    content: list[tuple[str, list[tuple[str, str]]]], blank: str, packing: str
) -> None:
    """Speech by speech, paragraph by paragraph."""
    tags = {"p": "paragraph", "stage": "stage"}
    wanted = [
        f"<speaker> {who}\n" + "".join(f"<{tags[tag]}> {text}\n" for tag, text in parts)
        for who, parts in content
        if parts
    ]
    if not wanted:
        return
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, f"a.xml{packing}").write_bytes(PACKINGS[packing](as_tei(content, blank).encode()))
        assert read(source(kind="tei_xml", path=folder, document="speech")) == wanted
        whole = read(source(kind="tei_xml", path=folder))
        assert [line for line in whole[0].splitlines() if line not in as_speakers(content)] == [
            line for text in wanted for line in text.splitlines() if line not in as_speakers(content)
        ]


@given(content=speeches, size=st.integers(1, 40))
def test_tei_lines_do_not_depend_on_how_the_file_is_cut(
    content: list[tuple[str, list[tuple[str, str]]]], size: int
) -> None:
    """Streamed, it is what it is whole."""
    data = as_tei(content, " ").encode()
    cut = [data[start : start + size] for start in range(0, len(data), size)]
    assert list(tagged_lines(Path("a.xml"), cut)) == list(tagged_lines(Path("a.xml"), [data]))


@given(
    st.lists(st.tuples(st.sampled_from(["{a}", "{b}", "{{", "}}", "x", "\n"])), max_size=8),
    st.text("ab \n", max_size=3),
)
def test_template_is_what_replacing_by_hand_gives(parts: list[tuple[str]], value: str) -> None:
    """Line by line, those with names and no values left out."""
    text = "".join(part for (part,) in parts)
    values = {"a": value, "b": ""}
    by_hand = ""
    for line in text.splitlines(keepends=True):
        named = "{a}" in line.replace("{{", "").replace("}}", "") or "{b}" in line.replace("{{", "").replace("}}", "")
        if named and not (value and "{a}" in line.replace("{{", "").replace("}}", "")):
            continue
        by_hand += (
            line.replace("{{", "\1")
            .replace("}}", "\2")
            .replace("{a}", value)
            .replace("{b}", "")
            .replace("\1", "{")
            .replace("\2", "}")
        )
    if "{{{" in text or "}}}" in text:
        return
    assert Template(text).filled({name: values[name] for name in Template(text).names}) == by_hand


class Texts:
    """A source of texts that are given; each cut into pieces."""

    def __init__(self, texts: list[str], piece: int) -> None:
        self._texts, self._piece = texts, piece

    def documents(self) -> Iterator[Document]:
        """Each by its number."""
        for number, text in enumerate(self._texts):
            for start in range(0, len(text), self._piece):
                yield Document(str(number), text[start : start + self._piece])

    def provenance(self) -> Provenance:
        """Of nothing."""
        return Provenance(kind="texts", files=())


parts_of_texts = st.dictionaries(
    st.sampled_from("abcd"),
    st.tuples(
        st.sampled_from([0.1, 0.5, 1.0, 2.0, 3.7]),
        st.lists(st.text("xyz", min_size=1, max_size=9), min_size=1, max_size=8),
    ),
    min_size=1,
)


def mixed(parts: Mapping[str, tuple[float, list[str]]], ends: str, piece: int) -> MixedSource:
    """A mixture of texts that are given."""
    stand_in = {"kind": "python_stdlib"}
    settings = {
        "parts": dict.fromkeys(parts, stand_in),
        "weights": {name: weight for name, (weight, _) in parts.items()},
        "epoch_ends": ends,
    }
    sources = {name: Texts(texts, piece) for name, (_, texts) in sorted(parts.items())}
    return MixedSource(Mixture.model_validate_json(json.dumps(settings)), sources)


@given(parts=parts_of_texts, ends=st.sampled_from(["first_exhausted", "all_exhausted"]), piece=st.integers(1, 9))
def test_mixture_keeps_its_shares_in_every_beginning_and_its_books_at_the_end(
    parts: dict[str, tuple[float, list[str]]], ends: str, piece: int
) -> None:
    """Each part is within its longest document of its share; documents are whole; all that is found is given or counted."""
    one = mixed(parts, ends, piece)
    documents: dict[str, str] = {}
    for document in one.documents():
        documents[document.id] = documents.get(document.id, "") + document.text
    given_by = dict.fromkeys(parts, 0)
    weights = {name: Fraction(str(weight)) for name, (weight, _) in parts.items()}
    for name_of, text in documents.items():
        name, number = name_of.partition(AGAIN)[0].split("/")
        assert text == parts[name][1][int(number)]
        given_by[name] += len(text)
        for one_name in parts:
            ahead = max(given_by[one_name] / weights[one_name] - given_by[other] / weights[other] for other in parts)
            assert ahead <= Fraction(max(map(len, parts[one_name][1]))) / weights[one_name]
    counts = one.counts()
    assert counts.imbalances(len(documents), sum(map(len, documents.values()))) == []
    assert counts.found == sum(len(texts) for _, texts in parts.values())
    if ends == "all_exhausted":
        assert not counts.left_out
        assert {f"{name}/{number}" for name, (_, texts) in parts.items() for number in range(len(texts))} <= set(
            documents
        )
    else:
        assert not counts.repeated_documents
        assert any(given_by[name] == sum(map(len, texts)) for name, (_, texts) in parts.items())
    assert list(one.documents()) == list(mixed(parts, ends, piece).documents())


@given(
    document=st.text(max_size=8),
    times=st.integers(2, 99),
    val=st.sampled_from([0.1, 0.5]),
    test=st.sampled_from([0.0, 0.3]),
)
def test_repeated_document_is_in_the_split_of_the_first(document: str, times: int, val: float, test: float) -> None:
    """By hash: nothing that is trained on is validated on because it came again."""
    assert split_of_id(f"{document}{AGAIN}{times}", val, test) == split_of_id(document, val, test)
