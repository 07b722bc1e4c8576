"""Settings of the tokenizers; free of heavy imports."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ml_playground.configuration.base import Component, ConfigPath, Count


class Char(Component):
    """One id for each character of the training text, in the order of code points."""

    kind: Literal["char"] = "char"
    """Characters."""


class Byte(Component):
    """One id for each byte of UTF-8: nothing is ever unknown."""

    kind: Literal["byte"] = "byte"
    """Bytes."""


class Word(Component):
    """One id for each frequent word, number, run of signs or run of blanks of the training text; other words are unknown."""

    kind: Literal["word"] = "word"
    """Words, each with the blank before it."""
    vocab_size: Annotated[int, Field(ge=3, le=1_000_000)] = 32_768
    """Ids in all at most, the unknown one and the end-of-text mark among them."""
    min_count: Count = 2
    """A word that occurs less often in the training text is unknown."""


class Ngram(Component):
    """Groups of n characters that begin anew with each word; a group that is rare is written in characters."""

    kind: Literal["ngram"] = "ngram"
    """Groups of characters."""
    n: Annotated[int, Field(ge=1, le=8)] = 2
    """Characters of a group; the last one of a word may be shorter."""
    vocab_size: Annotated[int, Field(ge=3, le=1_000_000)] = 8192
    """Ids in all at most: every character of the training text, its most frequent groups, the unknown one, the end-of-text mark."""
    min_count: Count = 2
    """A group that occurs less often in the training text is written in characters."""


class ByteBpe(Component):
    """Byte-level byte-pair encoding, trained on the training text; lossless."""

    kind: Literal["byte_bpe"] = "byte_bpe"
    """Byte pairs, merged."""
    vocab_size: Annotated[int, Field(ge=257, le=1_000_000)] = 8192
    """Ids in all, the 256 bytes and the end-of-text mark among them."""
    min_frequency: Count = 2
    """A pair that is rarer than this is not merged."""


class TiktokenBpe(Component):
    """Byte-level byte-pair encoding with ranks of tiktoken, as GPT-2 and its successors use them; lossless."""

    kind: Literal["tiktoken_bpe"] = "tiktoken_bpe"
    """Byte pairs, merged by given ranks."""
    encoding: Literal["gpt2", "r50k_base", "p50k_base", "cl100k_base", "o200k_base"] = "gpt2"
    """Whose pattern cuts words and whose special tokens there are; `gpt2` is `r50k_base` by another name."""
    ranks: ConfigPath | None = None
    """A file of ranks, a line `<base64> <rank>` each; none: the encoding's own file from tiktoken's cache. Of other ranks than
    the published ones the special tokens get the ids behind the last rank."""


class SentencepieceModel(Component):
    """SentencePiece: trained on the training text, lossless with `byte_fallback`; or a given model file."""

    kind: Literal["sentencepiece_model"] = "sentencepiece_model"
    """Pieces of words."""
    model: ConfigPath | None = None
    """A `.model` file to use as it is; the other keys then stay away. None: one is trained."""
    algorithm: Literal["unigram", "bpe"] = "unigram"
    """`unigram`: the most likely pieces of a word; `bpe`: merged pairs."""
    vocab_size: Annotated[int, Field(ge=8, le=1_000_000)] = 8192
    """Ids in all, the unknown one, the end-of-text mark and (with `byte_fallback`) 256 bytes among them."""
    character_coverage: Annotated[float, Field(ge=0.98, le=1)] = 0.9995
    """Share of the training text's characters, most frequent first, that get an id of their own."""
    byte_fallback: bool = True
    """Characters without an id are written in bytes; off: they are unknown."""

    @model_validator(mode="after")
    def _given_model_is_not_trained(self) -> Self:
        """What decides about training has no effect on a given model."""
        fields = type(self).model_fields
        trained = [
            name for name in fields if name not in {"kind", "model"} and getattr(self, name) != fields[name].default
        ]
        if self.model is not None and trained:
            keys = " and ".join(f"prepare.tokenizer.{name}" for name in trained)
            raise ValueError(
                f"{keys} would have no effect, for prepare.tokenizer.model names a model that is trained; leave out either."
            )
        return self


class HuggingFace(Component):
    """The tokenizer of a local Hugging Face folder; nothing is fetched, and no code of the folder is run."""

    kind: Literal["hugging_face"] = "hugging_face"
    """A tokenizer made elsewhere."""
    path: ConfigPath
    """A folder with `tokenizer.json`, or with what transformers' AutoTokenizer opens."""
