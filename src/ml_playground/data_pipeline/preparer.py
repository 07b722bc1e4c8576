"""From a source to a prepared data set: split, train the tokenizer, encode, describe; whole or not at all."""

from array import array
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Literal

from filelock import FileLock, Timeout

from ml_playground.configuration.families import SOURCES, TOKENIZERS
from ml_playground.configuration.fingerprint import prepared_folder
from ml_playground.configuration.models import PrepareSettings
from ml_playground.core.atomic import folder as whole_folder
from ml_playground.core.atomic import write_file
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import DataError, PlaygroundError
from ml_playground.core.registry import kind_of, load_object
from ml_playground.core.storage_errors import storage_errors
from ml_playground.core.tokenizer_protocol import BulkTokenizer, TokenizerClass
from ml_playground.data_pipeline.encoding import DatasetWriter, batches, chunks, utf8_bytes
from ml_playground.data_pipeline.ledger import Ledger, check_balance
from ml_playground.data_pipeline.manifest import (
    ANEW,
    MANIFEST_NAME,
    TOKENIZER_FOLDER,
    Manifest,
    Prepared,
    TokenizerFacts,
    account_of,
    open_prepared,
    read_manifest,
)
from ml_playground.data_pipeline.source_protocol import Provenance, RefetchedSource, Source, changed_meanwhile, changes
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

Phase = Literal["waiting", "fetching", "reading", "learning", "encoding", "checking"]


@dataclass(frozen=True, slots=True)
class PrepareProgress:
    """How far preparing has come."""

    phase: Phase
    characters: int = 0
    """Done in this phase."""
    of_characters: int | None = None
    """In all, where that is known."""


Report = Callable[[PrepareProgress], None]


def no_report(progress: PrepareProgress) -> None:
    """Tell nobody."""


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


def prepare(settings: PrepareSettings, deps: Deps, *, fresh: bool = False, report: Report = no_report) -> Prepared:
    """The data set of these settings: the one on disk if it is whole and its source unchanged, else a new one.

    Args:
        settings: `[prepare]`.
        deps: The network, for sources that need it, and the clock.
        fresh: Make it anew in any case, a text without a known hash fetched again; what stood there is kept beside it as
            `<name>.old-<date>`.
        report: Told how far it has come, a few times a second of work.

    Raises:
        DataError: The source cannot be used, or differs from what the data set on disk was made of, or that is damaged.
        ConfigError: A setting of the source or the tokenizer cannot be used.
        StorageError: The data set cannot be written; nothing half-written is left.
    """
    folder = prepared_folder(settings)
    source: Source = load_object(kind_of("source", SOURCES, settings.source.kind_name).build)(settings.source, deps)
    with _alone(folder, report):
        if folder.exists() and not fresh:
            return _reuse(folder, source, report)
        if fresh and isinstance(source, RefetchedSource):
            source.fetch_anew()
        set_aside = _old_name(folder, deps.clock.now()) if folder.exists() else None
        with whole_folder(folder) as partial:
            manifest = _build(partial, settings, source, deps.clock.now(), report)
            if set_aside is not None:
                folder.rename(set_aside)
        return Prepared(folder, manifest, set_aside=set_aside)


@contextmanager
def _alone(folder: Path, report: Report) -> Generator[None]:
    """Hold this data set's lock; another process that prepares it is waited for."""
    with storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f".{folder.name}.lock"))
        try:
            lock.acquire(blocking=False)
        except Timeout:
            report(PrepareProgress("waiting"))
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _reuse(folder: Path, source: Source, report: Report) -> Prepared:
    report(PrepareProgress("checking"))
    prepared = open_prepared(folder)
    recorded, found = prepared.manifest.source, source.provenance()
    if recorded.content != found.content:
        raise DataError(
            f"The source changed since {folder} was prepared from it: {changes(recorded, found)}. "
            f"{ANEW}, or bring the old source back."
        )
    return replace(prepared, reused=True)


def changed_source(settings: PrepareSettings, deps: Deps) -> str | None:
    """How the source of a data set on disk differs from what it was made of, in words.

    None: it does not, or it cannot be looked at now (a text that was moved away, an address without a network): what is
    prepared is whole in itself.
    """
    here = replace(deps, fetch=_no_network, sleep=_at_once)
    source: Source = load_object(kind_of("source", SOURCES, settings.source.kind_name).build)(settings.source, here)
    try:
        recorded, found = read_manifest(prepared_folder(settings)).source, source.provenance()
    except PlaygroundError:
        return None
    return None if recorded.content == found.content else changes(recorded, found)


def _at_once(seconds: float) -> None:
    """Nothing is waited for: what is not here now is not compared."""
    del seconds


def _no_network(url: str, *, start: int = 0) -> AbstractContextManager[BinaryIO]:
    raise OSError(f"{url} is not asked (from byte {start}): only what lies here is compared")


def _old_name(folder: Path, now: datetime) -> Path:
    """A free name beside the folder, with the date."""
    stem = f"{folder.name}.old-{now:%Y%m%d-%H%M%S}"
    names = (stem if number == 1 else f"{stem}-{number}" for number in range(1, 1000))
    return next(folder.with_name(name) for name in names if not folder.with_name(name).exists())


def _build(folder: Path, settings: PrepareSettings, source: Source, now: datetime, report: Report) -> Manifest:
    report(PrepareProgress("fetching"))
    before = source.provenance()
    survey = _survey(_watched(pieces(source.documents()), "reading", None, report))
    assign = _plan(settings, survey)

    def dealt(phase: Phase) -> Iterator[Part]:
        return parts(_watched(pieces(source.documents()), phase, survey.characters, report), assign)

    tokenizer = _train(settings, dealt("learning"))
    (folder / TOKENIZER_FOLDER).mkdir()
    tokenizer.save(folder / TOKENIZER_FOLDER)
    name = token_type(tokenizer.vocab_size)
    with DatasetWriter(folder, wanted(settings.test_fraction), tokenizer, name) as writer:
        for batch in batches(chunks(dealt("encoding"), tokenizer.safe_cut)):
            writer.write(batch)
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


def _train(settings: PrepareSettings, dealt: Iterable[Part]) -> BulkTokenizer:
    """A tokenizer that has seen the training part alone."""
    kind: TokenizerClass = load_object(kind_of("tokenizer", TOKENIZERS, settings.tokenizer.kind_name).build)
    training = (part for part in dealt if part.split == "train")
    return kind.train((chunk.text for chunk in chunks(training, kind.safe_cut)), settings.tokenizer)


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
