"""Laws of tokenizers on any text: nothing is lost, and where a text is cut changes nothing."""

import functools
import re
import tempfile
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from ml_playground.core.tokenizer_protocol import BulkTokenizer
from ml_playground.data_pipeline.encoding import cut
from ml_playground.data_pipeline.lost_places import unknown_text
from ml_playground.tokenization.blank_cuts import BLANK_CUT, split_at_blanks
from ml_playground.tokenization.byte import ByteTokenizer
from ml_playground.tokenization.byte_bpe import ByteBpeTokenizer
from ml_playground.tokenization.char import CharTokenizer
from ml_playground.tokenization.character_groups import split_groups
from ml_playground.tokenization.hugging_face import HuggingFaceTokenizer
from ml_playground.tokenization.ngram import NgramTokenizer
from ml_playground.tokenization.rank_files import ENCODINGS
from ml_playground.tokenization.sentencepiece_model import SentencepieceTokenizer
from ml_playground.tokenization.settings import (
    ByteBpe,
    Char,
    HuggingFace,
    Ngram,
    SentencepieceModel,
    TiktokenBpe,
    Word,
)
from ml_playground.tokenization.tiktoken_bpe import TiktokenBpeTokenizer
from ml_playground.tokenization.word import WordTokenizer
from tests.fakes.tokenizer_files import MAKES, SAMPLE, small_ranks, write_folder, write_ranks

# Blanks that Python and the library's pattern may see differently, contractions, marks, numbers that are no digits.
AWKWARD = list(" \n\t\r\x0b\x0c\x1c\x1f\x85\xa0\u2028\u3000\u200b\u180e\0\ue000\u2581\u2585\ufeff") + list(
    "aZ'sdtlvemr_09½²Ⅷé你\u0301.,!/-<>x\U0001f40e\ufdfa\u00ad"
)
texts = st.one_of(
    st.text(alphabet=st.sampled_from(AWKWARD), max_size=60),
    st.text(max_size=40),
    st.text(alphabet="ab' s\n", max_size=60),
    st.text(alphabet="a!\n /", max_size=40),
    st.lists(
        st.sampled_from(
            ["they'll", " the", "\n\n  ", "x" * 40, "é", " ", "</s>", "<0x41>", "<|endoftext|>", "<unk>", "[UNK]"]
        ),
        max_size=20,
    ).map("".join),
)
TRAINING = SAMPLE + "it's a dab.\n\n  a  b ½ 99 0.9\n" * 30 + "".join(AWKWARD) * 5


@functools.cache
def bpe() -> ByteBpeTokenizer:
    """Merges across blanks, letters, contractions."""
    return ByteBpeTokenizer.train([TRAINING], ByteBpe(vocab_size=420))


def from_files(way: str, folder: Path) -> BulkTokenizer:
    """One that is read from files: of an encoding's ranks, or of a make of Hugging Face folder."""
    if way in ENCODINGS:
        return TiktokenBpeTokenizer.train(
            ["a"], TiktokenBpe.model_validate({"encoding": way, "ranks": write_ranks(folder / way)})
        )
    return HuggingFaceTokenizer.train(["a"], HuggingFace(path=write_folder(folder / way, way)))


def sentencepiece(way: str) -> BulkTokenizer:
    """One of an algorithm, with bytes for what has no id, or with `_unknown` behind it without."""
    algorithm, _, unknown = way.partition("_")
    settings = SentencepieceModel.model_validate({"algorithm": algorithm, "byte_fallback": not unknown})
    return SentencepieceTokenizer.train([TRAINING], settings)


@functools.cache
def tokenizer(name: str) -> BulkTokenizer:
    """One of each kind and way, by `kind` or `kind-way`."""
    kind, _, way = name.partition("-")
    learn = {
        "byte": ByteTokenizer,
        "byte_bpe": bpe,
        "char": lambda: CharTokenizer.train([TRAINING], Char()),
        "word": lambda: WordTokenizer.train([TRAINING], Word()),
        "ngram": lambda: NgramTokenizer.train([TRAINING], Ngram(n=int(way), vocab_size=300)),
        "sentencepiece": lambda: sentencepiece(way),
    }
    if kind in learn:
        return learn[kind]()
    with tempfile.TemporaryDirectory() as folder:
        return from_files(way, Path(folder))


WITHOUT_LOSS = (
    *("byte", "byte_bpe", "tiktoken-gpt2", "tiktoken-cl100k_base", "tiktoken-o200k_base"),
    *("sentencepiece-unigram", "sentencepiece-bpe", "hugging_face-gpt2"),
)
WITH_UNKNOWN = (
    *("char", "word", "ngram-1", "ngram-2", "ngram-3", "ngram-8"),
    *("sentencepiece-unigram_unknown", "sentencepiece-bpe_unknown"),
)
OF_OTHERS = tuple(f"hugging_face-{make}" for make in MAKES if make != "gpt2")
ALL = (*WITHOUT_LOSS, *WITH_UNKNOWN, *OF_OTHERS)


@pytest.mark.parametrize("name", WITHOUT_LOSS)
@given(text=texts)
def test_decode_of_encode_is_the_text(name: str, text: str) -> None:
    """Lossless on every text, and the ids stand for exactly its bytes."""
    ids = tokenizer(name).encode(text)
    assert tokenizer(name).decode(ids) == text
    assert sum(tokenizer(name).token_bytes()[index] for index in ids) == len(text.encode())


@pytest.mark.parametrize("name", WITH_UNKNOWN)
@given(text=texts)
def test_decode_of_encode_keeps_what_is_known_in_its_place(name: str, text: str) -> None:
    """Unknown stretches become U+FFFD, nothing else changes, and the bytes that are lost are counted to the byte."""
    made = tokenizer(name)
    (ids,) = made.encode_arrays([text])
    sizes = np.array(made.token_bytes(), dtype=np.int64)
    kept = [made.decode([index]) for index in ids.tolist() if index != made.specials.unknown]
    assert int(sizes[ids].sum()) == len("".join(kept).encode())
    pattern = "".join("(.+?)" if index == made.specials.unknown else re.escape(made.decode([index])) for index in ids)
    found = re.fullmatch(pattern, text, flags=re.DOTALL)
    assert found is not None
    if found.groups():
        before, lost = unknown_text(text, ids, sizes, made.specials.unknown or 0)
        assert lost == len("".join(found.groups()).encode())
        assert before == found.start(1)


@pytest.mark.parametrize("n", [1, 2, 3, 8])
@given(text=texts)
def test_ngram_loses_characters_alone(n: int, text: str) -> None:
    """A group that was never seen is written in its characters: lost is what training never saw, character by character."""
    made = tokenizer(f"ngram-{n}")
    assert made.decode(made.encode(text)) == "".join(one if one in TRAINING else "\ufffd" for one in text)


@given(texts, texts)
def test_char_decode_of_encode_replaces_exactly_the_strangers(training: str, text: str) -> None:
    """What training saw is kept, the rest becomes U+FFFD, and the length stays."""
    made = CharTokenizer.train([training, "a"], Char())
    kept = set(training) | {"a"}
    assert made.decode(made.encode(text)) == "".join(one if one in kept else "\ufffd" for one in text)


@given(st.one_of(texts, st.text(alphabet=st.characters(codec="ascii"), max_size=80)))
def test_byte_bpe_word_by_word_equals_the_library(text: str) -> None:
    """The cache of words gives what the library gives for the whole text."""
    assert bpe().encode_arrays([text])[0].tolist() == bpe()._library.encode(text, add_special_tokens=False).ids


@functools.cache
def tiktoken_of(encoding: str) -> tiktoken.Encoding:
    """The library alone."""
    pattern = ENCODINGS[encoding].pattern
    return tiktoken.Encoding("plain", pat_str=pattern, mergeable_ranks=small_ranks(), special_tokens={})


@pytest.mark.parametrize("encoding", ["gpt2", "cl100k_base", "o200k_base"])
@given(text=texts)
def test_tiktoken_stretch_by_stretch_equals_the_library(encoding: str, text: str) -> None:
    """Whole texts at once, by the library alone, give the same ids."""
    made = tokenizer(f"tiktoken-{encoding}")
    assert made.encode_arrays([text])[0].tolist() == tiktoken_of(encoding).encode_ordinary(text)


@pytest.mark.parametrize("make", MAKES)
@given(text=texts)
def test_hugging_face_stretch_by_stretch_equals_the_library(make: str, text: str) -> None:
    """Whole texts at once, by the library alone, give the same ids."""
    assert tokenizer(f"hugging_face-{make}").encode_arrays([text])[0].tolist() == library_of(make).encode(text).ids


@functools.cache
def library_of(make: str) -> Tokenizer:
    """The library's own tokenizer, special tokens in a text as the text that they are."""
    with tempfile.TemporaryDirectory() as folder:
        library = Tokenizer.from_file(str(write_folder(Path(folder), make) / "tokenizer.json"))
    library.encode_special_tokens = True
    return library


@pytest.mark.parametrize("name", ALL)
@given(text=texts, more=texts, start=st.integers(0, 60))
def test_safe_cut_gives_the_ids_of_the_whole_whatever_follows(name: str, text: str, more: str, start: int) -> None:
    """A stream is cut before its end is known."""
    made = tokenizer(name)
    at = made.safe_cut(text, start) or 0
    whole = text + more
    assert made.encode(whole[:at]) + made.encode(whole[at:]) == made.encode(whole)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8])
@given(st.text(alphabet="ab é\n\t", max_size=20), st.integers(0, 900))
def test_ngram_safe_cut_of_a_word_without_end_is_near_and_safe(n: int, beginning: str, start: int) -> None:
    """Groups end 840 characters behind the beginning of a word, whatever n: memory is bounded in any text."""
    made = tokenizer(f"ngram-{n}" if n in (1, 2, 3, 8) else "ngram-5")
    text = beginning + "ab" * 1000
    at = made.safe_cut(text, start)
    assert at is not None
    assert start <= at <= start + 840
    assert made.encode(text[:at]) + made.encode(text[at:]) == made.encode(text)


@given(st.lists(texts, max_size=6), st.integers(1, 8))
def test_split_groups_of_several_texts_equals_each_alone(parts: list[str], n: int) -> None:
    """No group reaches over the end of a text, and together they are the texts."""
    together = split_groups(parts, n)
    alone = [split_groups([text], n) for text in parts]
    words = together.pick(np.arange(len(together.starts)))
    assert words == [word for one in alone for word in one.pick(np.arange(len(one.starts)))]
    assert b"".join(words) == "".join(parts).encode()
    assert np.diff(together.ends, prepend=0).tolist()[: len(parts)] == [len(one.starts) for one in alone]


@given(st.lists(texts, max_size=6))
def test_stretches_of_the_encoder_end_wherever_a_text_may_be_cut(parts: list[str]) -> None:
    """In every script: ids of a stretch that went on behind a cut would not be those of its two parts."""
    together = split_at_blanks(parts)
    expected = [[stretch.encode() for stretch in BLANK_CUT.split(text) if stretch] for text in parts]
    assert together.pick(np.arange(len(together.starts))) == [stretch for one in expected for stretch in one]
    assert together.ends.tolist()[: len(parts)] == np.cumsum([len(one) for one in expected]).tolist()


@pytest.mark.parametrize("name", ALL)
@given(pieces=st.lists(texts, max_size=5), size=st.integers(1, 30))
def test_cut_text_of_any_pieces_gives_the_ids_of_the_whole(name: str, pieces: list[str], size: int) -> None:
    """Neither how a source cuts nor how we cut can be seen in the ids."""
    made = tokenizer(name)
    chunks = list(cut(pieces, made.safe_cut, size))
    assert "".join(chunks) == "".join(pieces)
    assert [index for chunk in chunks for index in made.encode(chunk)] == made.encode("".join(pieces))


def test_safe_cuts_leave_visible_characters_visible_when_normalised() -> None:
    """No normal form ends a letter or digit with a blank: what stands before a cut still does afterwards."""
    ends: Mapping[str, str] = {
        chr(code): unicodedata.normalize("NFKC", chr(code))[-1:]
        for code in range(0x110000)
        if re.match(r"[!-~\w]", chr(code))
    }
    assert [character for character, end in ends.items() if end.isspace() or not end] == []
