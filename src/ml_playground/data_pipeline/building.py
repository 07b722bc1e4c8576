"""Making a data set: survey the text, deal it out to the splits, learn the vocabulary, encode, describe."""

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ml_playground.configuration.families import TOKENIZERS
from ml_playground.configuration.models import PrepareSettings
from ml_playground.core.atomic import write_file
from ml_playground.core.error_handling import DataError
from ml_playground.core.machine import probe
from ml_playground.core.registry import kind_of, load_object
from ml_playground.core.tokenizer_protocol import BulkTokenizer, Ids, SharedKind, TokenizerClass
from ml_playground.data_pipeline.encoding import Chunk, DatasetWriter, batches, chunks, in_order, utf8_bytes
from ml_playground.data_pipeline.ledger import Ledger, check_balance
from ml_playground.data_pipeline.manifest import (
    MANIFEST_NAME,
    TOKENIZER_FOLDER,
    Manifest,
    TokenizerFacts,
    account_of,
)
from ml_playground.data_pipeline.process_team import ProcessTeam, process_team
from ml_playground.data_pipeline.progress import Phase, PrepareProgress, Report
from ml_playground.data_pipeline.source_protocol import Provenance, Source, changed_meanwhile, changes
from ml_playground.data_pipeline.storage.token_file import token_type
from ml_playground.data_pipeline.transforms.split import (
    Assign,
    Part,
    Piece,
    by_document,
    by_hash,
    by_position,
    character_ends,
    document_ends,
    parts,
    pieces,
    wanted,
)

# Starting processes costs each 0.3 s of a core; a process alone learns and encodes that much in the same time.
SHARED_FROM_BYTES = 1 << 25
# Reading, hashing and writing go at 300 MB/s in the one process that prepares: more helpers than that feeds only wait.
MOST_WORKERS = 8
# Encoded batches that wait for the thread that hashes and writes.
WRITES_IN_FLIGHT = 3


@dataclass(frozen=True, slots=True)
class Survey:
    """What one pass over the source counted."""

    lengths: "array[int]"
    """Characters of each document."""
    bytes: int

    @property
    def characters(self) -> int:
        """Of all documents."""
        return sum(self.lengths)


def build_dataset(
    folder: Path, settings: PrepareSettings, source: Source, now: datetime, workers: int | None, report: Report
) -> Manifest:
    """Fill an empty folder; what it raises is what `prepare` raises."""
    report(PrepareProgress("fetching"))
    before = source.provenance()
    kind_path = kind_of("tokenizer", TOKENIZERS, settings.tokenizer.kind_name).build
    kind: TokenizerClass = load_object(kind_path)
    helpers = workers_for(kind, workers, sum(file.size_bytes or 0 for file in before.files))
    with process_team(kind_path, helpers) as team:
        survey = _survey(_watched(pieces(source.documents()), "reading", None, report))
        assign = _plan(settings, survey)

        def dealt(phase: Phase) -> Iterator[Part]:
            return parts(_watched(pieces(source.documents()), phase, survey.characters, report), assign)

        tokenizer = _train(kind, settings.tokenizer, dealt("learning"), team)
        (folder / TOKENIZER_FOLDER).mkdir()
        tokenizer.save(folder / TOKENIZER_FOLDER)
        name = token_type(tokenizer.vocab_size)
        with (
            DatasetWriter(folder, wanted(settings.test_fraction), tokenizer.specials, name) as writer,
            ThreadPoolExecutor(1, thread_name_prefix="write") as thread,
        ):
            encoded = _encoded(batches(chunks(dealt("encoding"), tokenizer.safe_cut)), tokenizer, folder, team)
            for _ in in_order(thread, lambda batch: writer.write(*batch), encoded, WRITES_IN_FLIGHT):
                pass
    report(PrepareProgress("checking"))
    after = source.provenance()
    if before.content != after.content:
        raise changed_meanwhile(changes(before, after))
    _check_no_split_is_empty(settings, survey, writer)
    manifest = Manifest(
        created_at=now,
        prepare=settings.model_dump(mode="json"),
        source=after,
        tokenizer=TokenizerFacts(kind=settings.tokenizer.kind_name, fingerprint=tokenizer.fingerprint),
        vocab_size=tokenizer.vocab_size,
        token_type=name,
        ledger=_ledger(after, survey, tokenizer, writer),
        files=writer.accounts()
        | {
            file.relative_to(folder).as_posix(): account_of(file)
            for file in sorted((folder / TOKENIZER_FOLDER).rglob("*"))
            if file.is_file()
        },
    )
    manifest = manifest.model_copy(update={"fingerprint": manifest.expected_fingerprint()})
    write_file(folder / MANIFEST_NAME, manifest.model_dump_json(indent=2) + "\n")
    return manifest


def _watched(numbered: Iterable[Piece], phase: Phase, total: int | None, report: Report) -> Iterator[Piece]:
    """The same pieces, each reported; a piece has at most a megabyte."""
    for piece in numbered:
        yield piece
        report(PrepareProgress(phase, piece.offset + len(piece.text), total))


def _survey(numbered: Iterable[Piece]) -> Survey:
    lengths: array[int] = array("Q")
    size_bytes = 0
    for piece in numbered:
        if piece.document == len(lengths):
            lengths.append(0)
        lengths[piece.document] += len(piece.text)
        size_bytes += utf8_bytes(piece.text)
    return Survey(lengths, size_bytes)


def _plan(settings: PrepareSettings, survey: Survey) -> Assign:
    fractions = settings.val_fraction, settings.test_fraction
    if settings.split_by == "position":
        return by_position(character_ends(survey.characters, *fractions))
    if settings.split_by == "document":
        return by_document(document_ends(survey.lengths, *fractions))
    return by_hash(*fractions)


def workers_for(kind: TokenizerClass, asked: int | None, size_bytes: int) -> int:
    """How many processes share the work; 0: this one does it alone."""
    if not isinstance(kind, SharedKind) or asked == 1:
        return 0
    if asked is not None:
        return asked
    cores = int(probe().usable_cores)
    return min(cores, MOST_WORKERS) if size_bytes >= SHARED_FROM_BYTES and cores > 1 else 0


def _train(kind: TokenizerClass, settings: Any, dealt: Iterable[Part], team: ProcessTeam) -> BulkTokenizer:
    """A tokenizer that has seen the training part alone."""
    training = chunks((part for part in dealt if part.split == "train"), kind.safe_cut)
    if not (team.workers and isinstance(kind, SharedKind)):
        return kind.train((chunk.text for chunk in training), settings)
    learner = kind.learner()
    team.learn(([chunk.text for chunk in batch] for batch in batches(training)), learner)
    return kind.learnt(learner, settings)


def _encoded(
    stream: Iterable[Sequence[Chunk]], tokenizer: BulkTokenizer, folder: Path, team: ProcessTeam
) -> Iterator[tuple[Sequence[Chunk], Sequence[Ids]]]:
    """Each batch of chunks with their ids."""
    if team.workers:
        return team.encode(stream, tokenizer, folder / TOKENIZER_FOLDER)
    return ((batch, tokenizer.encode_arrays([chunk.text for chunk in batch])) for batch in stream)


def _check_no_split_is_empty(settings: PrepareSettings, survey: Survey, writer: DatasetWriter) -> None:
    for split, counts in writer.counts.items():
        if not counts.characters:
            raise DataError(
                f"prepare.split_by = {settings.split_by!r} puts none of the {len(survey.lengths)} documents into {split!r}; "
                "raise that split's fraction, give the source more documents, or set prepare.split_by = 'document'."
            )


def _ledger(provenance: Provenance, survey: Survey, tokenizer: BulkTokenizer, writer: DatasetWriter) -> Ledger:
    ledger = Ledger(
        files_found=len(provenance.files) + len(provenance.skipped),
        files_used=len(provenance.files),
        files_skipped=dict(Counter(file.reason for file in provenance.skipped)),
        documents=len(survey.lengths),
        characters=survey.characters,
        bytes=survey.bytes,
        ends_marked=tokenizer.specials.eos is not None,
        splits=writer.counts,
    )
    check_balance(ledger)
    return ledger
