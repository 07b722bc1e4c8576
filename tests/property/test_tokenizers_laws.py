"""Laws of tokenizers on any text: nothing is lost, and where a text is cut changes nothing."""

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.data_pipeline.encoding import cut
from ml_playground.tokenization.byte import ByteTokenizer
from ml_playground.tokenization.byte_bpe import ByteBpeTokenizer
from ml_playground.tokenization.char import CharTokenizer
from ml_playground.tokenization.settings import ByteBpe, Char

# Blanks that Python and the library's pattern may see differently, contractions, marks, numbers that are no digits.
AWKWARD = list(" \n\t\r\x0b\x0c\x1c\x1f\x85\xa0\u2028\u3000\u200b\u180e") + list(
    "aZ'sdtlvemr_09½²Ⅷé你\u0301.,!-\U0001f40e"
)
texts = st.one_of(
    st.text(alphabet=st.sampled_from(AWKWARD), max_size=60),
    st.text(max_size=40),
    st.text(alphabet="ab' s\n", max_size=60),
)


@functools.cache
def bpe() -> ByteBpeTokenizer:
    """Merges across blanks, letters, contractions."""
    sample = "it's a dab. they'll be said's  \n\n  a  b ab aab ½ 99 0.9\n" * 30 + "".join(AWKWARD) * 5
    return ByteBpeTokenizer.train([sample], ByteBpe(vocab_size=420))


@given(texts)
def test_byte_bpe_decode_of_encode_is_the_text(text: str) -> None:
    """Lossless on every text."""
    assert bpe().decode(bpe().encode(text)) == text


@given(texts)
def test_byte_decode_of_encode_is_the_text(text: str) -> None:
    """Lossless on every text."""
    assert ByteTokenizer().decode(ByteTokenizer().encode(text)) == text


@given(texts, texts)
def test_char_decode_of_encode_replaces_exactly_the_strangers(training: str, text: str) -> None:
    """What training saw is kept, the rest becomes U+FFFD, and the length stays."""
    tokenizer = CharTokenizer.train([training, "a"], Char())
    kept = set(training) | {"a"}
    assert tokenizer.decode(tokenizer.encode(text)) == "".join(one if one in kept else "\ufffd" for one in text)


@given(st.one_of(texts, st.text(alphabet=st.characters(codec="ascii"), max_size=80)))
def test_byte_bpe_word_by_word_equals_the_library(text: str) -> None:
    """The cache of words gives what the library gives for the whole text."""
    assert bpe().encode_arrays([text])[0].tolist() == bpe()._library.encode(text, add_special_tokens=False).ids


@given(texts, st.integers(0, 60))
def test_byte_bpe_cut_at_a_safe_place_gives_equal_ids(text: str, start: int) -> None:
    """Ids of the parts are the ids of the whole."""
    at = bpe().safe_cut(text, start) or 0
    assert bpe().encode(text[:at]) + bpe().encode(text[at:]) == bpe().encode(text)


@given(texts, texts)
def test_byte_bpe_safe_place_stays_safe_whatever_follows(text: str, more: str) -> None:
    """A stream is cut before its end is known."""
    at = bpe().safe_cut(text, 1) or 0
    whole = text + more
    assert bpe().encode(whole[:at]) + bpe().encode(whole[at:]) == bpe().encode(whole)


@pytest.mark.parametrize("tokenizer", [bpe(), ByteTokenizer(), CharTokenizer.train(["ab"], Char())])
@given(st.lists(texts, max_size=5), st.integers(1, 30))
def test_cut_text_of_any_pieces_gives_the_ids_of_the_whole(
    tokenizer: ByteBpeTokenizer, pieces: list[str], size: int
) -> None:
    """Neither how a source cuts nor how we cut can be seen in the ids."""
    chunks = list(cut(pieces, tokenizer.safe_cut, size))
    assert "".join(chunks) == "".join(pieces)
    assert [index for chunk in chunks for index in tokenizer.encode(chunk)] == tokenizer.encode("".join(pieces))


@given(texts)
def test_byte_bpe_token_bytes_sum_to_the_text_in_utf8(text: str) -> None:
    """Bits per byte divides by exactly the bytes of the text."""
    assert sum(bpe().token_bytes()[index] for index in bpe().encode(text)) == len(text.encode())
