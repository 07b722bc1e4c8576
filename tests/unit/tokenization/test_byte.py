"""The byte tokenizer's own rules."""

from ml_playground.tokenization.byte import END_OF_TEXT, ByteTokenizer


def test_encode_gives_utf8_bytes() -> None:
    """Ids are bytes."""
    assert ByteTokenizer().encode("aé") == [0x61, 0xC3, 0xA9]


def test_decode_leaves_out_the_end_of_text() -> None:
    """It is a mark, not a text."""
    assert ByteTokenizer().decode([0x61, END_OF_TEXT, 0x62]) == "ab"


def test_vocab_size_is_bytes_and_end_of_text() -> None:
    """257 ids."""
    assert ByteTokenizer().vocab_size == 257
    assert ByteTokenizer().specials.eos == 256
