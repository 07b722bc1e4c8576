"""From a source to a prepared data set, or the one on disk if it still belongs to the source; whole or not at all."""

from collections.abc import Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, cast

from filelock import FileLock, Timeout

from ml_playground.configuration.families import SOURCES
from ml_playground.configuration.fingerprint import prepared_folder
from ml_playground.configuration.models import PrepareSettings
from ml_playground.core.atomic import folder as whole_folder
from ml_playground.core.atomic import sweep
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import DataError, PlaygroundError, StorageError
from ml_playground.core.registry import kind_of, load_object
from ml_playground.core.storage_errors import storage_errors
from ml_playground.data_pipeline.building import build_dataset
from ml_playground.data_pipeline.chats.protocol import ChatSource
from ml_playground.data_pipeline.image_building import build_images
from ml_playground.data_pipeline.image_protocol import ImageSource
from ml_playground.data_pipeline.manifest import ANEW, Manifest, Prepared, open_prepared, read_manifest
from ml_playground.data_pipeline.progress import PrepareProgress, Report, no_report
from ml_playground.data_pipeline.source_protocol import RefetchedSource, Source, changes
from ml_playground.data_pipeline.tokenizer_files import changed_files, files_named_by

BUILD_CHATS = "ml_playground.data_pipeline.chats.building:build_chats"

AnySource = Source | ImageSource | ChatSource


def prepare(
    settings: PrepareSettings,
    deps: Deps,
    *,
    fresh: bool = False,
    workers: int | None = None,
    report: Report = no_report,
) -> Prepared:
    """The data set of these settings: the one on disk if it is whole and its source unchanged, else a new one.

    Args:
        settings: `[prepare]`.
        deps: The network, for sources that need it, and the clock.
        fresh: Make it anew in any case, a text without a known hash fetched again; what stood there is kept beside it as
            `<name>.old-<date>`.
        workers: Processes that learn and encode, where the tokenizer's kind is worth sharing; none: as many as there are
            cores, for small texts this one alone. The result is the same for every number.
        report: Told how far it has come, a few times a second of work.

    Raises:
        DataError: The source cannot be used, or differs from what the data set on disk was made of, or that is damaged; or more
            of the text is lost than `max_loss_fraction` allows.
        ConfigError: A setting of the source or the tokenizer cannot be used.
        StorageError: The data set cannot be written; nothing half-written is left.
        WorkerError: A process that shared the work has ended, or was killed; nothing half-written is left.
    """
    folder = prepared_folder(settings)
    source: AnySource = load_object(kind_of(SOURCES, settings.source.kind_name).build)(settings.source, deps)
    with ExitStack() as stack:
        try:
            stack.enter_context(_alone(folder, report))
            # What a preparation that was killed has left may be as large as the data set.
            sweep(folder.parent, lambda other: nullcontext(enter_result=True) if other == folder else _claimed(other))
        except StorageError:
            # Looking at what is there needs no right to write: it was renamed into its place, so that it is whole without a lock.
            if fresh or not folder.exists():
                raise
        if folder.exists() and not fresh:
            return _reuse(folder, source, settings, report)
        if fresh and isinstance(source, RefetchedSource):
            source.fetch_anew()
        set_aside = _old_name(folder, deps.clock.now()) if folder.exists() else None
        with whole_folder(folder) as partial:
            manifest = _filled(partial, settings, source, deps.clock.now(), workers, report)
            if set_aside is not None:
                folder.rename(set_aside)
        return replace(manifest.opened(folder), set_aside=set_aside)


def _filled(
    folder: Path,
    settings: PrepareSettings,
    source: AnySource,
    now: datetime,
    workers: int | None,
    report: Report,
) -> Manifest:
    """An empty folder filled with what the source gives; images and chats are read and written by this process alone."""
    if settings.source.modality == "images":
        return build_images(folder, settings, cast(ImageSource, source), now, report)
    if settings.source.modality == "chats":
        # By its name: rendering chats needs jinja2, and texts and images do without it.
        return load_object(BUILD_CHATS)(folder, settings, source, now, report)
    return build_dataset(folder, settings, cast(Source, source), now, workers, report)


@contextmanager
def _alone(folder: Path, report: Report) -> Generator[None]:
    """Hold this data set's lock; another process that prepares it is waited for."""
    with storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock_of(folder)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            report(PrepareProgress("waiting"))
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _claimed(folder: Path) -> Generator[bool]:
    """Whether nobody prepares this data set; who wants to, waits meanwhile."""
    lock = _lock_of(folder)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _lock_of(folder: Path) -> FileLock:
    return FileLock(folder.with_name(f".{folder.name}.lock"))


def _reuse(folder: Path, source: AnySource, settings: PrepareSettings, report: Report) -> Prepared:
    report(PrepareProgress("checking"))
    prepared = open_prepared(folder)
    recorded, found = prepared.manifest.source, source.provenance()
    if recorded.content != found.content:
        raise DataError(
            f"The source changed since {folder} was prepared from it: {changes(recorded, found)}. "
            f"{ANEW}, or bring the old source back."
        )
    if changed := changed_files(prepared.manifest.tokenizer_files, files_named_by(settings)):
        raise DataError(
            f"The tokenizer's files changed since {folder} was prepared with them: {changed}. "
            f"{ANEW}, or bring the old files back."
        )
    prepared.manifest.check_losses(settings.max_loss_fraction)
    return replace(prepared, reused=True)


def changed_source(settings: PrepareSettings, deps: Deps) -> str | None:
    """How the source of a data set on disk, or the files of its tokenizer, differ from what it was made of, in words.

    None: it does not, or it cannot be looked at now (a text that was moved away, an address without a network): what is
    prepared is whole in itself.
    """
    here = replace(deps, fetch=_no_network, sleep=_at_once)
    source: AnySource = load_object(kind_of(SOURCES, settings.source.kind_name).build)(settings.source, here)
    try:
        manifest, found = read_manifest(prepared_folder(settings)), source.provenance()
        changed = changed_files(manifest.tokenizer_files, files_named_by(settings))
    except PlaygroundError:
        return None
    if manifest.source.content != found.content:
        return changes(manifest.source, found)
    return changed and f"of the tokenizer's files {changed}"


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
