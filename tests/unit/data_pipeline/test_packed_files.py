"""Packed files: found, unpacked in bounded pieces, refused where they are damaged or not what their name says."""

import gzip
import io
import tracemalloc
from pathlib import Path

import pytest
import zstandard

from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import DataError
from ml_playground.core.values import Document
from ml_playground.data_pipeline.checks.checking_texts import check_texts
from ml_playground.data_pipeline.checks.inputs import file_input, named_input
from ml_playground.data_pipeline.settings import TextFile
from ml_playground.data_pipeline.sources.packed_files import plain_name
from ml_playground.data_pipeline.sources.text_file import build
from ml_playground.data_pipeline.sources.text_pieces import blocks
from ml_playground.data_pipeline.sources.zstd_stream import unpacked

PACK = {"gz": gzip.compress, "zst": zstandard.ZstdCompressor().compress}
BOTH = pytest.mark.parametrize("ending", ["gz", "zst"])
TEXT = "to be, or nöt to be?\n" * 1_000


def read(path: Path) -> list[Document]:
    """The documents of a source of text files."""
    return list(build(TextFile(path=path), Deps()).documents())


@BOTH
def test_packed_text_is_the_document_that_the_plain_one_would_be(tmp_path: Path, ending: str) -> None:
    """The same id, so the same split by hash."""
    (tmp_path / "a.txt").write_text(TEXT)
    plain = read(tmp_path / "a.txt")
    (tmp_path / "a.txt").unlink()
    (tmp_path / f"a.txt.{ending}").write_bytes(PACK[ending](TEXT.encode()))
    assert read(tmp_path) == read(tmp_path / f"a.txt.{ending}") == read(tmp_path / f"*.{ending}") == plain


@BOTH
def test_packed_files_of_a_folder_are_found_in_the_order_of_their_plain_names(tmp_path: Path, ending: str) -> None:
    """Among others; what has another name is still left out."""
    (tmp_path / "b.txt").write_text("b")
    for name in ("a.txt", "c.txt", "d.md"):
        (tmp_path / f"{name}.{ending}").write_bytes(PACK[ending](name.encode()))
    assert [document.id for document in read(tmp_path)] == ["a.txt", "b.txt", "c.txt"]


@BOTH
def test_packed_text_is_known_by_its_bytes_whatever_it_is_called(tmp_path: Path, ending: str) -> None:
    """As `file` would."""
    (tmp_path / "a.txt").write_bytes(PACK[ending](b"to be"))
    assert read(tmp_path / "a.txt") == [Document("a.txt", "to be")]


@BOTH
def test_several_packed_texts_one_after_the_other_are_one(tmp_path: Path, ending: str) -> None:
    """`cat a.gz b.gz` is a packed file, too."""
    (tmp_path / f"a.txt.{ending}").write_bytes(PACK[ending](b"to be ") + PACK[ending](b"or not") + PACK[ending](b""))
    assert "".join(one.text for one in read(tmp_path / f"a.txt.{ending}")) == "to be or not"


def test_zstd_frames_that_are_to_be_skipped_are_skipped(tmp_path: Path) -> None:
    """`pzstd` begins with one."""
    skipped = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"abcd"
    (tmp_path / "a.zst").write_bytes(skipped + PACK["zst"](b"to be") + skipped)
    assert read(tmp_path / "a.zst") == [Document("a", "to be")]


@BOTH
@pytest.mark.parametrize("end", [-1, -5, 30])
def test_packed_file_that_was_cut_is_refused(tmp_path: Path, ending: str, end: int) -> None:
    """Half a text must not pass for a whole one."""
    (tmp_path / f"a.txt.{ending}").write_bytes(PACK[ending](TEXT.encode())[:end])
    with pytest.raises(DataError, match=rf"a\.txt\.{ending} cannot be unpacked: .*\. Fetch it again, or pack it anew"):
        read(tmp_path / f"a.txt.{ending}")


@BOTH
def test_packed_file_that_is_damaged_is_refused(tmp_path: Path, ending: str) -> None:
    """A byte in the middle."""
    content = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(TEXT.encode()))
    content = content if ending == "zst" else bytearray(gzip.compress(TEXT.encode()))
    content[len(content) // 2] ^= 255
    (tmp_path / f"a.txt.{ending}").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.txt\.{ending} cannot be unpacked"):
        read(tmp_path / f"a.txt.{ending}")


@BOTH
def test_file_that_is_only_called_packed_is_refused(tmp_path: Path, ending: str) -> None:
    """Its name and its bytes say different things."""
    (tmp_path / f"a.txt.{ending}").write_text("to be")
    with pytest.raises(DataError, match=r"cannot be unpacked: its name says (gzip|zstd), its bytes do not; give it"):
        read(tmp_path / f"a.txt.{ending}")


@BOTH
def test_packed_file_of_nothing_is_skipped_as_empty(tmp_path: Path, ending: str) -> None:
    """So that files found are files used and skipped."""
    (tmp_path / "a.txt").write_text("to be")
    (tmp_path / f"b.txt.{ending}").write_bytes(PACK[ending](b""))
    account = build(TextFile(path=tmp_path), Deps()).provenance()
    assert [file.name for file in account.files] == ["a.txt"]
    assert [file.name for file in account.skipped] == [f"b.txt.{ending}"]


def test_text_and_its_packed_copy_side_by_side_are_refused(tmp_path: Path) -> None:
    """They would be one document, twice as long."""
    (tmp_path / "a.txt").write_text("to be")
    (tmp_path / "a.txt.gz").write_bytes(PACK["gz"](b"to be"))
    with pytest.raises(
        DataError, match=r"are two forms of one document, 'a\.txt'; move one .*narrow prepare\.source\.pat"
    ):
        read(tmp_path)


@BOTH
def test_bomb_is_unpacked_in_pieces(tmp_path: Path, ending: str) -> None:
    """120 MB of one letter, packed to some kilobytes; memory stays at what the bytes that are fed at once may hold."""
    path = tmp_path / f"a.txt.{ending}"
    if ending == "gz":
        with gzip.open(path, "wb", compresslevel=1) as file:
            for _ in range(120):
                file.write(b"a" * 1_000_000)
    else:
        with path.open("wb") as file, zstandard.ZstdCompressor().stream_writer(file, closefd=False) as packer:
            for _ in range(120):
                packer.write(b"a" * 1_000_000)
    tracemalloc.start()
    size = sum(map(len, blocks(path)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size == 120_000_000
    assert peak < 50_000_000


def test_zstd_that_asks_for_much_memory_is_refused() -> None:
    """A frame may copy from as far back as it likes; what it asks for would be kept."""
    header = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True)
    packer = zstandard.ZstdCompressor(compression_params=header).compressobj()
    frame = packer.compress(b"a" * 10) + packer.flush()
    with pytest.raises(Exception, match="memory"):
        list(unpacked(io.BytesIO(frame), 1 << 10))


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("a.txt.gz", "a.txt"),
        ("a.txt.ZST", "a.txt"),
        ("x/a.gz", "x/a"),
        ("a.txt", "a.txt"),
        (".gz", ".gz"),
        ("a.gz.b", "a.gz.b"),
    ],
)
def test_plain_name_is_the_name_without_the_packing(name: str, plain: str) -> None:
    """And a whole one."""
    assert plain_name(name) == plain


@BOTH
def test_packed_file_is_checked_like_the_plain_one(tmp_path: Path, ending: str) -> None:
    """`mlp data check a.txt.gz` finds what is in the text, and shows no bytes of the packed file."""
    text = "good line\nbad \ufffd line\n".encode()
    (tmp_path / "a.txt").write_bytes(text)
    path = tmp_path / f"a.txt.{ending}"
    path.write_bytes(PACK[ending](text))
    named = named_input(build(TextFile(path=path), Deps()).files()[0])
    found = [
        [
            (finding.code, finding.count, finding.examples[0].place.line)
            for finding in check_texts([one], most_examples=1).report.findings
        ]
        for one in (file_input(tmp_path / "a.txt"), file_input(path), named)
    ]
    assert found[0] == [("replacement_character", 1, 2)]
    assert found[1] == found[2] == found[0]
