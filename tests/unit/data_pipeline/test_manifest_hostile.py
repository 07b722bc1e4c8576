"""A data set from a stranger, whose hashes fit: what it says of itself is looked at before it is believed."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml_playground.core.error_handling import DataError
from ml_playground.data_pipeline.manifest import Prepared, account_of, open_prepared
from ml_playground.data_pipeline.text_dataset import TextManifest
from tests.fakes.prepared_text import prepared_text

Content = dict[str, Any]


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    """A small one."""
    return prepared_text(tmp_path, "to be or not to be, that is the question\n" * 5)


def resealed(prepared: Prepared, change: Callable[[Content], object] = lambda _: None) -> None:
    """Change the manifest, then make hashes and fingerprint true of what lies there, as whoever made the folder could."""
    path = prepared.folder / "dataset.json"
    content: Content = json.loads(path.read_text())
    for name in content["files"]:
        content["files"][name] = account_of(prepared.folder / name).model_dump()
    change(content)
    manifest = TextManifest.model_validate_json(json.dumps(content))
    path.write_text(manifest.sealed().model_dump_json())


def refused(prepared: Prepared, message: str) -> None:
    """It is not opened, and the message names what is wrong and the way out."""
    with pytest.raises(DataError, match=f"{message}.*mlp prepare EXPERIMENT --fresh"):
        open_prepared(prepared.folder)


def test_resealed_without_a_change_is_opened(prepared: Prepared) -> None:
    """What is refused below is refused for its change."""
    resealed(prepared)
    assert open_prepared(prepared.folder).manifest == prepared.manifest


@pytest.mark.parametrize(
    "name", ["../../secret", "/etc/passwd", "a/../../b", "C:\\a", "nul", "a\0b", "tokenizer/../../x"]
)
def test_file_outside_of_the_folder_is_not_even_looked_at(prepared: Prepared, name: str) -> None:
    """Its hash would else be told, or a pipe be waited for."""
    resealed(prepared, lambda content: content["files"].update({name: content["files"]["train.index"]}))
    refused(prepared, f"files names {re.escape(repr(name))}, which is no plain name inside the folder")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c["ledger"]["splits"].update({"../../x": c["ledger"]["splits"]["val"]}),
            r"ledger\.splits has '../../x'",
        ),
        (lambda c: c["ledger"]["splits"].pop("val"), r"ledger\.splits lacks val"),
        (lambda c: c["files"].pop("train.tokens"), r"files lacks train\.tokens or train\.index"),
        (lambda c: c.update(vocab_size=10**12), "vocab_size is 1000000000000, more than 32 bits can number"),
        (lambda c: c.update(vocab_size=10**6), "token_type is uint16, a vocabulary of 1000000 has uint32"),
        (lambda c: c.update(token_type="uint32"), "token_type is uint32, a vocabulary of"),
        (
            lambda c: c["ledger"]["splits"]["train"].update(text_tokens=10**15),
            "train has 1000000000000000 tokens of 2 bytes",
        ),
        (
            lambda c: c["files"]["val.index"].update(size_bytes=9),
            r"val\.index has 9 bytes, which are no whole numbers of 8",
        ),
    ],
)
def test_manifest_that_promises_what_is_not_there_is_refused(
    prepared: Prepared, change: Callable[[Content], object], message: str
) -> None:
    """Before anything of that size is read, mapped or built."""
    resealed(prepared, change)
    refused(prepared, message)


def test_id_beyond_the_vocabulary_is_named_with_its_place(prepared: Prepared) -> None:
    """The embedding table would be read outside of its rows; on a GPU that ends the process without a word."""
    path = prepared.folder / "train.tokens"
    ids = np.fromfile(path, dtype="<u2")
    ids[7] = prepared.manifest.vocab_size
    ids.tofile(path)
    resealed(prepared)
    last = prepared.manifest.vocab_size - 1
    refused(
        prepared, rf"train\.tokens does not fit dataset\.json: token 7 has id {last + 1}, the vocabulary ends at {last}"
    )


@pytest.mark.parametrize("starts", [[0, 10**18], [5, 3]], ids=["beyond", "backwards"])
def test_document_that_starts_nowhere_is_named(prepared: Prepared, starts: list[int]) -> None:
    """What follows an index would read outside of the tokens."""
    np.array(starts, dtype="<u8").tofile(prepared.folder / "train.index")
    resealed(prepared)
    refused(prepared, rf"train\.index does not fit dataset\.json: document 1 starts at token {starts[1]}")


@pytest.mark.parametrize("name", ["train.tokens", "tokenizer/tokenizer.json", "tokenizer", "notes"])
def test_link_in_the_folder_is_refused(prepared: Prepared, tmp_path: Path, name: str) -> None:
    """The tokenizer's folder is copied into every checkpoint: through a link any file of this machine would be given away."""
    path = prepared.folder / name
    elsewhere = tmp_path / "elsewhere"
    if path.exists():
        path.rename(elsewhere)
    path.symlink_to(elsewhere)
    refused(prepared, f"holds what is not part of the data set: '{name}' is a link or no file")


def test_stranger_among_the_tokenizers_files_is_refused(prepared: Prepared) -> None:
    """What nobody listed would be copied into every checkpoint, unchecked; a note beside the data harms nobody."""
    (prepared.folder / "README").write_text("a note")
    assert open_prepared(prepared.folder)
    (prepared.folder / "tokenizer" / "more.py").write_text("print('hello')")
    refused(prepared, r"'tokenizer/more\.py' is not part of it; move it elsewhere")


def test_pipe_in_the_place_of_the_manifest_is_refused_at_once(prepared: Prepared) -> None:
    """It would be waited for without end."""
    (prepared.folder / "dataset.json").unlink()
    os.mkfifo(prepared.folder / "dataset.json")
    refused(prepared, r"dataset\.json cannot be read: it is a pipe or a device")
