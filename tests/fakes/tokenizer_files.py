"""Small files that tokenizers are read from, as others write them: ranks of tiktoken, Hugging Face folders of each make."""

import base64
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from ml_playground.tokenization.byte_bpe import ByteBpeTokenizer
from ml_playground.tokenization.byte_letters import BYTE_OF_LETTER
from ml_playground.tokenization.settings import ByteBpe

SAMPLE = (
    "Zwölf Boxkämpfer jagen Viktor, it's quer über den\n\n  großen Sylter Deich. they'll be said's 0.9 99\r\n"
    "def f(x):\n    return x + 1  # the end!\n\tab ab aab 你好 \U0001f40e ½ e\u0301\n"
) * 20

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def rank_lines(tokens: Mapping[bytes, int]) -> bytes:
    """A file of ranks."""
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in tokens.items())


def small_ranks(vocab_size: int = 400, *, gap: bool = False) -> dict[bytes, int]:
    """Ranks learnt from the sample; with a gap in their middle, as p50k_base has one."""
    learnt = ByteBpeTokenizer.train([SAMPLE], ByteBpe(vocab_size=vocab_size))
    tokens = [
        bytes(BYTE_OF_LETTER[letter] for letter in token) for token in learnt.content["vocabulary"] if token[:2] != "<|"
    ]
    return {token: rank + (gap and rank >= 300) for rank, token in enumerate(tokens)}


def write_ranks(path: Path, **options: Any) -> Path:
    """A small file of ranks."""
    path.write_bytes(rank_lines(small_ranks(**options)))
    return path


def gpt2_like() -> Tokenizer:
    """Bytes as letters, GPT-2's pattern."""
    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    return trained(
        library, trainers.BpeTrainer(vocab_size=400, initial_alphabet=sorted(BYTE_OF_LETTER), show_progress=False)
    )


def qwen_like() -> Tokenizer:
    """Bytes as letters, a newer pattern, and the text normalised."""
    library = Tokenizer(models.BPE())
    library.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(LLAMA3), behavior="isolated", invert=False)
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    library.decoder = decoders.ByteLevel()
    return trained(
        library, trainers.BpeTrainer(vocab_size=400, initial_alphabet=sorted(BYTE_OF_LETTER), show_progress=False)
    )


def gemma_like() -> Tokenizer:
    """Byte pairs over the whole text, blanks as a letter, bytes for what has no id."""
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    letters = sorted({letter for letter in SAMPLE.replace(" ", "▁") if letter not in "½\r"})
    vocabulary = {
        token: index for index, token in enumerate(["<unk>", *bytes_, *letters, "▁▁", "th", "▁th", "▁the", "de"])
    }
    merges = [("▁", "▁"), ("t", "h"), ("▁", "th"), ("▁th", "e"), ("d", "e")]
    library = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    library.normalizer = normalizers.Replace(" ", "▁")
    library.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous")
    library.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return library


def llama_like() -> Tokenizer:
    """The same with a blank put before every text: no part of a text has the ids that it has within the text."""
    library = gemma_like()
    library.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return library


def bert_like() -> Tokenizer:
    """Pieces of lower-case words; white space is lost."""
    library = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    library.normalizer = normalizers.BertNormalizer(lowercase=True)
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.decoder = decoders.WordPiece()
    return trained(
        library, trainers.WordPieceTrainer(vocab_size=300, special_tokens=["[UNK]", "[SEP]"], show_progress=False)
    )


def unigram_like() -> Tokenizer:
    """The most likely pieces, each word by itself."""
    library = Tokenizer(models.Unigram())
    library.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    library.decoder = decoders.Metaspace(prepend_scheme="first")
    return trained(
        library,
        trainers.UnigramTrainer(vocab_size=200, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False),
    )


def trained(library: Tokenizer, trainer: Any) -> Tokenizer:
    """The same, with what the sample teaches."""
    library.train_from_iterator([SAMPLE], trainer)
    return library


MAKES: Mapping[str, Callable[[], Tokenizer]] = {
    "gpt2": gpt2_like,
    "qwen": qwen_like,
    "gemma": gemma_like,
    "llama": llama_like,
    "bert": bert_like,
    "unigram": unigram_like,
}
LOSSLESS: Sequence[str] = ("gpt2", "gemma")


@functools.cache
def rules_of(make: str) -> str:
    """The rules of a make, as JSON."""
    return MAKES[make]().to_str()


def write_folder(folder: Path, make: str = "gpt2", **configuration: Any) -> Path:
    """A Hugging Face folder: rules, configuration, chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    # The library's trainers do not always give equal tokens equal places.
    library = Tokenizer.from_str(rules_of(make))
    library.add_special_tokens(["<|endoftext|>", "<|im_start|>"])
    library.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|endoftext|>", **configuration}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}", encoding="utf-8")
    return folder
