"""The text of a prepared split again, piece by piece: what its tokens stand for."""

from collections.abc import Iterator
from pathlib import Path

from ml_playground.core.error_handling import DataError
from ml_playground.core.registry import load_object
from ml_playground.core.tokenizer_protocol import Tokenizer
from ml_playground.data_pipeline.manifest import TOKENIZER_FOLDER, read_manifest
from ml_playground.data_pipeline.storage.token_file import read_tokens
from ml_playground.data_pipeline.text_dataset import TextManifest

LOAD_TOKENIZER = "ml_playground.tokenization.loading:load_tokenizer"
TOKENS_AT_ONCE = 1 << 18
MOST_HELD_BACK = 8
"""Tokens at the end of a piece that may be the beginning of a character."""
UNDECODABLE = "\ufffd"


def split_text(folder: Path, split: str, tokens_at_once: int = TOKENS_AT_ONCE) -> Iterator[str]:
    """The text of a split of a data set, cut anywhere between characters; marks that stand for no text are left out.

    Raises:
        DataError: The data set is damaged, holds no text, or has no such split; raised before the first piece.
    """
    manifest = read_manifest(folder)
    if not isinstance(manifest, TextManifest):
        raise DataError(f"{folder} holds {manifest.unit}s, no text.")
    if split not in manifest.sizes:
        raise DataError(f"{folder} has no split {split!r} (it has: {', '.join(manifest.sizes)}).")
    tokenizer: Tokenizer = load_object(LOAD_TOKENIZER)(folder / TOKENIZER_FOLDER)
    return _pieces(folder, manifest, split, tokenizer, tokens_at_once)


def _pieces(folder: Path, manifest: TextManifest, split: str, tokenizer: Tokenizer, at_once: int) -> Iterator[str]:
    ids = read_tokens(folder, split, manifest.token_type)
    start = 0
    # The token before a piece goes with it: some tokenizers decode the first one of a text differently.
    context: list[int] = []
    while start < len(ids):
        end = min(start + at_once, len(ids))
        text = tokenizer.decode([*context, *map(int, ids[start:end])])
        held = 0
        while end < len(ids) and text.endswith(UNDECODABLE) and held < min(MOST_HELD_BACK, end - start - 1):
            held += 1
            text = tokenizer.decode([*context, *map(int, ids[start : end - held])])
        end -= held
        yield text[len(tokenizer.decode(context)) :] if context else text
        start, context = end, [int(ids[end - 1])]
