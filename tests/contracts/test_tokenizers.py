"""What every kind of tokenizer must do; run on each kind of the table."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from ml_playground.configuration.base import Component
from ml_playground.configuration.families import TOKENIZERS
from ml_playground.core.error_handling import DataError
from ml_playground.core.registry import load_object
from ml_playground.core.tokenizer_protocol import BulkTokenizer, Tokenizer
from ml_playground.tokenization.loading import load_tokenizer

TEXT = "Zwölf Boxkämpfer jagen Viktor, it's <|endoftext|>\r\n\tquer über den\n\n  großen Sylter Deich. \U0001f40e 你好 0123\n"


def class_of(kind: str) -> type[BulkTokenizer]:
    """The class behind a kind."""
    return load_object(TOKENIZERS[kind].build)


def settings_of(kind: str) -> Component:
    """Its settings as they are without any key."""
    return load_object(TOKENIZERS[kind].settings)()


def trained(kind: str) -> BulkTokenizer:
    """A tokenizer that has seen the text."""
    return class_of(kind).train([TEXT] * 3, settings_of(kind))


every_kind = pytest.mark.parametrize("kind", sorted(TOKENIZERS))


@every_kind
def test_trained_tokenizer_offers_the_protocol(kind: str) -> None:
    """Samplers and preparers ask for nothing else."""
    assert isinstance(trained(kind), Tokenizer)


@every_kind
def test_decode_of_encoded_training_text_is_the_text(kind: str) -> None:
    """Lossless on what it was trained on, line ends and rare scripts among it."""
    tokenizer = trained(kind)
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT


@every_kind
def test_encode_gives_ids_below_vocab_size(kind: str) -> None:
    """A model has a row for each id, and no more."""
    tokenizer = trained(kind)
    ids = tokenizer.encode(TEXT + "\u03a9 never seen")
    assert min(ids) >= 0
    assert max(ids) < tokenizer.vocab_size


@every_kind
def test_encode_never_gives_a_special_id_for_known_text(kind: str) -> None:
    """A text that spells a special token does not become one."""
    tokenizer = trained(kind)
    specials = tokenizer.specials
    assert not {specials.bos, specials.eos, specials.pad, specials.unknown} & set(tokenizer.encode(TEXT))


def plain_encode(kind: str, tokenizer: BulkTokenizer, folder: Path) -> Callable[[str], list[int]]:
    """The ids by an independent, slow way, from nothing but what the tokenizer saved."""
    tokenizer.save(folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    if kind == "byte":
        return lambda text: list(text.encode())
    if kind == "char":
        known = {character: index for index, character in enumerate(content["characters"])}
        return lambda text: [known.get(character, len(known)) for character in text]
    vocabulary = {token: index for index, token in enumerate(content["vocabulary"])}
    library = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab=vocabulary, merges=[tuple(merge) for merge in content["merges"]])
    )
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    return lambda text: library.encode(text).ids


@every_kind
def test_encode_and_encode_arrays_equal_the_plain_way(kind: str, tmp_path: Path) -> None:
    """Tables and caches change no id, neither when a word is new nor when it is known."""
    tokenizer = trained(kind)
    plain = plain_encode(kind, tokenizer, tmp_path)
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
def test_encode_arrays_uses_the_small_type(kind: str) -> None:
    """Token files of small vocabularies have two bytes an id."""
    assert trained(kind).encode_arrays([TEXT])[0].dtype == np.uint16


@every_kind
def test_token_bytes_of_encoded_text_sum_to_its_utf8_length(kind: str) -> None:
    """Bits per byte divides by them."""
    tokenizer = trained(kind)
    sizes = tokenizer.token_bytes()
    assert len(sizes) == tokenizer.vocab_size
    assert sum(sizes[index] for index in tokenizer.encode(TEXT)) == len(TEXT.encode())


@every_kind
def test_token_bytes_of_specials_are_zero(kind: str) -> None:
    """Special ids stand for no text."""
    tokenizer = trained(kind)
    named = [tokenizer.specials.eos, tokenizer.specials.unknown]
    assert {tokenizer.token_bytes()[index] for index in named if index is not None} == {0}


@every_kind
def test_load_of_saved_gives_an_equal_tokenizer(kind: str, tmp_path: Path) -> None:
    """A checkpoint's copy of the folder is as good as the original."""
    tokenizer = trained(kind)
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
def test_save_names_the_kind_in_tokenizer_json(kind: str, tmp_path: Path) -> None:
    """A folder says by itself what can read it."""
    trained(kind).save(tmp_path)
    assert json.loads((tmp_path / "tokenizer.json").read_text())["kind"] == kind


@every_kind
def test_train_twice_gives_equal_fingerprints(kind: str) -> None:
    """The vocabulary is a function of text and settings."""
    assert trained(kind).fingerprint == trained(kind).fingerprint


@every_kind
@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_train_without_text_says_what_to_do(kind: str, texts: list[str]) -> None:
    """An empty training part is an error of the data."""
    with pytest.raises(DataError, match=rf"training part holds no text.*{kind}.*prepare\.val_fraction"):
        class_of(kind).train(texts, settings_of(kind))


@every_kind
def test_load_of_another_kind_names_both(kind: str, tmp_path: Path) -> None:
    """A class does not read what another one wrote."""
    (tmp_path / "tokenizer.json").write_text('{"kind": "rune", "schema_version": 1}')
    with pytest.raises(DataError, match=f"kind 'rune', not '{kind}'"):
        class_of(kind).load(tmp_path)


@every_kind
def test_decode_of_cut_characters_gives_replacement_characters_not_an_error(kind: str) -> None:
    """A model may stop in the middle of a character."""
    tokenizer = trained(kind)
    ids = tokenizer.encode("\U0001f40e")
    assert tokenizer.decode(ids[:-1]) in ("", "\ufffd")


@every_kind
def test_encode_of_half_a_surrogate_pair_gives_replacement_characters(kind: str) -> None:
    """Command lines may carry such characters; they must not crash a sampler."""
    tokenizer = trained(kind)
    assert set(tokenizer.decode(tokenizer.encode("\ud800"))) == {"\ufffd"}
