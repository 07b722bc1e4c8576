"""`hugging_face`: what is kept of a folder, and what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer

from ml_playground.core.error_handling import DataError
from ml_playground.tokenization.hugging_face import HuggingFaceTokenizer
from ml_playground.tokenization.loading import load_tokenizer
from ml_playground.tokenization.settings import HuggingFace
from tests.fakes.tokenizer_files import LOSSLESS, MAKES, SAMPLE, rules_of, write_folder

TEXT = "Zwölf Boxkämpfer, it's\r\n\tquer über den\n\n  Deich. \U0001f40e 你好 0123\n"


def opened(folder: Path) -> HuggingFaceTokenizer:
    """The tokenizer of a folder."""
    return HuggingFaceTokenizer.train(["a"], HuggingFace(path=folder))


@pytest.mark.parametrize("make", MAKES)
def test_ids_are_those_of_auto_tokenizer(make: str, tmp_path: Path) -> None:
    """Without special tokens added; and of a text that spells one, as with split_special_tokens."""
    library = AutoTokenizer.from_pretrained(write_folder(tmp_path, make), local_files_only=True)
    tokenizer = opened(tmp_path)
    assert tokenizer.encode(TEXT) == library(TEXT, add_special_tokens=False)["input_ids"]
    spelt = TEXT + "<|endoftext|><|im_start|>"
    plain = library(spelt, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert tokenizer.encode(spelt) == plain
    assert tokenizer.specials.eos == library.eos_token_id
    assert tokenizer.vocab_size == len(library)


@pytest.mark.parametrize("make", LOSSLESS)
def test_text_comes_back_to_the_byte(make: str, tmp_path: Path) -> None:
    """Bytes as letters, and blanks as letters with bytes for what has no id."""
    tokenizer = opened(write_folder(tmp_path, make))
    ids = tokenizer.encode(TEXT)
    assert tokenizer.decode([*ids, tokenizer.specials.eos or 0]) == TEXT
    assert sum(tokenizer.token_bytes()[index] for index in ids) == len(TEXT.encode())
    assert tokenizer.specials.unknown is None


@pytest.mark.parametrize(
    ("make", "cut"), [("gpt2", 5), ("qwen", 5), ("gemma", 5), ("bert", 5), ("unigram", 5), ("llama", None)]
)
def test_cuts_are_given_where_the_rules_are_known_to_allow_them(make: str, cut: int | None, tmp_path: Path) -> None:
    """A make that puts a blank before every text has none."""
    assert opened(write_folder(tmp_path, make)).safe_cut("Zwölf Boxkämpfer", 1) == cut


def test_word_pieces_decode_as_the_library_does(tmp_path: Path) -> None:
    """Their ids say no bytes by themselves: unknown and special ones count none."""
    library = AutoTokenizer.from_pretrained(write_folder(tmp_path, "bert"), local_files_only=True)
    tokenizer = opened(tmp_path)
    ids = tokenizer.encode("quer über den Deich")
    assert tokenizer.decode([*ids, tokenizer.specials.eos or 0]) == library.decode(ids)
    assert tokenizer.token_bytes()[tokenizer.specials.unknown or 0] == 0
    assert len(tokenizer.token_bytes()) == tokenizer.vocab_size


def test_word_pieces_count_the_blank_before_a_word_and_not_their_mark(tmp_path: Path) -> None:
    """Else bits per byte were those of a text without blanks, and of one with `##` in its words."""
    tokenizer = opened(write_folder(tmp_path, "bert"))
    ids = tokenizer.encode(SAMPLE)
    assert sum(tokenizer.token_bytes()[index] for index in ids) == len(f" {tokenizer.decode(ids)}".encode())


@pytest.mark.parametrize(
    ("token", "cut"),
    [
        ({"content": "<call>"}, 3),
        ({"content": "<a b>"}, None),
        ({"content": "<a\u2581b>", "normalized": True}, None),
        ({"content": "<a\xa0b>", "normalized": True}, None),
        ({"content": "\u2581\u2581"}, 3),
        ({"content": "<call>", "rstrip": True}, None),
        ({"content": "<call>", "single_word": True}, None),
    ],
)
def test_tokens_that_are_found_in_texts_may_forbid_cuts(
    token: dict[str, object], cut: int | None, tmp_path: Path
) -> None:
    """Those that hold a blank, or look at what stands beside them."""
    rules = write_folder(tmp_path) / "tokenizer.json"
    spec = json.loads(rules.read_text())
    plain = {"id": 900, "special": False, "lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
    spec["added_tokens"].append(plain | token)
    rules.write_text(json.dumps(spec))
    tokenizer = opened(tmp_path)
    assert tokenizer.safe_cut("den Deich", 1) == cut
    assert tokenizer.decode(tokenizer.encode(f"x{token['content']}")) == f"x{token['content']}"


def test_saved_folder_is_one_that_auto_tokenizer_opens(tmp_path: Path) -> None:
    """With the chat template, for whoever ships the model."""
    tokenizer = opened(write_folder(tmp_path / "from"))
    (tmp_path / "to").mkdir()
    tokenizer.save(tmp_path / "to")
    again = AutoTokenizer.from_pretrained(tmp_path / "to" / "hugging_face", local_files_only=True)
    chat = [{"role": "user", "content": "quer"}]
    assert again.apply_chat_template(chat, tokenize=False) == "quer"
    assert again(TEXT, add_special_tokens=False)["input_ids"] == tokenizer.encode(TEXT)


def test_loading_needs_no_transformers(tmp_path: Path) -> None:
    """Training and sampling start without it."""
    opened(write_folder(tmp_path / "from")).save(tmp_path)
    code = (
        "import sys; sys.modules['transformers'] = None\n"
        "from pathlib import Path\n"
        "from ml_playground.tokenization.loading import load_tokenizer\n"
        f"print(load_tokenizer(Path({str(tmp_path)!r})).decode([1, 2]))"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, env=os.environ)


def test_rules_without_configuration_are_enough(tmp_path: Path) -> None:
    """Then nothing says what ends a text."""
    folder = write_folder(tmp_path)
    (folder / "tokenizer_config.json").unlink()
    assert opened(folder).specials.eos is None
    assert opened(folder).decode(opened(folder).encode(TEXT)) == TEXT


def test_vocabulary_and_merges_without_rules_are_enough(tmp_path: Path) -> None:
    """What AutoTokenizer opens is opened: GPT-2's own two files."""
    spec = json.loads((write_folder(tmp_path / "whole") / "tokenizer.json").read_text())["model"]
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps(spec["vocab"] | {"<|endoftext|>": 364}))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in spec["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    tokenizer = opened(folder)
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT
    assert tokenizer.specials.eos == 364


def test_named_files_are_those_that_make_the_tokenizer(tmp_path: Path) -> None:
    """Weights and notes that lie beside them are not hashed."""
    folder = write_folder(tmp_path)
    (folder / "README.md").write_text("x")
    (folder / "model.safetensors").write_text("x")
    names = [path.name for path in HuggingFaceTokenizer.named_files(HuggingFace(path=folder))]
    assert names == ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]


def test_folder_that_is_missing_or_holds_nothing_names_the_key(tmp_path: Path) -> None:
    """The user learns which setting leads nowhere."""
    with pytest.raises(DataError, match=r"prepare\.tokenizer\.path = \S+nowhere is no folder"):
        opened(tmp_path / "nowhere")
    with pytest.raises(
        DataError, match=rf"^{tmp_path} holds no tokenizer \(tokenizer\.json, .*prepare\.tokenizer\.path"
    ):
        opened(tmp_path)


@pytest.mark.parametrize("configuration", ["config.json", "tokenizer_config.json"])
def test_folder_of_a_model_without_vocabulary_holds_no_tokenizer(configuration: str, tmp_path: Path) -> None:
    """The library would make one of special tokens alone, which knows no text."""
    (tmp_path / configuration).write_text('{"model_type": "gpt2", "tokenizer_class": "GPT2Tokenizer"}')
    (tmp_path / "model.safetensors").write_text("x")
    with pytest.raises(DataError, match=rf"^{tmp_path} holds no tokenizer \("):
        opened(tmp_path)


@pytest.mark.parametrize("rules", ["{", "{}", '{"model": 3}', '{"version": "1.0", "model": {"type": "BPE"}}'])
def test_folder_with_damaged_rules_says_so(rules: str, tmp_path: Path) -> None:
    """Whatever the library stumbles over."""
    (write_folder(tmp_path) / "tokenizer.json").write_text(rules)
    with pytest.raises(DataError, match="does not open the tokenizer"):
        opened(tmp_path)


def test_code_of_the_folder_is_never_run(tmp_path: Path) -> None:
    """A configuration that asks for it is refused, or its code left alone."""
    auto_map = {"AutoTokenizer": ["evil.Evil", None]}
    folder = write_folder(tmp_path, tokenizer_class="Evil", auto_map=auto_map)
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    with pytest.raises(DataError, match="without network and code of the folder"):
        opened(folder)
    assert not (tmp_path / "ran").exists()


def test_tokenizer_that_is_code_alone_is_refused(tmp_path: Path) -> None:
    """There is no `tokenizer.json` that could be kept."""
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer"}')
    with pytest.raises(
        DataError, match=r"is a ByT5Tokenizer, which is code without a tokenizer\.json; .*kind = 'byte'"
    ):
        opened(tmp_path)


def test_model_with_dropout_is_refused(tmp_path: Path) -> None:
    """Ids are a function of the text."""
    rules = write_folder(tmp_path) / "tokenizer.json"
    spec = json.loads(rules.read_text())
    spec["model"]["dropout"] = 0.5
    rules.write_text(json.dumps(spec))
    with pytest.raises(DataError, match=r"cannot be used: its model has dropout"):
        opened(tmp_path)


def test_model_without_vocabulary_is_refused(tmp_path: Path) -> None:
    """No text would have ids."""
    library = Tokenizer(models.WordLevel({}))
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    library.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(DataError, match=r"cannot be used: it has no vocabulary"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("make", "change", "message"),
    [
        ("gemma", {"continuing_subword_prefix": "x"}, "a merge of its model lacks the prefix that all have"),
        ("gpt2", {"continuing_subword_prefix": "##"}, "a merge of its model lacks the prefix that all have"),
        ("bert", {"unk_token": "[NONE]"}, "its vocabulary lacks the id of what is unknown to it"),
        ("gpt2", {"vocab": {}}, "out of vocabulary"),
    ],
)
def test_rules_that_the_library_would_stumble_over_later_are_refused(
    make: str, change: dict[str, object], message: str
) -> None:
    """While a text is encoded it raises what nobody can act on; for a prefix that is not there it ends the process."""
    spec = json.loads(rules_of(make))
    spec["model"] |= change
    rules = json.dumps(spec).encode()
    with pytest.raises(ValueError, match=message):
        HuggingFaceTokenizer({"hugging_face/tokenizer.json": rules}, {"bos": None, "eos": None, "pad": None})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"special_ids": None}, "'special_ids' is no table"),
        ({"special_ids": {"eos": -1}}, "'special_ids' are no ids"),
        ({"special_ids": {"eos": 10**9}}, "a special id is beyond the vocabulary"),
        ({"files": {}}, "'files' does not name hugging_face/tokenizer.json"),
        ({"files": {"hugging_face/tokenizer.json": "0"}}, "is not the file that belongs to it"),
    ],
)
def test_load_of_damaged_content_says_what_is_wrong(change: dict[str, object], message: str, tmp_path: Path) -> None:
    """No damage is read as a tokenizer."""
    opened(write_folder(tmp_path / "from")).save(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").write_text(json.dumps(content | change))
    with pytest.raises(DataError, match=message):
        load_tokenizer(tmp_path)
