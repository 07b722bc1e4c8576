"""Whether the ids of two tokenizers mean the same."""

from pathlib import Path

import pytest

from ml_playground.core.tokenizer_protocol import Tokenizer
from ml_playground.evaluation.same_tokens import mean_the_same
from ml_playground.export.hugging_face import tokenizer_files
from ml_playground.tokenization.byte import ByteTokenizer
from ml_playground.tokenization.byte_bpe import END_OF_TEXT, ByteBpeTokenizer
from ml_playground.tokenization.char import CharTokenizer
from ml_playground.tokenization.hugging_face import HuggingFaceTokenizer
from ml_playground.tokenization.settings import ByteBpe, Char, HuggingFace, Word
from ml_playground.tokenization.word import WordTokenizer
from tests.fakes.trained_run import TEXT

OURS: dict[str, Tokenizer] = {
    "byte": ByteTokenizer(),
    "byte_bpe": ByteBpeTokenizer.train([TEXT], ByteBpe(vocab_size=300)),
    "char": CharTokenizer.train([TEXT], Char()),
    "word": WordTokenizer.train([TEXT], Word()),
}


def copy_of(tokenizer: Tokenizer, folder: Path) -> Tokenizer:
    """As `mlp export` writes it, and as a job reads that."""
    (folder / "ours").mkdir(parents=True)
    tokenizer.save(folder / "ours")
    (folder / "theirs").mkdir()
    for name, content in tokenizer_files(folder / "ours").items():
        (folder / "theirs" / name).write_bytes(content)
    return HuggingFaceTokenizer.train([TEXT], HuggingFace(path=folder / "theirs"))


@pytest.mark.parametrize("kind", sorted(OURS))
def test_tokenizer_and_its_exported_copy_mean_the_same(kind: str, tmp_path: Path) -> None:
    """In both directions, although their fingerprints differ: what was trained here is evaluated on what it was exported from."""
    ours = OURS[kind]
    copy = copy_of(ours, tmp_path)
    rows = [ours.encode(TEXT)]
    assert copy.fingerprint != ours.fingerprint
    assert mean_the_same(ours, copy, rows)
    assert mean_the_same(copy, ours, rows)


def test_other_tokenizers_do_not() -> None:
    """Whatever they have in common: the number of ids, or the ids, but not how a text is cut."""
    for kind, one in OURS.items():
        rows = [one.encode(TEXT)]
        assert [other for other in OURS if mean_the_same(one, OURS[other], rows)] == [kind]
    turned = CharTokenizer.train([TEXT[::-1].upper()], Char())
    assert not mean_the_same(OURS["char"], turned, [OURS["char"].encode(TEXT)])


def test_same_ids_that_cut_a_text_otherwise_do_not() -> None:
    """The same merges in another order: only a text tells."""
    letters = [
        token
        for token in ByteBpeTokenizer.train([TEXT], ByteBpe(vocab_size=300)).content["vocabulary"]
        if len(token) == 1 or token == END_OF_TEXT
    ]
    merges = [("a", "b"), ("b", "c")]
    one, other = (ByteBpeTokenizer([*letters, "ab", "bc"], order) for order in (merges, merges[::-1]))
    assert not mean_the_same(one, other, [one.encode("abc")])
    assert mean_the_same(one, other, [one.encode("ab bc")])
