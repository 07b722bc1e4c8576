"""Byte-level byte-pair encoding by given ranks, with the library tiktoken; lossless, and never any network."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import tiktoken

from ml_playground.core.error_handling import DataError
from ml_playground.core.tokenizer_protocol import Ids, Specials, ids_dtype
from ml_playground.tokenization.ascii_words import CUT, Positions, split_words
from ml_playground.tokenization.blank_cuts import split_at_blanks
from ml_playground.tokenization.cached_encoder import CachedEncoder, flat_ids
from ml_playground.tokenization.no_text import require_text
from ml_playground.tokenization.rank_files import (
    ENCODINGS,
    END_OF_TEXT,
    GPT2_PATTERN,
    MOST_RANKS,
    O200K_PATTERN,
    named_file,
    parse_ranks,
    read_ranks,
)
from ml_playground.tokenization.settings import TiktokenBpe
from ml_playground.tokenization.stored import (
    content_of_kind,
    damaged,
    fingerprint_of,
    hashes_of,
    read_files,
    write_content,
    write_files,
)

KIND = "tiktoken_bpe"
RANKS_NAME = "ranks.tiktoken"

# Its pattern steps back within each match: a million letters overflow the library's stack, which ends the program, half
# of that does not.
MOST_CHARACTERS_O200K = 400_000

# Of the patterns beside GPT-2's: a blank behind a visible character; or a letter or digit of ASCII behind a line break,
# which every one of them makes the end of a piece, and which words alone on their lines have.
LINE_CUT = re.compile(r"(?<=[!-~\w])(?= )|(?<=\n)(?=[A-Za-z0-9])")


class TiktokenBpeTokenizer:
    """Ids are ranks; special tokens have ids of their own that no text is ever turned into, and some ids mean nothing."""

    def __init__(self, ranks: bytes, encoding: str, specials: Mapping[str, int], where: str) -> None:
        """Ranks as their file has them; `where` is its name, for errors.

        Raises:
            DataError: The ranks are none.
        """
        self._file = {RANKS_NAME: ranks}
        self._content = {"encoding": encoding, "special_tokens": dict(specials), "files": hashes_of(self._file)}
        self._fingerprint = fingerprint_of(KIND, self._content)
        parsed = parse_ranks(ranks, where)
        pattern = ENCODINGS[encoding].pattern
        self._library = tiktoken.Encoding(
            encoding, pat_str=pattern, mergeable_ranks=parsed, special_tokens=dict(specials)
        )
        # What is between the ranks and the special tokens stands for nothing.
        self._bytes = [b""] * (max(*parsed.values(), *specials.values()) + 1)
        for token, rank in parsed.items():
            self._bytes[rank] = token
        self._end_of_text = specials[END_OF_TEXT]
        self._dtype = ids_dtype(len(self._bytes))
        self._overflows = pattern == O200K_PATTERN
        self._cuts_as_gpt2 = pattern == GPT2_PATTERN
        split = split_words if self._cuts_as_gpt2 else split_at_blanks
        self._encoder = CachedEncoder(self._dtype, self._encode_words, split)

    @property
    def vocab_size(self) -> int:
        """The largest id and one; some ids below it may stand for nothing."""
        return len(self._bytes)

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) over ranks, encoding and special tokens."""
        return self._fingerprint

    @property
    def specials(self) -> Specials:
        """Only eos."""
        return Specials(eos=self._end_of_text)

    def encode(self, text: str) -> list[int]:
        """Ids of a text, special tokens in it as the text that they are; half a surrogate pair becomes U+FFFD."""
        return self._encoder.encode(text)

    def encode_arrays(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of each text."""
        return self._encoder.encode_arrays(texts)

    def _encode_words(self, words: list[str]) -> tuple[Ids, Positions]:
        if self._overflows and (longest := max(map(len, words))) > MOST_CHARACTERS_O200K:
            raise DataError(
                f"The text has {longest:,} characters without a blank behind a visible one; tiktoken reads at most "
                f"{MOST_CHARACTERS_O200K:,} by the pattern of o200k_base. Break them up, or choose another "
                "prepare.tokenizer.encoding."
            )
        return flat_ids([self._library.encode_ordinary(word) for word in words], self._dtype)

    def decode(self, ids: Sequence[int]) -> str:
        """The text; bytes that are no valid UTF-8 become U+FFFD, special tokens and ids without meaning are left out."""
        return b"".join(self._bytes[index] for index in ids).decode("utf-8", "replace")

    def token_bytes(self) -> Sequence[int]:
        """Bytes each id stands for, (V,); 0 for special tokens and ids without meaning."""
        return list(map(len, self._bytes))

    def save(self, folder: Path) -> None:
        """Write the ranks, and what else there is to know."""
        write_files(folder, self._file)
        write_content(folder, KIND, self._content)

    def safe_cut(self, text: str, start: int) -> int | None:
        """The next blank (of GPT-2's pattern also line break) after a visible character, or beginning of a line."""
        found = (CUT if self._cuts_as_gpt2 else LINE_CUT).search(text, max(1, start))
        return found.start() if found else None

    @staticmethod
    def learning_cut(text: str, start: int) -> int | None:
        """Anywhere: nothing is learnt."""
        del text
        return start

    @staticmethod
    def named_files(settings: TiktokenBpe) -> Sequence[Path]:
        """The file of ranks."""
        return [named_file(settings.ranks, settings.encoding)]

    @classmethod
    def train(cls, texts: Iterable[str], settings: TiktokenBpe) -> Self:
        """Nothing to learn: read the ranks.

        Raises:
            DataError: There is no text, or there are no ranks.
        """
        require_text(texts, settings.kind)
        ranks, is_published = read_ranks(settings.ranks, settings.encoding)
        where = str(settings.ranks or "tiktoken's cache")
        specials = ENCODINGS[settings.encoding].specials
        if not is_published:
            first = max(parse_ranks(ranks, where).values()) + 1
            specials = {name: first + place for place, name in enumerate(specials)}
        return cls(ranks, settings.encoding, specials, where)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            DataError: The folder does not hold a whole tiktoken_bpe tokenizer.
        """
        content = content_of_kind(folder, KIND)
        encoding: Any = content.get("encoding")
        if not isinstance(encoding, str) or encoding not in ENCODINGS:
            raise damaged(folder, f"{encoding!r:.60} is no encoding (known: {', '.join(ENCODINGS)})")
        specials = _specials(folder, content.get("special_tokens"))
        files = read_files(folder, content.get("files"))
        if files.keys() != {RANKS_NAME}:
            raise damaged(folder, f"its file is not {RANKS_NAME}")
        if set(parse_ranks(files[RANKS_NAME], str(folder / RANKS_NAME)).values()) & set(specials.values()):
            raise damaged(folder, "a special token has the id of text")
        return cls(files[RANKS_NAME], encoding, specials, str(folder / RANKS_NAME))


def _specials(folder: Path, value: Any) -> dict[str, int]:
    """Special tokens with their ids, the end of text among them."""
    if not isinstance(value, dict) or END_OF_TEXT not in value:
        raise damaged(folder, f"'special_tokens' is not a table of ids with {END_OF_TEXT}")
    specials = cast(dict[str, Any], value)
    ids = list(specials.values())
    if any(type(index) is not int or not 0 <= index < MOST_RANKS for index in ids) or len(set(ids)) < len(ids):
        raise damaged(folder, "'special_tokens' are not different ids")
    return specials
