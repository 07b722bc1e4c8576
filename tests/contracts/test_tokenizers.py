"""What every kind of tokenizer must do; run on each kind of the table."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import tiktoken.load
import tokenizers
from transformers import AutoTokenizer

from ml_playground.configuration.base import Component
from ml_playground.configuration.families import TOKENIZERS
from ml_playground.core.error_handling import DataError
from ml_playground.core.registry import load_object
from ml_playground.core.tokenizer_protocol import BulkTokenizer, Tokenizer
from ml_playground.tokenization.loading import load_tokenizer
from tests.fakes.tokenizer_files import write_folder, write_ranks

Content = Mapping[str, Any]
Encode = Callable[[str], list[int]]

TEXT = "Zwölf Boxkämpfer jagen Viktor, it's <|endoftext|>\r\n\tquer über den\n\n  großen Sylter Deich. \U0001f40e 你好 0123\n"


def class_of(kind: str) -> type[BulkTokenizer]:
    """The class behind a kind."""
    return load_object(TOKENIZERS[kind].build)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What kinds are read from that do not learn."""
    folder = tmp_path_factory.mktemp("files")
    write_ranks(folder / "ranks")
    write_folder(folder / "hugging_face")
    return folder


@pytest.fixture
def settings(kind: str, files: Path) -> Component:
    """A kind's settings as they are with no key but those that it cannot do without."""
    needed = {"tiktoken_bpe": {"ranks": files / "ranks"}, "hugging_face": {"path": files / "hugging_face"}}
    return load_object(TOKENIZERS[kind].settings)(**needed.get(kind, {}))


@pytest.fixture
def tokenizer(kind: str, settings: Component) -> BulkTokenizer:
    """A tokenizer that has seen the text."""
    return class_of(kind).train([TEXT] * 3, settings)


every_kind = pytest.mark.parametrize("kind", sorted(TOKENIZERS))


@every_kind
def test_trained_tokenizer_offers_the_protocol(kind: str, tokenizer: BulkTokenizer) -> None:
    """Samplers and preparers ask for nothing else."""
    assert isinstance(tokenizer, Tokenizer)


@every_kind
def test_decode_of_encoded_training_text_is_the_text(kind: str, tokenizer: BulkTokenizer) -> None:
    """Lossless on what it was trained on, line ends and rare scripts among it."""
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT


@every_kind
def test_encode_gives_ids_below_vocab_size(kind: str, tokenizer: BulkTokenizer) -> None:
    """A model has a row for each id, and no more."""
    ids = tokenizer.encode(TEXT + "\u03a9 never seen")
    assert min(ids) >= 0
    assert max(ids) < tokenizer.vocab_size


@every_kind
def test_encode_never_gives_a_special_id_for_known_text(kind: str, tokenizer: BulkTokenizer) -> None:
    """A text that spells a special token does not become one."""
    specials = tokenizer.specials
    assert not {specials.bos, specials.eos, specials.pad, specials.unknown} & set(tokenizer.encode(TEXT))


def in_groups(text: str, n: int) -> list[str]:
    """Groups of n characters that begin anew at a blank or line break behind anything but white space."""
    groups: list[str] = []
    for place, character in enumerate(text):
        begins = character in " \n" and text[place - 1 : place].strip(" \t\n\r\v\f") != ""
        if not groups or begins or len(groups[-1]) == n:
            groups.append("")
        groups[-1] += character
    return groups


def by_bytes(content: Content, folder: Path) -> Encode:
    """As `byte`."""
    return lambda text: list(text.encode())


def by_characters(content: Content, folder: Path) -> Encode:
    """As `char`."""
    known = {character: index for index, character in enumerate(content["characters"])}
    return lambda text: [known.get(character, len(known)) for character in text]


def by_words(content: Content, folder: Path) -> Encode:
    """As `word`, with the library's pre-tokenizer."""
    splitter = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    known = {splitter.pre_tokenize_str(word)[0][0]: index for index, word in enumerate(content["words"])}
    blank = "\u0120"
    return lambda text: [
        known.get(part, len(known))
        for word, _ in splitter.pre_tokenize_str(text)
        for part in (
            [blank, word[1:]]
            if word not in known and {blank, word[1:]} <= known.keys() and word[0] == blank
            else [word]
        )
    ]


def by_groups(content: Content, folder: Path) -> Encode:
    """As `ngram`."""
    known = {group: index for index, group in enumerate(content["groups"])}
    return lambda text: [
        known.get(part, len(known))
        for group in in_groups(text, content["n"])
        for part in ([group] if group in known else group)
    ]


def by_merges(content: Content, folder: Path) -> Encode:
    """As `byte_bpe`, with the library `tokenizers`."""
    vocabulary = {token: index for index, token in enumerate(content["vocabulary"])}
    library = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab=vocabulary, merges=[tuple(merge) for merge in content["merges"]])
    )
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    return lambda text: library.encode(text).ids


def by_ranks(content: Content, folder: Path) -> Encode:
    """As `tiktoken_bpe`, with the library alone."""
    ranks = tiktoken.load.load_tiktoken_bpe(str(folder / "ranks.tiktoken"))
    pattern = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
    library = tiktoken.Encoding("plain", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    return library.encode_ordinary


def by_pieces(content: Content, folder: Path) -> Encode:
    """As `sentencepiece_model`, with the library alone."""
    library = sentencepiece.SentencePieceProcessor(model_file=str(folder / "sentencepiece.model"))
    return library.Encode


def by_auto_tokenizer(content: Content, folder: Path) -> Encode:
    """As `hugging_face`, with transformers."""
    library = AutoTokenizer.from_pretrained(folder / "hugging_face", local_files_only=True)
    return lambda text: library(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


PLAIN: Mapping[str, Callable[[Content, Path], Encode]] = {
    "byte": by_bytes,
    "char": by_characters,
    "word": by_words,
    "ngram": by_groups,
    "byte_bpe": by_merges,
    "tiktoken_bpe": by_ranks,
    "sentencepiece_model": by_pieces,
    "hugging_face": by_auto_tokenizer,
}
"""The ids by an independent, slow way, from nothing but what the tokenizer saved."""


@every_kind
def test_encode_and_encode_arrays_equal_the_plain_way(kind: str, tokenizer: BulkTokenizer, tmp_path: Path) -> None:
    """Tables and caches change no id, neither when a word is new nor when it is known."""
    tokenizer.save(tmp_path)
    plain = PLAIN[kind](json.loads((tmp_path / "tokenizer.json").read_text()), tmp_path)
    texts = [
        TEXT,
        "plain ascii text",
        "",
        "ümlaut",
        "it's  it's\n\n 0123 <|endoftext|>",
        "\u03a9 never seen " + "你" * 99,
    ]
    expected = [plain(text) for text in texts]
    for _ in range(2):
        assert [ids.tolist() for ids in tokenizer.encode_arrays(texts)] == expected
        assert [tokenizer.encode(text) for text in texts] == expected


@every_kind
def test_encode_arrays_uses_the_small_type(kind: str, tokenizer: BulkTokenizer) -> None:
    """Token files of small vocabularies have two bytes an id."""
    assert tokenizer.encode_arrays([TEXT])[0].dtype == np.uint16


@every_kind
def test_token_bytes_of_encoded_text_sum_to_its_utf8_length(kind: str, tokenizer: BulkTokenizer) -> None:
    """Bits per byte divides by them."""
    sizes = tokenizer.token_bytes()
    assert len(sizes) == tokenizer.vocab_size
    assert sum(sizes[index] for index in tokenizer.encode(TEXT)) == len(TEXT.encode())


@every_kind
def test_token_bytes_of_specials_are_zero(kind: str, tokenizer: BulkTokenizer) -> None:
    """Special ids stand for no text."""
    named = [tokenizer.specials.eos, tokenizer.specials.unknown]
    assert {tokenizer.token_bytes()[index] for index in named if index is not None} == {0}


@every_kind
def test_load_of_saved_gives_an_equal_tokenizer(kind: str, tokenizer: BulkTokenizer, tmp_path: Path) -> None:
    """A checkpoint's copy of the folder is as good as the original."""
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert type(loaded) is class_of(kind)
    assert (loaded.fingerprint, loaded.vocab_size, loaded.specials) == (
        tokenizer.fingerprint,
        tokenizer.vocab_size,
        tokenizer.specials,
    )
    assert loaded.encode(TEXT) == tokenizer.encode(TEXT)
    assert list(loaded.token_bytes()) == list(tokenizer.token_bytes())


@every_kind
def test_save_names_the_kind_in_tokenizer_json(kind: str, tokenizer: BulkTokenizer, tmp_path: Path) -> None:
    """A folder says by itself what can read it."""
    tokenizer.save(tmp_path)
    assert json.loads((tmp_path / "tokenizer.json").read_text())["kind"] == kind


@every_kind
def test_train_twice_gives_equal_fingerprints(kind: str, tokenizer: BulkTokenizer, settings: Component) -> None:
    """The vocabulary is a function of text and settings."""
    assert class_of(kind).train([TEXT] * 3, settings).fingerprint == tokenizer.fingerprint


@every_kind
@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_train_without_text_says_what_to_do(kind: str, settings: Component, texts: list[str]) -> None:
    """An empty training part is an error of the data."""
    with pytest.raises(DataError, match=rf"training part holds no text.*{kind}.*prepare\.val_fraction"):
        class_of(kind).train(texts, settings)


@every_kind
def test_load_of_another_kind_names_both(kind: str, tokenizer: BulkTokenizer, tmp_path: Path) -> None:
    """A class does not read what another one wrote."""
    (tmp_path / "tokenizer.json").write_text('{"kind": "rune", "schema_version": 1}')
    with pytest.raises(DataError, match=f"kind 'rune', not '{kind}'"):
        class_of(kind).load(tmp_path)


@every_kind
def test_decode_of_cut_characters_gives_replacement_characters_not_an_error(
    kind: str, tokenizer: BulkTokenizer
) -> None:
    """A model may stop in the middle of a character."""
    ids = tokenizer.encode("\U0001f40e")
    assert tokenizer.decode(ids[:-1]) in ("", "\ufffd")


@every_kind
def test_encode_of_half_a_surrogate_pair_gives_replacement_characters(kind: str, tokenizer: BulkTokenizer) -> None:
    """Command lines may carry such characters; they must not crash a sampler."""
    assert set(tokenizer.decode(tokenizer.encode("\ud800"))) == {"\ufffd"}
