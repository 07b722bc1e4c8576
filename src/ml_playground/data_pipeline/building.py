"""Making a data set: survey the text, deal it out to the splits, learn the vocabulary, encode, describe."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from ml_playground.configuration.base import Component
from ml_playground.configuration.families import TOKENIZERS
from ml_playground.configuration.models import PrepareSettings
from ml_playground.core.atomic import write_file
from ml_playground.core.error_handling import DataError
from ml_playground.core.machine import probe
from ml_playground.core.registry import kind_of, load_object
from ml_playground.core.side_threads import SideThread
from ml_playground.core.tokenizer_protocol import BulkTokenizer, Ids, SharedKind, TokenizerClass
from ml_playground.data_pipeline.bookkeeping import balanced, check_skipped, offered_by
from ml_playground.data_pipeline.encoding import Chunk, DatasetWriter, batches, chunks, in_order
from ml_playground.data_pipeline.loss_limit import check_ledger
from ml_playground.data_pipeline.lost_places import located
from ml_playground.data_pipeline.manifest import MANIFEST_NAME, TOKENIZER_FOLDER, account_of
from ml_playground.data_pipeline.process_team import ProcessTeam, process_team
from ml_playground.data_pipeline.progress import Phase, PrepareProgress, Report
from ml_playground.data_pipeline.source_protocol import Provenance, Source, SourceFile, changed_meanwhile, changes
from ml_playground.data_pipeline.storage.token_file import FileAccount, token_type
from ml_playground.data_pipeline.survey import Survey, survey
from ml_playground.data_pipeline.text_dataset import TextManifest, TokenizerFacts
from ml_playground.data_pipeline.tokenizer_files import changed_files, tokenizer_files
from ml_playground.data_pipeline.transforms.dedupe import lengths_without, without_copies
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


def build_dataset(
    folder: Path, settings: PrepareSettings, source: Source, now: datetime, workers: int | None, report: Report
) -> TextManifest:
    """Fill an empty folder with a text; what it raises is what `prepare` raises."""
    chosen = cast(Component, settings.tokenizer)  # Every source of text has one, which its settings see to.
    kind_path = kind_of(TOKENIZERS, chosen.kind_name).build
    kind: TokenizerClass = load_object(kind_path)
    made_of = _tried_files(kind, chosen)
    report(PrepareProgress("fetching"))
    before = source.provenance()
    helpers = workers_for(kind, workers, sum(file.size_bytes or 0 for file in before.files))
    with process_team(kind_path, helpers) as team:
        counted = survey(
            _watched(pieces(source.documents()), "reading", None, report), lambda: pieces(source.documents())
        )
        check_skipped(before, counted, settings.max_loss_fraction)
        offered = offered_by(source, split_by=settings.split_by, duplicates=settings.duplicates)
        assign = _plan(settings, counted)

        def dealt(phase: Phase) -> Iterator[Part]:
            return parts(_watched(pieces(source.documents()), phase, counted.characters, report), assign)

        tokenizer = _train(kind, chosen, dealt("learning"), team)
        if changed := changed_files(made_of, tokenizer_files(chosen)):
            raise changed_meanwhile(f"of its tokenizer's files {changed}")
        (folder / TOKENIZER_FOLDER).mkdir()
        tokenizer.save(folder / TOKENIZER_FOLDER)
        name = token_type(tokenizer.vocab_size)
        encoded = _encoded(batches(chunks(dealt("encoding"), tokenizer.safe_cut)), tokenizer, folder, team)
        writer = _written(DatasetWriter(folder, wanted(settings.test_fraction), tokenizer, name), encoded)
    report(PrepareProgress("checking"))
    unknown = located(writer.worst_places, pieces(source.documents())) if writer.worst_places else []
    after = _unchanged(source, before)
    _check_no_split_is_empty(settings, counted, writer)
    ledger = balanced(after, counted, writer, unknown, offered, ends_marked=tokenizer.specials.eos is not None)
    check_ledger(ledger, settings.max_loss_fraction, settings.split_by)
    manifest = TextManifest(
        created_at=now,
        prepare=settings.model_dump(mode="json"),
        source=after,
        tokenizer=TokenizerFacts(kind=chosen.kind_name, fingerprint=tokenizer.fingerprint),
        tokenizer_files=made_of,
        vocab_size=tokenizer.vocab_size,
        token_type=name,
        ledger=ledger,
        files=writer.accounts() | _accounts(folder, TOKENIZER_FOLDER),
    ).sealed()
    write_file(folder / MANIFEST_NAME, manifest.model_dump_json(indent=2) + "\n")
    return manifest


def _tried_files(kind: TokenizerClass, chosen: Component) -> tuple[SourceFile, ...]:
    """The files that a tokenizer is made of; it learns nothing from a text then, so they are tried before one is read."""
    made_of = tokenizer_files(chosen)
    if made_of:
        kind.train(("any",), cast(Any, chosen))
    return made_of


def _unchanged(source: Source, before: Provenance) -> Provenance:
    """The account of a source that is read no more; an error where it is not what it was before."""
    after = source.provenance()
    if before.content != after.content:
        raise changed_meanwhile(changes(before, after))
    return after


def _written(writer: DatasetWriter, encoded: Iterable[tuple[Sequence[Chunk], Sequence[Ids]]]) -> DatasetWriter:
    """The writer, closed, once it has written and hashed everything; in a thread of its own."""
    with writer, SideThread("write") as thread:
        for _ in in_order(thread, lambda batch: writer.write(*batch), encoded, WRITES_IN_FLIGHT):
            pass
    return writer


def _accounts(folder: Path, below: str) -> dict[str, FileAccount]:
    """Size and hash of all files of a folder within another, by name."""
    files = sorted(path for path in (folder / below).rglob("*") if path.is_file())
    return {file.relative_to(folder).as_posix(): account_of(file) for file in files}


def _watched(numbered: Iterable[Piece], phase: Phase, total: int | None, report: Report) -> Iterator[Piece]:
    """The same pieces, each reported; a piece has at most a megabyte."""
    for piece in numbered:
        yield piece
        report(PrepareProgress(phase, piece.offset + len(piece.text), total))


def _plan(settings: PrepareSettings, counted: Survey) -> Assign:
    if settings.duplicates == "keep" or not counted.copies:
        return _assign(settings, counted.lengths)
    try:
        assign = _assign(settings, lengths_without(counted.lengths, counted.copies))
    except DataError as error:
        raise DataError(
            f"{error} Beside these it has {len(counted.copies)} copies, which prepare.duplicates = 'drop' leaves out."
        ) from error
    return without_copies(assign, counted.lengths, counted.copies)


def _assign(settings: PrepareSettings, lengths: Sequence[int]) -> Assign:
    fractions = settings.val_fraction, settings.test_fraction
    if settings.split_by == "position":
        return by_position(character_ends(sum(lengths), *fractions))
    if settings.split_by == "document":
        return by_document(document_ends(lengths, *fractions))
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
    training = chunks((part for part in dealt if part.split == "train"), kind.learning_cut)
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


def _check_no_split_is_empty(settings: PrepareSettings, counted: Survey, writer: DatasetWriter) -> None:
    for split, counts in writer.counts.items():
        if not counts.characters:
            raise DataError(
                f"prepare.split_by = {settings.split_by!r} puts none of the {len(counted.lengths)} documents into {split!r}; "
                "raise that split's fraction, give the source more documents, or set prepare.split_by = 'document'."
            )
