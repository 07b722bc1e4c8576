"""Mixtures: what each part gives, what is repeated and left out, and every way in which one is wrong."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.data_pipeline.books import open_books
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.data_pipeline.source_protocol import RefetchedSource
from ml_playground.data_pipeline.sources.mixture import MixedSource, build
from ml_playground.data_pipeline.sources.settings import Mixture
from tests.fakes.local_fetch import LocalFetch
from tests.fakes.prepared_text import prepare_settings, write_texts


def settings(folder: Path, **others: Any) -> dict[str, Any]:
    """A mixture of the folders below one, as a file would give it."""
    parts = {path.name: {"kind": "text_file", "path": str(path)} for path in sorted(folder.iterdir())}
    return {"kind": "mixture", "parts": parts, **others}


def mixed(folder: Path, **others: Any) -> MixedSource:
    """The source."""
    return build(Mixture.model_validate(settings(folder, **others)), Deps())


def three_and_one(folder: Path) -> Path:
    """Two parts with the same documents in other numbers."""
    texts = {f"a/{number}.txt": "a" * 10 for number in range(6)} | {f"b/{number}.txt": "b" * 10 for number in range(2)}
    return write_texts(folder, texts)


def test_documents_come_from_the_part_that_is_furthest_behind(tmp_path: Path) -> None:
    """In the order of names where none is."""
    one = mixed(three_and_one(tmp_path), weights={"a": 2})
    assert [document.id for document in one.documents()] == [
        *("a/0.txt", "b/0.txt", "a/1.txt", "a/2.txt", "b/1.txt", "a/3.txt", "a/4.txt")
    ]


def test_first_exhausted_leaves_the_rest_out_and_counts_it(tmp_path: Path) -> None:
    """It ends when a part that is due has nothing left."""
    one = mixed(three_and_one(tmp_path), weights={"a": 2})
    list(one.documents())
    counts = one.counts()
    assert (counts.found, counts.repeated_documents, dict(counts.shares)) == (8, 0, {"a": 50, "b": 20})
    assert counts.left_out["beyond_share"].model_dump() == {
        "documents": 1,
        "characters": 10,
        "places": ("a/5.txt",),
    }


def test_all_exhausted_begins_shorter_parts_again_and_counts_it(tmp_path: Path) -> None:
    """What is given again has a number; nothing is left out."""
    one = mixed(three_and_one(tmp_path), weights={"a": 2}, epoch_ends="all_exhausted")
    assert [document.id for document in one.documents()][-3:] == ["a/4.txt", "b/0.txt \u21bb2", "a/5.txt"]
    counts = one.counts()
    assert (counts.found, counts.repeated_documents, counts.repeated_characters) == (8, 1, 10)
    assert counts.left_out == {}


def test_mixture_does_not_depend_on_the_order_in_which_it_is_written(tmp_path: Path) -> None:
    """Equal settings, equal documents."""
    three_and_one(tmp_path)
    one = settings(tmp_path, weights={"a": 2, "b": 3})
    other = {**one, "parts": dict(reversed(one["parts"].items())), "weights": {"b": 3, "a": 2}}
    models = [Mixture.model_validate(entry) for entry in (one, other)]
    assert models[0].model_dump_json() == models[1].model_dump_json()


@pytest.mark.parametrize("split_by", ["position", "document", "hash"])
@pytest.mark.parametrize("tokenizer", ["char", "byte"])
def test_books_of_a_mixture_balance(tmp_path: Path, split_by: str, tokenizer: str) -> None:
    """Found and repeated are given and left out; the parts are the whole."""
    texts = {f"a/{number}.txt": f"{number} to be" * 9 for number in range(60)}
    write_texts(tmp_path / "in", texts | {f"b/{number}.txt": f"{number} or not" for number in range(40)})
    source = settings(tmp_path / "in", weights={"b": 0.5})
    prepared = prepare(prepare_settings(source, tokenizer=tokenizer, split_by=split_by, test_fraction=0.2), Deps())
    ledger = open_books(prepared.folder).manifest.ledger
    assert ledger.offered is not None
    assert ledger.offered.found == 100
    assert ledger.documents == 100 - ledger.offered.left_out["beyond_share"].documents
    assert sum(ledger.offered.shares.values()) == sum(split.characters for split in ledger.splits.values())


def test_repeated_documents_lie_in_the_split_of_the_first(tmp_path: Path) -> None:
    """By hash; so nothing that is trained on is validated on."""
    texts = {f"a/{number}.txt": f"first text {number};" for number in range(30)}
    write_texts(tmp_path / "in", texts | {f"b/{number}.txt": f"other {number};" * 30 for number in range(40)})
    source = settings(tmp_path / "in", epoch_ends="all_exhausted")
    prepared = prepare(prepare_settings(source, tokenizer="byte", split_by="hash", val_fraction=0.3), Deps())
    found = {
        split: {bytes(one.tolist()) for one in split_documents(prepared, split)} for split in prepared.manifest.splits
    }
    assert prepared.manifest.ledger.losses is not None
    assert prepared.manifest.ledger.losses.copies.documents > 30
    assert found["train"] and found["val"] and not found["train"] & found["val"]


def split_documents(prepared: Any, split: str) -> list[Any]:
    """The ids of each document of a split, without the mark at its end."""
    tokens, starts = prepared.tokens(split), prepared.document_starts(split).tolist()
    return [tokens[start : end - 1] for start, end in zip(starts, [*starts[1:], len(tokens)], strict=True)]


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({}, r"gives 1 document again.*with prepare\.split_by = 'position' some would be trained on and validated on"),
        (
            {"split_by": "document"},
            r"with prepare\.split_by = 'document' some would be .*Set prepare\.split_by = 'hash'",
        ),
        (
            {"split_by": "hash", "duplicates": "drop"},
            r"and prepare\.duplicates = 'drop' would leave them out; set it to",
        ),
    ],
)
def test_repetition_that_would_leak_or_be_dropped_is_refused(
    tmp_path: Path, others: dict[str, str], message: str
) -> None:
    """Before the long part of the work."""
    three_and_one(tmp_path / "in")
    source = settings(tmp_path / "in", weights={"a": 2}, epoch_ends="all_exhausted")
    with pytest.raises(DataError, match=message):
        prepare(prepare_settings(source, **others), Deps())


def test_provenance_names_files_by_part(tmp_path: Path) -> None:
    """And a change in one of them is noticed by that name."""
    write_texts(tmp_path / "in", {"a/x.txt": "to be, or not", "b/x.txt": "to be?" * 9, "b/y.txt": ""})
    one = prepare_settings(settings(tmp_path / "in"))
    account = prepare(one, Deps()).manifest.source
    assert [file.name for file in account.files] == ["a/x.txt", "b/x.txt"]
    assert [file.name for file in account.skipped] == ["b/y.txt"]
    assert account.facts["a: path"] == str(tmp_path / "in" / "a")
    (tmp_path / "in" / "b" / "x.txt").write_text("changed")
    with pytest.raises(DataError, match=r"The source changed since .*: b/x\.txt changed\."):
        prepare(one, Deps())


def test_errors_of_a_part_name_its_own_settings(tmp_path: Path) -> None:
    """Whatever raises them, when made or when read."""
    write_texts(tmp_path, {"a/x.txt": "to be", "b/x.txt": "to be"})
    one = settings(tmp_path)
    one["parts"]["b"]["path"] = str(tmp_path / "no.txt")
    with pytest.raises(DataError, match=r"prepare\.source\.parts\.b\.path = .*no\.txt does not exist"):
        list(build(Mixture.model_validate(one), Deps()).documents())
    one["parts"]["b"]["encoding"] = "utf8x"
    with pytest.raises(ConfigError, match=r"prepare\.source\.parts\.b\.encoding = 'utf8x' is no encoding"):
        build(Mixture.model_validate(one), Deps())


def test_errors_of_a_part_that_name_no_setting_name_the_part(tmp_path: Path) -> None:
    """Else nobody could tell which it is."""
    (tmp_path / "a.txt.gz").write_text("no gzip")
    one = {"kind": "mixture", "parts": {"x": {"kind": "text_file", "path": str(tmp_path / "a.txt.gz")}}}
    with pytest.raises(DataError, match=r"prepare\.source\.parts\.x: .*a\.txt\.gz cannot be unpacked"):
        list(build(Mixture.model_validate(one), Deps()).documents())


def test_mixture_in_a_mixture_gives_its_parts_by_both_names(tmp_path: Path) -> None:
    """Counts add up through both."""
    three_and_one(tmp_path)
    inner = settings(tmp_path, epoch_ends="all_exhausted")
    outer = {"kind": "mixture", "parts": {"in": inner, "c": {"kind": "text_file", "path": str(tmp_path / "a")}}}
    one = build(Mixture.model_validate(outer), Deps())
    documents = list(one.documents())
    counts = one.counts()
    assert {document.id.split("/")[0] for document in documents} == {"in", "c"}
    assert "in/b/0.txt \u21bb2" in [document.id for document in documents]
    assert counts.imbalances(len(documents), sum(len(document.text) for document in documents)) == []
    assert [file.name for file in one.provenance().files][-1] == "in/b/1.txt"


def test_part_that_is_fetched_is_fetched_anew(tmp_path: Path) -> None:
    """`--fresh` reaches parts of every kind."""
    write_texts(tmp_path, {"a.txt": "to be"})
    parts = {
        "a": {"kind": "text_file", "path": str(tmp_path / "a.txt")},
        "b": {"kind": "url_text", "url": "https://text"},
    }
    chosen = Mixture.model_validate({"kind": "mixture", "parts": parts})
    texts: list[list[str]] = []
    for answer, anew in ((b"old", False), (b"new", False), (b"new", True)):
        one = build(chosen, Deps(fetch=LocalFetch({"https://text": answer})))
        assert isinstance(one, RefetchedSource)
        if anew:
            one.fetch_anew()
        texts.append([document.text for document in one.documents()])
    assert texts == [["to be", "old"], ["to be", "old"], ["to be", "new"]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parts": {}}, "at least 1 item"),
        ({"weights": {"c": 1.0}}, r"weights names 'c', which is none of the parts \(parts: a, b\)"),
        ({"weights": {"a": 0.0}}, "greater than 0"),
        ({"parts": {"a": {"kind": "digits"}}}, "parts.a gives images, and a mixture takes text; leave it out"),
        ({"parts": {"a/b": {"kind": "python_stdlib"}}}, "match pattern"),
    ],
)
def test_mixtures_that_cannot_be_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    """Before anything is read."""
    write_texts(tmp_path, {"a/x.txt": "to be", "b/x.txt": "to be"})
    with pytest.raises(ValidationError, match=message):
        Mixture.model_validate({**settings(tmp_path), **change})
