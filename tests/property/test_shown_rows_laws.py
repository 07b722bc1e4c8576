"""What each token adds to a text: joined it is the text, whatever its bytes, special tokens as they are spelled."""

from hypothesis import given
from hypothesis import strategies as st

from ml_playground.data_pipeline.shown_rows import texts_of
from ml_playground.tokenization.byte import END_OF_TEXT, ByteTokenizer

SPELLED = {END_OF_TEXT: "<|endoftext|>"}


@given(st.lists(st.text(max_size=8), min_size=1, max_size=4))
def test_texts_of_tokens_joined_are_the_texts_with_their_marks(texts: list[str]) -> None:
    """A character of several tokens comes with the last of them; none is lost at a mark or at the end."""
    tokenizer = ByteTokenizer()
    ids = [index for text in texts for index in (*tokenizer.encode(text), END_OF_TEXT)]
    found = texts_of(ids, tokenizer.decode, SPELLED)
    assert len(found) == len(ids)
    assert "".join(found) == "".join(f"{text}<|endoftext|>" for text in texts)


@given(st.lists(st.one_of(st.integers(0, 255), st.just(END_OF_TEXT)), max_size=20))
def test_texts_of_any_bytes_are_what_decoding_them_gives(ids: list[int]) -> None:
    """Also where a window cuts a character in two."""
    tokenizer = ByteTokenizer()
    stretches: list[list[int]] = [[]]
    for index in ids:
        if index == END_OF_TEXT:
            stretches.append([])
        else:
            stretches[-1].append(index)
    expected = "<|endoftext|>".join(tokenizer.decode(stretch) for stretch in stretches)
    assert "".join(texts_of(ids, tokenizer.decode, SPELLED)) == expected
