"""Rendered chats as ids: those of transformers, for the ways in which libraries cut, mark and normalise text."""

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, Unigram
from tokenizers.trainers import BpeTrainer, UnigramTrainer
from transformers import PreTrainedTokenizerFast

from ml_playground.core.chat_encoding import Border, ChatEncoder, control_of, tokens_of
from ml_playground.core.chat_template import ChatTemplate, Rendered
from ml_playground.core.values import Message
from ml_playground.tokenization.byte import ByteTokenizer
from ml_playground.tokenization.hugging_face import HuggingFaceTokenizer
from ml_playground.tokenization.settings import HuggingFace
from tests.fakes.chat_families import SPECIAL, STEADY, TEXT, our_tokenizer

CHATS = [("What is 1?", "It is 2."), (" What", " It is"), ("a\n", "\nb"), ("x  ", "  y"), ("ﬁ", "ﬁne 日本")]


def _bytes(**options: object) -> Tokenizer:
    made = Tokenizer(BPE(**options))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return made


def _moved_offsets() -> Tokenizer:
    """As GPT-2's: afterwards it says of a word that it begins behind its blank."""
    made = _bytes()
    made.post_processor = processors.ByteLevel(trim_offsets=True)
    return made


def _normalised() -> Tokenizer:
    made = _bytes(unk_token="<unk>")
    made.normalizer = normalizers.NFKC()
    return made


def _prepended() -> Tokenizer:
    """As Llama 2's: blanks are letters, and one stands before each text between special tokens."""
    made = Tokenizer(BPE(unk_token="<unk>"))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return made


def _first_prepended() -> Tokenizer:
    made = Tokenizer(BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    return made


def _unigram() -> Tokenizer:
    made = Tokenizer(Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    return made


WAYS: Mapping[str, Callable[[], Tokenizer]] = {
    "offsets moved": _moved_offsets, "normalised": _normalised, "prepended": _prepended,
    "first prepended": _first_prepended, "unigram": _unigram,
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_ids_are_the_librarys_and_a_prompt_is_the_beginning_of_its_chat(way: str) -> None:
    """For each family of templates: the ids of `apply_chat_template`, and no token across the beginning of an answer."""
    made = WAYS[way]()
    if way == "unigram":
        trainer = UnigramTrainer(vocab_size=200, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    else:
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = BpeTrainer(vocab_size=320, special_tokens=["<unk>"], initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([TEXT], trainer)
    made.add_special_tokens([AddedToken(text, special=True, rstrip=text == "<|eot_id|>") for text in SPECIAL])
    library = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")
    with TemporaryDirectory() as folder:
        library.save_pretrained(folder)
        ours = HuggingFaceTokenizer.train(("any",), HuggingFace(path=Path(folder)))
    encoder = ChatEncoder(ours)
    for text in STEADY.values():
        template = ChatTemplate(text, tokens=tokens_of(ours), control=control_of(ours))
        for asked, said in CHATS:
            chat = (Message("user", asked), Message("assistant", said), Message("user", "ok?"))
            table = [{"role": message.role, "content": message.content} for message in chat]
            whole = template.rendered(chat)
            prompt = template.rendered(chat[:1], add_generation_prompt=True)
            assert encoder.ids(whole) == library.apply_chat_template(table, chat_template=text, return_dict=False)
            (cut,) = encoder.encode([whole], [[Border(len(prompt.text), hard=True)]])
            ids = encoder.ids(prompt)
            assert (cut.ids[: len(ids)].tolist(), cut.borders) == (ids, (len(ids),))


def test_border_within_a_token_cuts_only_where_it_must(tmp_path: Path) -> None:
    """Hard borders cut; at soft ones the token belongs to what follows."""
    tokenizer = our_tokenizer(tmp_path)
    encoder, text = ChatEncoder(tokenizer), Rendered("What is 1?")
    whole = encoder.ids(text)
    assert tokenizer.decode(whole[:1]) == "What"
    (soft,) = encoder.encode([text], [[Border(2, hard=False)]])
    assert (soft.ids.tolist(), soft.borders) == (whole, (0,))
    (hard,) = encoder.encode([text], [[Border(2, hard=True), Border(4, hard=False)]])
    assert hard.ids.tolist() == [*tokenizer.encode("Wh"), *tokenizer.encode("at is 1?")]
    assert tokenizer.decode(hard.ids[: hard.borders[1]].tolist()) == "What"


@pytest.mark.parametrize("ours", [True, False])
def test_stretch_that_looks_like_a_special_token_is_encoded_as_text(tmp_path: Path, ours: bool) -> None:
    """By the library, and by a tokenizer that knows its end mark only."""
    tokenizer = ByteTokenizer() if ours else our_tokenizer(tmp_path)
    end = tokens_of(tokenizer)["eos_token"]
    ids = ChatEncoder(tokenizer).ids(Rendered(f"a{end}b{end}", ((1, 1 + len(end)),)))
    assert ids.count(tokenizer.specials.eos or 0) == 1
    assert ids == [*tokenizer.encode("a"), *tokenizer.encode(end), *tokenizer.encode("b"), tokenizer.specials.eos]
    assert ChatEncoder(tokenizer).ids(Rendered("")) == []
