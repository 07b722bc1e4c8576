"""Chunks and batches: bounded where the tokenizer allows it."""

from ml_playground.data_pipeline.encoding import Chunk, batches, cut
from ml_playground.data_pipeline.survey import utf8_bytes
from ml_playground.tokenization.byte_bpe import ByteBpeTokenizer
from ml_playground.tokenization.char import CharTokenizer


def test_cut_anywhere_gives_chunks_of_the_size() -> None:
    """Memory is bounded."""
    assert list(cut(["abcdefgh", "ij"], CharTokenizer.safe_cut, 4)) == ["abcd", "efgh", "ij"]


def test_cut_at_blanks_gives_the_next_blank_after_the_size() -> None:
    """Words stay whole."""
    assert list(cut(["to be or", " not"], ByteBpeTokenizer.safe_cut, 2)) == ["to", " be", " or", " not"]


def test_cut_without_a_safe_place_waits_for_one() -> None:
    """Equal ids come before bounded memory."""
    assert list(cut(["x" * 5, "x" * 5, "x y"], ByteBpeTokenizer.safe_cut, 2)) == ["x" * 11, " y"]


def test_batches_close_when_they_are_full() -> None:
    """A batch has about so many characters, whatever the chunks."""
    chunks = [Chunk("train", text, starts=True, ends=True, document=0, offset=0) for text in ("aa", "b", "cccc", "d")]
    assert [[chunk.text for chunk in batch] for batch in batches(chunks, 3)] == [["aa", "b"], ["cccc"], ["d"]]
    assert [len(batch) for batch in batches(chunks[:3], 3)] == [2, 1]


def test_utf8_bytes_counts_bytes_not_characters() -> None:
    """The denominator of bits per byte."""
    assert utf8_bytes("abc") == 3
    assert utf8_bytes("aé\U0001f40e") == 7
