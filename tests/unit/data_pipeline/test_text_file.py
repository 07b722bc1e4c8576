"""Text files: what is found, in which order, and every way in which it can be wrong."""

import os
import sys
from pathlib import Path

import pytest

from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.core.values import Document
from ml_playground.data_pipeline.settings import TextFile
from ml_playground.data_pipeline.source_protocol import Source
from ml_playground.data_pipeline.sources.text_file import build
from tests.fakes.prepared_text import write_texts


def source(path: Path, **settings: str) -> Source:
    """The source over a path."""
    return build(TextFile.model_validate({"path": path, **settings}), Deps())


def read(path: Path, **settings: str) -> list[Document]:
    """All of its documents, pieces as they come."""
    return list(source(path, **settings).documents())


def test_documents_of_a_file_are_its_text_unchanged(tmp_path: Path) -> None:
    """Line ends, blanks and marks stay as they are."""
    write_texts(tmp_path, {"a.txt": "\ufeffone\r\n two\n\n"})
    assert read(tmp_path / "a.txt") == [Document("a.txt", "\ufeffone\r\n two\n\n")]


def test_documents_of_a_folder_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    """All files that match, below all folders."""
    write_texts(tmp_path, {"b.txt": "2", "a/z.txt": "1", "c.md": "no", "d.txt": "4"})
    assert read(tmp_path) == [Document("a/z.txt", "1"), Document("b.txt", "2"), Document("d.txt", "4")]


def test_documents_of_a_folder_with_pattern_are_those_that_match(tmp_path: Path) -> None:
    """The pattern has an effect."""
    write_texts(tmp_path, {"b.txt": "2", "c.md": "3"})
    assert read(tmp_path, pattern="*.md") == [Document("c.md", "3")]


def test_documents_of_a_glob_are_those_that_match(tmp_path: Path) -> None:
    """Signs in the path itself."""
    write_texts(tmp_path, {"x/1.txt": "1", "y/1.txt": "2", "y/2.md": "3"})
    assert read(tmp_path / "*" / "*.txt") == [Document("x/1.txt", "1"), Document("y/1.txt", "2")]


def test_documents_of_a_file_whose_name_has_glob_signs_is_that_file(tmp_path: Path) -> None:
    """What exists is taken by its name."""
    write_texts(tmp_path, {"a[1].txt": "one"})
    assert read(tmp_path / "a[1].txt") == [Document("a[1].txt", "one")]


@pytest.mark.parametrize(("path", "what"), [("a.txt", "a file"), ("*.txt", "a glob")])
@pytest.mark.parametrize("use", ["documents", "provenance"])
def test_read_pattern_without_a_folder_is_refused(tmp_path: Path, path: str, what: str, use: str) -> None:
    """No setting is without effect in silence."""
    write_texts(tmp_path, {"a.txt": "x"})
    with pytest.raises(
        ConfigError,
        match=rf"pattern = '\*\.md' has no effect, for prepare\.source\.path = .* is {what}, not a folder; leave",
    ):
        list(getattr(source(tmp_path / path, pattern="*.md"), use)())


def test_documents_of_a_big_file_come_in_pieces_that_cut_no_character(tmp_path: Path) -> None:
    """Memory is bounded, and the joined pieces are the text."""
    text = "é你\U0001f40e" * 300_000
    write_texts(tmp_path, {"big.txt": text})
    pieces = read(tmp_path / "big.txt")
    assert len(pieces) > 1
    assert {piece.id for piece in pieces} == {"big.txt"}
    assert "".join(piece.text for piece in pieces) == text


def test_documents_of_an_encoding_that_holds_text_back_are_whole(tmp_path: Path) -> None:
    """The last characters may come out only when the end is known."""
    (tmp_path / "a.txt").write_bytes(b"x+AGE")
    assert "".join(piece.text for piece in read(tmp_path / "a.txt", encoding="utf-7")) == "xa"


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-8-sig", "cp1252"])
def test_documents_in_another_encoding_are_read_with_it(tmp_path: Path, encoding: str) -> None:
    """The setting has an effect."""
    (tmp_path / "a.txt").write_bytes("größer".encode(encoding))
    assert "".join(piece.text for piece in read(tmp_path / "a.txt", encoding=encoding)) == "größer"


def test_provenance_lists_files_with_size_and_hash_and_skips_empty_ones(tmp_path: Path) -> None:
    """What was read can be compared later."""
    write_texts(tmp_path, {"a.txt": "abc", "b.txt": ""})
    account = source(tmp_path).provenance()
    assert [(file.name, file.size_bytes, file.sha256[:8]) for file in account.files] == [("a.txt", 3, "ba7816bf")]
    assert [(file.name, file.reason) for file in account.skipped] == [("b.txt", "empty")]
    assert account.facts == {"path": str(tmp_path)}


def test_read_missing_file_suggests_the_nearest_name(tmp_path: Path) -> None:
    """A misspelt name is the usual reason."""
    write_texts(tmp_path, {"shakespeare.txt": "x"})
    with pytest.raises(DataError, match=r"shakespear\.txt does not exist; did you mean 'shakespeare\.txt'\?"):
        read(tmp_path / "shakespear.txt")


def test_read_missing_file_without_a_near_name_says_what_is_allowed(tmp_path: Path) -> None:
    """Nothing near: the forms that a path may have."""
    with pytest.raises(DataError, match=r"prepare\.source\.path = .*q\.txt does not exist; name a file, a folder"):
        read(tmp_path / "q.txt")


def test_read_what_is_there_and_no_file_says_what_it_is(tmp_path: Path) -> None:
    """It exists, so that no other name is meant."""
    os.mkfifo(tmp_path / "p.txt")
    with pytest.raises(
        DataError, match=r"p\.txt is no file but a pipe or a device; name a file, a folder, or a glob\."
    ):
        read(tmp_path / "p.txt")
    (tmp_path / "l.txt").symlink_to("nowhere.txt")
    with pytest.raises(DataError, match=r"l\.txt is a link to nothing; name a file"):
        read(tmp_path / "l.txt")


def test_read_folder_with_a_link_to_nothing_is_refused(tmp_path: Path) -> None:
    """Its text would be missing in silence, as from a disk that is not there; locks of editors are no texts."""
    write_texts(tmp_path, {"a.txt": "1"})
    (tmp_path / ".#a.txt").symlink_to("me@here.4711")
    (tmp_path / "b.txt").symlink_to("a.txt")
    assert [document.id for document in read(tmp_path)] == ["a.txt", "b.txt"]
    (tmp_path / "c.txt").symlink_to("/mnt/gone/c.txt")
    with pytest.raises(
        DataError, match=r"c\.txt is a link to /mnt/gone/c\.txt, which does not exist; bring that file back"
    ):
        read(tmp_path)


def test_read_missing_folder_names_the_folder(tmp_path: Path) -> None:
    """The first part that is wrong."""
    with pytest.raises(DataError, match=rf"does not exist, and neither does its folder {tmp_path}/no"):
        read(tmp_path / "no" / "q.txt")


def test_read_folder_without_match_shows_what_is_there(tmp_path: Path) -> None:
    """The pattern is the usual reason."""
    write_texts(tmp_path, {"notes.md": "x"})
    with pytest.raises(
        DataError, match=r"No file in .* matches prepare\.source\.pattern = '\*\*/\*\.txt': it holds notes"
    ):
        read(tmp_path)


def test_read_empty_folder_says_so(tmp_path: Path) -> None:
    """Nothing at all."""
    with pytest.raises(DataError, match="it holds no file at all. Set prepare.source.pattern, or name another folder"):
        read(tmp_path)


def test_read_glob_without_match_says_so(tmp_path: Path) -> None:
    """The signs are the usual reason."""
    with pytest.raises(DataError, match=r"\*\.txt matches no file; check its folder and its signs"):
        read(tmp_path / "*.txt")


@pytest.mark.parametrize("pattern", ["", "/etc/*"])
def test_read_impossible_pattern_says_what_one_looks_like(tmp_path: Path, pattern: str) -> None:
    """A pattern stays below its folder."""
    write_texts(tmp_path, {"a.txt": "x"})
    with pytest.raises(ConfigError, match=r"is no pattern below a folder .*use one like '\*\*/\*\.txt'"):
        read(tmp_path, pattern=pattern)


@pytest.mark.parametrize("use", ["documents", "provenance"])
def test_read_empty_file_says_so(tmp_path: Path, use: str) -> None:
    """Zero bytes are no text."""
    write_texts(tmp_path, {"a.txt": ""})
    with pytest.raises(DataError, match=r"a\.txt is empty; name a file with text"):
        list(getattr(source(tmp_path / "a.txt"), use)())


def test_read_folder_of_empty_files_says_how_many(tmp_path: Path) -> None:
    """Nor are several of them."""
    write_texts(tmp_path, {"a.txt": "", "b.txt": ""})
    with pytest.raises(DataError, match=r"All 2 files of .* are empty"):
        read(tmp_path)


def test_read_binary_file_says_so(tmp_path: Path) -> None:
    """NUL is in no text."""
    (tmp_path / "a.txt").write_bytes(b"text\0more")
    with pytest.raises(
        DataError, match=r"a\.txt is binary: read as utf-8, it holds NUL after byte 0.*encoding = 'utf-16'"
    ):
        read(tmp_path / "a.txt")


def test_read_binary_file_that_is_no_utf8_says_binary_too(tmp_path: Path) -> None:
    """An image is not a text in another encoding."""
    (tmp_path / "a.txt").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    with pytest.raises(DataError, match=r"a\.txt is binary"):
        read(tmp_path / "a.txt")


def test_read_utf16_as_utf8_names_the_encoding_to_set(tmp_path: Path) -> None:
    """Its first two bytes tell."""
    (tmp_path / "a.txt").write_bytes("text".encode("utf-16"))
    with pytest.raises(DataError, match=r"is not utf-8 but UTF-16; set prepare\.source\.encoding = 'utf-16'"):
        read(tmp_path / "a.txt")


@pytest.mark.parametrize("before", [0, 3, (1 << 20) - 1, (1 << 20) + 5])
def test_read_wrong_encoding_names_file_byte_and_offset(tmp_path: Path, before: int) -> None:
    """Also beyond the first piece, and across the border of two."""
    (tmp_path / "a.txt").write_bytes(b"x" * before + b"\xe4\xfc and more")
    with pytest.raises(
        DataError,
        match=rf"a\.txt is not utf-8: byte 0xe4 at offset {before} \(.*Set prepare\.source\.encoding.*latin-1",
    ):
        read(tmp_path / "a.txt")


@pytest.mark.parametrize("before", [3, (1 << 20) - 1])
def test_read_file_that_ends_within_a_character_names_the_offset(tmp_path: Path, before: int) -> None:
    """A cut file is not read as if it were whole."""
    (tmp_path / "a.txt").write_bytes(b"x" * before + b"\xe4\xbd")
    with pytest.raises(DataError, match=rf"byte 0xe4 at offset {before} \(unexpected end of data\)"):
        read(tmp_path / "a.txt")


def test_read_half_a_surrogate_pair_says_so(tmp_path: Path) -> None:
    """Some encodings let through what is no character."""
    (tmp_path / "a.txt").write_bytes(b"a\\ud800b")
    with pytest.raises(DataError, match=r"read as unicode_escape, holds half a surrogate pair \('\\ud800'\)"):
        read(tmp_path / "a.txt", encoding="unicode_escape")


@pytest.mark.parametrize("encoding", ["utf8x", "hex", "rot13", "", "a\0b"])
def test_build_unknown_encoding_names_usual_ones(tmp_path: Path, encoding: str) -> None:
    """Before anything is read."""
    with pytest.raises(ConfigError, match=r"prepare\.source\.encoding = .* is no encoding of text.*'utf-8', 'utf-16'"):
        source(tmp_path, encoding=encoding)


@pytest.mark.skipif(sys.platform != "linux", reason="a file that exists and cannot be read, also for root")
def test_read_unreadable_file_gives_the_systems_reason() -> None:
    """The bytes cannot be had."""
    with pytest.raises(DataError, match=r"/proc/self/mem cannot be read: Input/output error; give yourself the right"):
        read(Path("/proc/self/mem"))


def test_read_file_that_vanishes_while_reading_says_so(tmp_path: Path) -> None:
    """Found, then gone."""
    write_texts(tmp_path, {"a.txt": "1", "b.txt": "2"})
    documents = source(tmp_path).documents()
    next(documents)
    (tmp_path / "b.txt").unlink()
    with pytest.raises(DataError, match=r"b\.txt cannot be read: No such file or directory"):
        next(documents)


def test_read_glob_that_meets_a_loop_of_links_says_so(tmp_path: Path) -> None:
    """A link to itself leads to no file either."""
    write_texts(tmp_path, {"a.txt": "1"})
    (tmp_path / "b.txt").symlink_to(tmp_path / "b.txt")
    with pytest.raises(DataError, match=r"b\.txt is a link to .*b\.txt, which does not exist"):
        read(tmp_path)


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\0\0\0", "Stra\xdfe".encode("latin-1")])
@pytest.mark.parametrize(("path", "key"), [("", "prepare.source.pattern"), ("*.txt", "prepare.source.path")])
def test_file_among_others_that_is_no_text_can_be_left_out(tmp_path: Path, content: bytes, path: str, key: str) -> None:
    """The message names the setting that chooses files; with it, or without the file, the others are read."""
    (tmp_path / "a.txt").write_text("good")
    (tmp_path / "b.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"b\.txt .*leave this file out: move it .*narrow {key} so") as caught:
        list(build(TextFile(path=tmp_path / path), Deps()).documents())
    assert "a.txt" not in str(caught.value)
    narrower = TextFile(path=tmp_path, pattern="a*.txt") if not path else TextFile(path=tmp_path / "a*.txt")
    assert [document.text for document in build(narrower, Deps()).documents()] == ["good"]


def test_only_file_that_is_no_text_is_not_to_be_left_out(tmp_path: Path) -> None:
    """Nothing would remain of what was named."""
    (tmp_path / "b.txt").write_bytes(b"\0\1")
    with pytest.raises(DataError, match=r"b\.txt is binary") as caught:
        list(build(TextFile(path=tmp_path / "b.txt"), Deps()).documents())
    assert "leave this file out" not in str(caught.value)
