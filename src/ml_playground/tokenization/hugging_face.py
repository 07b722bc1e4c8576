"""The tokenizer of a Hugging Face folder, kept whole: its ids are AutoTokenizer's, and transformers only opens it once."""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from tokenizers import Tokenizer

from ml_playground.core.error_handling import DataError
from ml_playground.core.foreign_files import json_table
from ml_playground.core.registry import load_object
from ml_playground.core.tokenizer_protocol import Ids, Spans, Specials, ids_dtype
from ml_playground.tokenization.ascii_words import Positions
from ml_playground.tokenization.blank_cuts import split_at_blanks
from ml_playground.tokenization.cached_encoder import CachedEncoder, PlainEncoder, flat_ids, whole_characters
from ml_playground.tokenization.hugging_face_rules import cut_of, ends_the_library, pieces_of, unknown_of
from ml_playground.tokenization.no_text import require_text
from ml_playground.tokenization.settings import HuggingFace
from ml_playground.tokenization.stored import (
    content_of_kind,
    damaged,
    fingerprint_of,
    hashes_of,
    read_files,
    write_content,
    write_files,
)

KIND = "hugging_face"
OPEN_FOLDER = "ml_playground.tokenization.hugging_face_folder:open_folder"
INSIDE = "hugging_face"
"""The folder, within the tokenizer's own, that AutoTokenizer opens again."""
RULES = f"{INSIDE}/tokenizer.json"
CONFIGURATION = f"{INSIDE}/tokenizer_config.json"
TEMPLATE = f"{INSIDE}/chat_template.jinja"

# What tokenizers are made of; weights and texts that lie beside them decide nothing.
FILES_OF_TOKENIZERS = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "config.json"),
    *("vocab.json", "merges.txt", "vocab.txt", "chat_template.jinja", "chat_template.json"),
    *("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model", "tokenizer.tiktoken", "tekken.json"),
)


# Any of them holds a vocabulary; of what lies in a folder without, the library makes a tokenizer of special tokens alone.
VOCABULARIES = (
    *("tokenizer.json", "vocab.json", "vocab.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model"),
    *("spm.model", "tokenizer.tiktoken", "tekken.json"),
)


class HuggingFaceTokenizer:
    """Ids of the library `tokenizers`; special tokens are ids of their own that no text is ever turned into."""

    def __init__(self, files: Mapping[str, bytes], ids: Mapping[str, int | None]) -> None:
        """From what transformers wrote.

        Args:
            files: By name below the tokenizer's folder, `hugging_face/tokenizer.json` among them.
            ids: Of bos, eos and pad.

        Raises:
            ValueError: The files hold no tokenizer.
        """
        self._files = dict(files)
        self._content = {"special_ids": dict(ids), "files": hashes_of(files)}
        self._fingerprint = fingerprint_of(KIND, {"special_ids": dict(ids), "rules": hashes_of(files)[RULES]})
        spec = json_table(files[RULES])
        if ends_the_library(spec):
            raise ValueError("a merge of its model lacks the prefix that all have")
        self._library = _library(files[RULES])
        if (spec.get("model") or {}).get("dropout"):
            raise ValueError("its model has dropout, so that a text has other ids each time")
        vocabulary = self._library.get_vocab(with_added_tokens=True)
        if not vocabulary:
            raise ValueError("it has no vocabulary")
        if (spec.get("model") or {}).get("type") in ("WordPiece", "WordLevel") and unknown_of(spec) is None:
            raise ValueError("its vocabulary lacks the id of what is unknown to it")
        self._size = max(vocabulary.values()) + 1
        self._pieces = pieces_of(spec)
        self._special_ids = {
            index for index, token in self._library.get_added_tokens_decoder().items() if token.special
        }
        self._specials = Specials(**ids, unknown=unknown_of(spec))
        self._cut = cut_of(spec)
        self._dtype = ids_dtype(self._size)
        self._encoder = (
            PlainEncoder(self._dtype, self._encode_words)
            if self._cut is None
            else CachedEncoder(self._dtype, self._encode_words, split_at_blanks)
        )

    @property
    def vocab_size(self) -> int:
        """The largest id and one; some ids below it may stand for nothing."""
        return self._size

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) over the rules and the special ids."""
        return self._fingerprint

    @property
    def specials(self) -> Specials:
        """Those of the folder's configuration; unknown where the model has one."""
        return self._specials

    @property
    def opening_ids(self) -> Sequence[int]:
        """What the folder's own rules put before a text, the mark of its beginning for Llama and Gemma; without it they write nonsense."""
        plain, marked = (self._library.encode("a", add_special_tokens=marks).ids for marks in (False, True))
        begins = (at for at in range(len(marked)) if marked[at : at + len(plain)] == plain)
        return marked[: next(begins, 0)]

    def encode(self, text: str) -> list[int]:
        """Ids of a text, special tokens in it as the text that they are, none added; half a surrogate pair becomes U+FFFD."""
        return self._encoder.encode(text)

    def encode_arrays(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of each text."""
        return self._encoder.encode_arrays(texts)

    def _encode_words(self, words: list[str]) -> tuple[Ids, Positions]:
        found = self._library.encode_batch_fast(words, add_special_tokens=False)
        return flat_ids([one.ids for one in found], self._dtype)

    @property
    def marks(self) -> Mapping[str, int]:
        """All tokens that the library finds before it cuts a text into words, but for those that are white space."""
        added = self._library.get_added_tokens_decoder().items()
        return {token.content: index for index, token in added if token.content.strip()}

    @property
    def control(self) -> Sequence[str]:
        """Those that the folder calls special."""
        return tuple(text for text, index in self.marks.items() if index in self._special_ids)

    @property
    def chat_template(self) -> str | None:
        """The folder's own; of several the default one."""
        if (found := self._files.get(TEMPLATE)) is not None:
            return found.decode()
        own = json_table(self._files.get(CONFIGURATION, b"{}")).get("chat_template")
        return own if isinstance(own, str) else None

    def encode_marked(self, texts: Sequence[str]) -> list[Spans]:
        """Ids of each text, special tokens found in it, none added; half a surrogate pair becomes U+FFFD."""
        found = self._marking.encode_batch([whole_characters(text) for text in texts], add_special_tokens=False)
        places = (
            np.fromiter(chain.from_iterable(one.offsets), dtype=np.int64, count=2 * len(one.ids)).reshape(-1, 2)
            for one in found
        )
        return [
            Spans(np.array(one.ids, dtype=self._dtype), at[:, 0], at[:, 1])
            for one, at in zip(found, places, strict=True)
        ]

    @cached_property
    def _marking(self) -> Tokenizer:
        """The library's tokenizer, which finds special tokens in a text.

        Without what comes after: it adds nothing here, but may move the beginning of a token behind the blank that it stands for.
        """
        marking = Tokenizer.from_str(json.dumps(json_table(self._files[RULES]) | {"post_processor": None}))
        marking.no_truncation()
        marking.no_padding()
        return marking

    def decode(self, ids: Sequence[int]) -> str:
        """The text, special tokens left out; bytes that are no valid UTF-8 become U+FFFD.

        Where ids say no bytes by themselves (word pieces, say) it is what the library makes of them.
        """
        if self._pieces is None:
            return self._library.decode([index for index in ids if index not in self._special_ids])
        unknown = self._specials.unknown
        found = b"".join("\ufffd".encode() if index == unknown else self._pieces[index] for index in ids)
        return found.decode("utf-8", "replace")

    def token_bytes(self) -> Sequence[int]:
        """Bytes each id stands for, (V,); 0 for special tokens. Tokenizers that normalise a text count what they make of it."""
        if self._pieces is not None:
            return list(map(len, self._pieces))
        nothing = {*self._special_ids, self._specials.unknown}
        beside = self._some_word()
        # What an id adds between two others: the blank before a word counts, the mark of a piece that goes on with one does not.
        without = self._decoded_bytes([*beside, *beside])
        return [
            0 if index in nothing else max(0, self._decoded_bytes([*beside, index, *beside]) - without)
            for index in range(self._size)
        ]

    def _decoded_bytes(self, ids: list[int]) -> int:
        return len(self._library.decode(ids).encode())

    def _some_word(self) -> list[int]:
        """The first id that alone is letters; none where there is no such id."""
        letters = (index for index in range(self._size) if self._library.decode([index]).isalpha())
        return list(islice(letters, 1))

    def save(self, folder: Path) -> None:
        """Write the files of the Hugging Face folder into one of their own, and their hashes."""
        write_files(folder, self._files)
        write_content(folder, KIND, self._content)

    def safe_cut(self, text: str, start: int) -> int | None:
        """As far as the tokenizer's rules are known to allow it: the next blank after a visible character, else none."""
        found = self._cut.search(text, max(1, start)) if self._cut else None
        return found.start() if found else None

    @staticmethod
    def learning_cut(text: str, start: int) -> int | None:
        """Anywhere: nothing is learnt."""
        del text
        return start

    @staticmethod
    def named_files(settings: HuggingFace) -> Sequence[Path]:
        """The files of the folder that tokenizers are made of."""
        if not settings.path.is_dir():
            raise DataError(f"prepare.tokenizer.path = {settings.path} is no folder; name one with a tokenizer.json.")
        found = [path for name in FILES_OF_TOKENIZERS if (path := settings.path / name).is_file()]
        # A class that needs no vocabulary is named by its configuration.
        if not {path.name for path in found} & {*VOCABULARIES, "tokenizer_config.json"}:
            raise _nothing_there(settings.path)
        return found

    @classmethod
    def train(cls, texts: Iterable[str], settings: HuggingFace) -> Self:
        """Nothing to learn: open the folder.

        Raises:
            DataError: There is no text, or no tokenizer in the folder.
            ConfigError: transformers is not installed.
        """
        require_text(texts, settings.kind)
        named = cls.named_files(settings)
        files, ids = load_object(OPEN_FOLDER)(settings.path)
        if not {path.name for path in named} & {*VOCABULARIES}:
            raise _nothing_there(settings.path)
        try:
            return cls({f"{INSIDE}/{name}": content for name, content in files.items()}, ids)
        except ValueError as error:
            raise DataError(
                f"The tokenizer in prepare.tokenizer.path = {settings.path} cannot be used: {error}."
            ) from error

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote; transformers has nothing to do with it.

        Raises:
            DataError: The folder does not hold a whole Hugging Face tokenizer.
        """
        content = content_of_kind(folder, KIND)
        files = read_files(folder, content.get("files"))
        if RULES not in files:
            raise damaged(folder, f"'files' does not name {RULES}")
        try:
            tokenizer = cls(files, _special_ids(content.get("special_ids")))
        except ValueError as error:
            raise damaged(folder, f"{RULES} is no tokenizer: {error}") from error
        if any(index is not None and index >= tokenizer.vocab_size for index in content["special_ids"].values()):
            raise damaged(folder, "a special id is beyond the vocabulary")
        return tokenizer


def _nothing_there(folder: Path) -> DataError:
    return DataError(
        f"{folder} holds no tokenizer (tokenizer.json, tokenizer.model, vocab.json, vocab.txt, ...); "
        "put its tokenizer's files beside the model's, or name a folder with a tokenizer.json in prepare.tokenizer.path."
    )


def _library(rules: bytes) -> Tokenizer:
    """The library's tokenizer, which finds no special token in a text, and neither cuts nor fills up."""
    try:
        library = Tokenizer.from_buffer(rules)
    except Exception as error:
        # The library raises nothing else, whatever is wrong.
        raise ValueError(" ".join(str(error).split())) from error
    library.encode_special_tokens = True
    library.no_truncation()
    library.no_padding()
    return library


def _special_ids(value: Any) -> dict[str, int | None]:
    """Ids of bos, eos and pad."""
    if not isinstance(value, dict):
        raise ValueError("'special_ids' is no table")  # noqa: TRY004 - it is the file that is wrong
    ids = {name: cast(dict[str, Any], value).get(name) for name in ("bos", "eos", "pad")}
    if any(index is not None and (type(index) is not int or index < 0) for index in ids.values()):
        raise ValueError("'special_ids' are no ids")
    return ids
