"""Every kind of tokenizer over the same text: learning, ids of words that are new and that are known, and what its library needs."""

import argparse
import statistics
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from prepare_speed import stdlib_text
from tables import Row, Table, command_line, progress, publish

from ml_playground.configuration.base import Component
from ml_playground.configuration.families import TOKENIZERS
from ml_playground.core.registry import load_object
from ml_playground.core.tokenizer_protocol import BulkTokenizer, TokenizerClass
from ml_playground.data_pipeline.encoding import cut
from ml_playground.tokenization.byte_bpe import ByteBpeTokenizer
from ml_playground.tokenization.byte_letters import BYTE_OF_LETTER
from ml_playground.tokenization.settings import (
    Byte,
    ByteBpe,
    Char,
    HuggingFace,
    Ngram,
    SentencepieceModel,
    TiktokenBpe,
    Word,
)

# As preparing does: ids of so many chunks are held at once.
CHUNKS_AT_ONCE = 4
# The libraries alone take texts of no more than this; some are slower the longer a text is.
LIBRARY_CHARACTERS = 1 << 20

LIBRARIES: dict[str, Callable[[Any], Callable[[str], Sequence[int]]]] = {
    "byte_bpe": lambda library: lambda text: library.encode(text).ids,
    "tiktoken_bpe": lambda library: library.encode_ordinary,
    "sentencepiece_model": lambda library: library.Encode,
    "hugging_face": lambda library: lambda text: library.encode(text, add_special_tokens=False).ids,
}


def write_files(folder: Path, chunks: Sequence[str]) -> None:
    """Byte pairs learnt from the text, in the forms of tiktoken and of Hugging Face."""
    content = ByteBpeTokenizer.train(chunks, ByteBpe()).content
    tokens = [bytes(BYTE_OF_LETTER[letter] for letter in token) for token in content["vocabulary"][1:]]
    (folder / "ranks").write_bytes(b"".join(b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens)))
    library = tokenizers.Tokenizer(
        tokenizers.models.BPE(
            vocab={token: index for index, token in enumerate(content["vocabulary"])},
            merges=[tuple(merge) for merge in content["merges"]],
        )
    )
    library.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = tokenizers.decoders.ByteLevel()
    library.save(str(folder / "tokenizer.json"))


def seconds_of(tokenizer: BulkTokenizer, chunks: Sequence[str]) -> tuple[float, int]:
    """Processor time of this thread for all ids, and how many they are."""
    began, ids = time.thread_time(), 0
    for first in range(0, len(chunks), CHUNKS_AT_ONCE):
        ids += sum(map(len, tokenizer.encode_arrays(chunks[first : first + CHUNKS_AT_ONCE])))
    return time.thread_time() - began, ids


def library_rate(tokenizer: Any, kind: str, text: str) -> float | str:
    """MB/s of the library alone, a chunk at a time."""
    if kind not in LIBRARIES:
        return ""
    encode = LIBRARIES[kind](tokenizer._library)
    chunks = list(cut([text[:LIBRARY_CHARACTERS]], ByteBpeTokenizer.safe_cut))
    began = time.thread_time()
    for chunk in chunks:
        encode(chunk)
    return sum(len(chunk.encode()) for chunk in chunks) / 1e6 / (time.thread_time() - began)


def row_of(name: str, settings: Component, text: str, rounds: int) -> Row:
    """One tokenizer's figures."""
    progress(name)
    size_mb = len(text.encode()) / 1e6
    kind: TokenizerClass = load_object(TOKENIZERS[settings.kind_name].build)
    began = time.process_time()
    made = kind.train(cut([text], kind.learning_cut), settings)
    learnt_s = time.process_time() - began
    chunks = list(cut([text], made.safe_cut))
    new, known, ids = [], [], 0
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            made.save(Path(folder))
            fresh = kind.load(Path(folder))
        for times in (new, known):
            seconds, ids = seconds_of(fresh, chunks)
            times.append(size_mb / seconds)
    return Row(
        [
            name,
            made.vocab_size,
            size_mb / learnt_s,
            statistics.median(new),
            statistics.median(known),
            library_rate(made, settings.kind_name, text),
            size_mb * 1e6 / ids,
        ]
    )


def tables(options: argparse.Namespace) -> Iterator[Table]:
    """One row for each kind and way."""
    text = stdlib_text()[: 2_000_000 if options.quick else 12_000_000]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder, list(cut([text], ByteBpeTokenizer.learning_cut)))
        cases: dict[str, Component] = {
            "char": Char(),
            "byte": Byte(),
            "word": Word(),
            "ngram, n = 2": Ngram(),
            "ngram, n = 3": Ngram(n=3),
            "byte_bpe": ByteBpe(),
            "tiktoken_bpe, gpt2": TiktokenBpe(ranks=folder / "ranks"),
            "tiktoken_bpe, cl100k_base": TiktokenBpe(encoding="cl100k_base", ranks=folder / "ranks"),
            "sentencepiece_model, unigram": SentencepieceModel(),
            "sentencepiece_model, bpe": SentencepieceModel(algorithm="bpe"),
            "hugging_face, as GPT-2": HuggingFace(path=folder),
        }
        rows = [row_of(label, settings, text, 1 if options.quick else 5) for label, settings in cases.items()]
    columns = [
        "tokenizer",
        "ids",
        "learnt, MB/s",
        "new text, MB/s",
        "known text, MB/s",
        "its library, MB/s",
        "bytes an id",
    ]
    notes = [
        f"{len(text.encode()) / 1e6:.1f} MB of the standard library's sources; processor time of one thread (learning: of the process).",
        "New: the tokenizer has seen no text yet. Known: the same text again. Its library: alone, a chunk of 256 k characters at a time.",
    ]
    yield Table("tokenizers", "Every kind of tokenizer", columns, rows, notes)


if __name__ == "__main__":
    publish(tables, command_line(__doc__))
