"""Files of ranks as tiktoken reads them, a line `<base64> <rank>` for each token; and the encodings that are published.

Source: https://github.com/openai/tiktoken, tiktoken/load.py and tiktoken_ext/openai_public.py
"""

import base64
import binascii
import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ml_playground.core.error_handling import DataError
from ml_playground.core.foreign_files import read_at_most

# o200k has 3.6 MB.
MOST_BYTES = 64 << 20
MOST_RANKS = 10_000_000
BYTES = 256
END_OF_TEXT = "<|endoftext|>"

# The library's cache names a file by the sha1 of the address that it came from.
PUBLISHED_AT = "https://openaipublic.blob.core.windows.net/encodings"

GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
CL100K_PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
O200K_PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, slots=True)
class Published:
    """An encoding that is published."""

    file: str
    """Name of its ranks, which several encodings may share."""
    sha256: str
    pattern: str
    """Cuts a text into words."""
    specials: Mapping[str, int]


def _published(file: str, sha256: str, pattern: str, **specials: int) -> Published:
    return Published(file, sha256, pattern, {f"<|{name}|>": index for name, index in specials.items()})


_R50K = _published(
    "r50k_base",
    "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
    GPT2_PATTERN,
    endoftext=50256,
)
ENCODINGS = {
    # The same ids as r50k_base's; tiktoken reads them from two files of another form.
    "gpt2": _R50K,
    "r50k_base": _R50K,
    "p50k_base": _published(
        "p50k_base",
        "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069",
        GPT2_PATTERN,
        endoftext=50256,
    ),
    "cl100k_base": _published(
        "cl100k_base",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        CL100K_PATTERN,
        endoftext=100257,
        fim_prefix=100258,
        fim_middle=100259,
        fim_suffix=100260,
        endofprompt=100276,
    ),
    "o200k_base": _published(
        "o200k_base",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        O200K_PATTERN,
        endoftext=199999,
        endofprompt=200018,
    ),
}


def cached_file(encoding: Published) -> Path:
    """Where tiktoken keeps the ranks of an encoding."""
    folder = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    name = hashlib.sha1(_address(encoding).encode(), usedforsecurity=False).hexdigest()
    return Path(folder or Path(tempfile.gettempdir()) / "data-gym-cache") / name


def named_file(path: Path | None, name: str) -> Path:
    """The file of ranks, or the one of an encoding in the library's cache.

    Raises:
        DataError: It is missing; says what to put where.
    """
    file = path or cached_file(ENCODINGS[name])
    if file.exists():
        return file
    if path is not None:
        raise DataError(f"prepare.tokenizer.ranks = {path} does not exist; name a file of ranks.")
    raise DataError(
        f"The ranks of prepare.tokenizer.encoding = {name!r} are not on this machine ({file} is missing), and nothing is "
        f"fetched. Get {_address(ENCODINGS[name])} where there is a network, put the file anywhere here, and name it in "
        "prepare.tokenizer.ranks."
    )


def read_ranks(path: Path | None, name: str) -> tuple[bytes, bool]:
    """The bytes of a file of ranks, and whether it is the published one of the encoding.

    Args:
        path: The file; none: the one in the library's cache.
        name: The encoding's.

    Raises:
        DataError: It is missing, cannot be read, or the cache holds something else.
    """
    encoding = ENCODINGS[name]
    file = named_file(path, name)
    try:
        content = read_at_most(file, MOST_BYTES)
    except OSError as error:
        raise DataError(f"{file} cannot be read as a file of ranks: {error.strerror or error}.") from error
    is_published = hashlib.sha256(content).hexdigest() == encoding.sha256
    if path is None and not is_published:
        raise DataError(
            f"{file} in tiktoken's cache is not the published file of {name!r}; remove it, get "
            f"{_address(encoding)} anew, and name it in prepare.tokenizer.ranks."
        )
    return content, is_published


def parse_ranks(content: bytes, where: str) -> dict[bytes, int]:
    """The rank of each token.

    Raises:
        DataError: A line is no rank, a token or a rank occurs twice, or a byte has none, so that some text had no ids.
    """
    ranks: dict[bytes, int] = {}
    lines = [(number, line) for number, line in enumerate(content.splitlines(), start=1) if line]
    for number, line in lines:
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise DataError(
                f"{where} is no file of ranks: line {number} is {line!r:.60}, not '<base64> <rank>'."
            ) from error
    numbers = set(ranks.values())
    if len(numbers) < len(lines):
        raise DataError(f"{where} is no file of ranks: a token or a rank occurs twice in it.")
    if any(bytes([byte]) not in ranks for byte in range(BYTES)):
        raise DataError(
            f"{where} is no whole file of ranks: some of the {BYTES} bytes have none, so not every text had ids."
        )
    if b"" in ranks or min(numbers) < 0 or max(numbers) >= MOST_RANKS:
        raise DataError(
            f"{where} is no file of ranks: it has an empty token, or a rank outside of 0 to {MOST_RANKS - 1:,}."
        )
    return ranks


def _address(encoding: Published) -> str:
    return f"{PUBLISHED_AT}/{encoding.file}.tiktoken"
