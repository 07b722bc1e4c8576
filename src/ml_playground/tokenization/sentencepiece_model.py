"""SentencePiece: pieces of words by the most likely or the longest merged ones, trained here or from a given model file."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from sentencepiece import SentencePieceProcessor

from ml_playground.core.error_handling import DataError
from ml_playground.core.foreign_files import read_at_most
from ml_playground.core.tokenizer_protocol import Ids, Specials, ids_dtype
from ml_playground.tokenization.ascii_words import Positions
from ml_playground.tokenization.blank_cuts import BLANK_CUT, split_at_blanks
from ml_playground.tokenization.cached_encoder import CachedEncoder, PlainEncoder, flat_ids
from ml_playground.tokenization.no_text import no_text, require_text
from ml_playground.tokenization.sentencepiece_rules import BLANK_LETTER, read_rules
from ml_playground.tokenization.sentencepiece_training import split_stretches, train_model
from ml_playground.tokenization.settings import SentencepieceModel
from ml_playground.tokenization.stored import (
    content_of_kind,
    damaged,
    fingerprint_of,
    hashes_of,
    read_files,
    write_content,
    write_files,
)
from ml_playground.tokenization.word import REPLACEMENT
from ml_playground.tokenization.word_counts import WordCounts

KIND = "sentencepiece_model"
MODEL_NAME = "sentencepiece.model"
# XLM-R's has 5 MB.
MOST_BYTES = 64 << 20


class SentencepieceTokenizer:
    """Ids of a SentencePiece model. Where the model allows it, a text is cut at blanks first and each stretch has its ids.

    The library's own sums over a long text are rounded, so that of equally likely pieces now these win, now those; ids of
    a stretch do not depend on where it stands.
    """

    def __init__(self, model: bytes) -> None:
        """From the bytes of a model file.

        Raises:
            ValueError: They are none.
        """
        self._rules = read_rules(model)
        try:
            self._library = SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise ValueError(" ".join(str(error).split())) from error
        self._file = {MODEL_NAME: model}
        self._content = {"files": hashes_of(self._file)}
        self._fingerprint = fingerprint_of(KIND, self._content)
        self._bytes = self._rules.piece_bytes()
        self._unknown = int(self._library.unk_id())
        self._letter_ids = self._ids_of_letter()
        self._dtype = ids_dtype(len(self._bytes))
        self._encoder = (
            CachedEncoder(self._dtype, self._encode_words, split_at_blanks)
            if self._rules.cuts_at_blanks
            else PlainEncoder(self._dtype, self._encode_words)
        )

    def _ids_of_letter(self) -> list[int]:
        """The letter that stands for blanks in bytes; a text that has it would be given back with a blank."""
        ids = self._rules.byte_ids()
        return [ids[byte] for byte in BLANK_LETTER.encode()] if ids else [self._unknown]

    @property
    def vocab_size(self) -> int:
        """The model's pieces."""
        return len(self._bytes)

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) over the model file."""
        return self._fingerprint

    @property
    def specials(self) -> Specials:
        """Those of the model."""
        library = self._library
        bos, eos, pad = (
            None if index < 0 else index for index in (library.bos_id(), library.eos_id(), library.pad_id())
        )
        return Specials(bos=bos, eos=eos, pad=pad, unknown=self._unknown)

    def encode(self, text: str) -> list[int]:
        """Ids of a text, marks in it as the text that they are; half a surrogate pair becomes U+FFFD."""
        return self._encoder.encode(text)

    def encode_arrays(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of each text."""
        return self._encoder.encode_arrays(texts)

    def _encode_words(self, words: list[str]) -> tuple[Ids, Positions]:
        found: list[list[int]] = self._library.Encode(words)
        if not self._rules.adds_blank:
            for place, word in enumerate(words):
                if BLANK_LETTER in word:
                    found[place] = self._around_letters(word)
        return flat_ids(found, self._dtype)

    def _around_letters(self, word: str) -> list[int]:
        """Ids of a word that holds the letter for blanks."""
        first, *others = (self._library.Encode(part) for part in word.split(BLANK_LETTER))
        return [*first, *(index for part in others for index in [*self._letter_ids, *part])]

    def decode(self, ids: Sequence[int]) -> str:
        """The text, with the blank that some models put before it; unknown pieces and bytes that are no valid UTF-8
        become U+FFFD, marks are left out.
        """
        found = b"".join(REPLACEMENT if index == self._unknown else self._bytes[index] for index in ids)
        return found.decode("utf-8", "replace")

    def token_bytes(self) -> Sequence[int]:
        """Bytes each id stands for, (V,); 0 for unknown and marks. Models that normalise a text count what they make of it."""
        return list(map(len, self._bytes))

    def save(self, folder: Path) -> None:
        """Write the model file, and its hash."""
        write_files(folder, self._file)
        write_content(folder, KIND, self._content)

    def safe_cut(self, text: str, start: int) -> int | None:
        """The next blank after a visible character; none if the model's pieces or its normalising reach over blanks."""
        found = BLANK_CUT.search(text, max(1, start)) if self._rules.cuts_at_blanks else None
        return found.start() if found else None

    @staticmethod
    def learning_cut(text: str, start: int) -> int | None:
        """The next blank after a visible character."""
        found = BLANK_CUT.search(text, max(1, start))
        return found.start() if found else None

    @staticmethod
    def named_files(settings: SentencepieceModel) -> Sequence[Path]:
        """The given model."""
        if settings.model is None:
            return []
        if not settings.model.exists():
            raise DataError(
                f"prepare.tokenizer.model = {settings.model} does not exist; name a SentencePiece model file."
            )
        return [settings.model]

    @classmethod
    def train(cls, texts: Iterable[str], settings: SentencepieceModel) -> Self:
        """Train a model, or read the given one.

        Raises:
            DataError: There is no text, or the given file is missing or no model.
            ConfigError: The vocabulary does not fit the text.
        """
        if settings.model is not None:
            require_text(texts, settings.kind)
            cls.named_files(settings)
            return cls._given(settings.model)
        counted = WordCounts(split_stretches)
        for text in texts:
            counted.add(text)
        counts = counted.counts()
        if not counts:
            raise no_text(settings.kind, "so there are no pieces to learn for the vocabulary")
        return cls(train_model(counts, settings))

    @classmethod
    def _given(cls, path: Path) -> Self:
        try:
            return cls(read_at_most(path, MOST_BYTES))
        except OSError as error:
            raise DataError(f"prepare.tokenizer.model = {path} cannot be read: {error.strerror or error}.") from error
        except ValueError as error:
            raise DataError(
                f"prepare.tokenizer.model = {path} is no SentencePiece model: {error}; name a `.model` file."
            ) from error

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            DataError: The folder does not hold a whole SentencePiece tokenizer.
        """
        files = read_files(folder, content_of_kind(folder, KIND).get("files"))
        if files.keys() != {MODEL_NAME}:
            raise damaged(folder, f"its file is not {MODEL_NAME}")
        try:
            return cls(files[MODEL_NAME])
        except ValueError as error:
            raise damaged(folder, f"{MODEL_NAME} is no SentencePiece model: {error}") from error
