"""Whether a manifest can be the one of a data set: nothing in it leads out of the folder, or promises what is not there.

The sha256 of a file tells damage from what was written; it does not tell who wrote it.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml_playground.core.foreign_files import is_plain
from ml_playground.data_pipeline.ledger import SplitCounts
from ml_playground.data_pipeline.storage.token_file import INDEX_TYPE, FileAccount, TokenType, stored_type, token_type

SPLITS = ("train", "val", "test")

LARGEST_VOCABULARY = 1 << 32
"""Ids have at most 32 bits."""

# Large enough for numpy's speed, small enough for the cache.
_AT_ONCE = 1 << 18


def contradictions(
    files: Mapping[str, FileAccount], splits: Mapping[str, SplitCounts], vocab_size: int, stored_as: TokenType
) -> list[str]:
    """What cannot be, in words; none of the files is opened.

    Args:
        files: As the manifest lists them.
        splits: Their counts.
        vocab_size: Ids there are.
        stored_as: The type of the ids.
    """
    found = [
        f"files names {name!r:.80}, which is no plain name inside the folder" for name in files if not is_plain(name)
    ]
    found += [f"ledger.splits has {name!r:.80} (allowed: {', '.join(SPLITS)})" for name in splits if name not in SPLITS]
    found += [f"ledger.splits lacks {name}" for name in ("train", "val") if name not in splits]
    if vocab_size > LARGEST_VOCABULARY:
        found.append(f"vocab_size is {vocab_size}, more than 32 bits can number")
    elif stored_as != token_type(vocab_size):
        found.append(f"token_type is {stored_as}, a vocabulary of {vocab_size} has {token_type(vocab_size)}")
    for split, counts in splits.items():
        found += _sizes(split, counts, files, stored_type(stored_as).itemsize)
    return found


def _sizes(split: str, counts: SplitCounts, files: Mapping[str, FileAccount], id_bytes: int) -> Iterator[str]:
    tokens, index = files.get(f"{split}.tokens"), files.get(f"{split}.index")
    if tokens is None or index is None:
        yield f"files lacks {split}.tokens or {split}.index"
    elif tokens.size_bytes != counts.tokens * id_bytes:
        yield f"{split} has {counts.tokens} tokens of {id_bytes} bytes, {split}.tokens {tokens.size_bytes} bytes"
    elif index.size_bytes % INDEX_TYPE.itemsize:
        yield f"{split}.index has {index.size_bytes} bytes, which are no whole numbers of {INDEX_TYPE.itemsize}"


def strangers(folder: Path, files: Mapping[str, FileAccount], attached: str) -> list[str]:
    """What lies in the folder and must not, in words: links and pipes, and what nobody listed among the attached files.

    What is attached is copied into every checkpoint: through a link any file of this machine would go out with them.
    """
    found: list[str] = []
    for parent, folders, names in os.walk(folder):
        for name in [*folders, *names]:
            entry = Path(parent) / name
            inside = entry.relative_to(folder).as_posix()
            if entry.is_symlink() or not (entry.is_dir() or entry.is_file()):
                found.append(f"{inside!r:.80} is a link or no file; a data set holds files only")
            elif entry.is_file() and inside.startswith(f"{attached}/") and inside not in files:
                found.append(f"{inside!r:.80} is not part of it; move it elsewhere")
    return sorted(found)


def wrong_ids(tokens: NDArray[np.uint16 | np.uint32], vocab_size: int) -> str:
    """The first id beyond the vocabulary, in words; empty where there is none. Reads all ids once.

    Args:
        tokens: (tokens,), mapped.
        vocab_size: Ids there are.
    """
    for start in range(0, len(tokens), _AT_ONCE):
        part = tokens[start : start + _AT_ONCE]
        if part.max() >= vocab_size:
            place = int(np.argmax(part >= vocab_size))
            return f"token {start + place} has id {part[place]}, the vocabulary ends at {vocab_size - 1}"
    return ""


def wrong_starts(starts: NDArray[np.uint64], tokens: int) -> str:
    """The first document that starts before the one before it or beyond the tokens, in words; empty where there is none.

    Args:
        starts: (documents,), mapped.
        tokens: How many the split has.
    """
    bad = starts > tokens
    bad[1:] |= starts[1:] < starts[:-1]
    if not bad.any():
        return ""
    place = int(np.argmax(bad))
    return f"document {place} starts at token {starts[place]} of {tokens}, or before the one before it"
