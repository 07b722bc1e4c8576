"""Text files on this machine: one, a folder of them, or a glob; each file is a document."""

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.core.registry import did_you_mean
from ml_playground.core.values import Document
from ml_playground.data_pipeline.settings import TextFile
from ml_playground.data_pipeline.source_protocol import NamedFile, Provenance, SkippedFile
from ml_playground.data_pipeline.sources.text_pieces import check_encoding, file_account, text_pieces

GLOB_SIGNS = frozenset("*?[")
DEFAULT_PATTERN: str = TextFile.model_fields["pattern"].default


class TextFiles:
    """The files that `path` and `pattern` name, in the order of their names; empty ones are skipped and counted."""

    def __init__(self, settings: TextFile) -> None:
        check_encoding(settings.encoding)
        self._settings = settings

    def files(self) -> list[NamedFile]:
        """Each file, its name below the folder."""
        root, files = self._files()
        return [NamedFile(file.relative_to(root).as_posix(), file, self._settings.encoding) for file in files]

    def documents(self) -> Iterator[Document]:
        """Each file as a document, its name below the folder as the id."""
        root, files = self._files()
        empty = True
        for file in files:
            name = file.relative_to(root).as_posix()
            try:
                for text in text_pieces(file, self._settings.encoding):
                    empty = False
                    yield Document(name, text)
            except DataError as error:
                raise DataError(f"{error}{self._without_it()}") from error
        if empty:
            raise _empty(self._settings.path, len(files))

    def provenance(self) -> Provenance:
        """Names, sizes and hashes of the files."""
        root, files = self._files()
        accounts = [file_account(file, file.relative_to(root).as_posix()) for file in files]
        if not any(account.size_bytes for account in accounts):
            raise _empty(self._settings.path, len(files))
        return Provenance(
            kind=self._settings.kind,
            files=tuple(account for account in accounts if account.size_bytes),
            skipped=tuple(
                SkippedFile(name=account.name, reason="empty", size_bytes=0)
                for account in accounts
                if not account.size_bytes
            ),
            facts={"path": str(self._settings.path)},
        )

    def _files(self) -> tuple[Path, Sequence[Path]]:
        """The folder that names are relative to, and all files."""
        path = self._settings.path
        # Unlike pathlib's, these raise for no name: what no file system takes does not exist.
        if os.path.isfile(path):  # noqa: PTH113
            self._check_pattern_unused("a file")
            root, files = path.parent, [path]
        elif os.path.isdir(path):  # noqa: PTH112
            root, files = path, _matches(path, self._settings.pattern)
            if not files:
                raise _nothing_matches(path, self._settings.pattern)
        elif GLOB_SIGNS & set(str(path)):
            self._check_pattern_unused("a glob")
            root, pattern = _glob_parts(path)
            files = _matches(root, pattern)
            if not files:
                raise DataError(f"prepare.source.path = {path} matches no file; check its folder and its signs.")
        else:
            raise _missing(path)
        return root, files

    def _without_it(self) -> str:
        """How to go on without a file that is one of several; nothing where it was named itself."""
        path = self._settings.path
        if path.is_file():
            return ""
        key = "prepare.source.pattern" if path.is_dir() else "prepare.source.path"
        return f" Or leave this file out: move it to another folder, or narrow {key} so that it does not match."

    def _check_pattern_unused(self, what: str) -> None:
        """A pattern chooses among the files of a folder; elsewhere it would have no effect."""
        if self._settings.pattern != DEFAULT_PATTERN:
            raise ConfigError(
                f"prepare.source.pattern = {self._settings.pattern!r} has no effect, for prepare.source.path = "
                f"{self._settings.path} is {what}, not a folder; leave prepare.source.pattern out, or name the folder."
            )


def build(settings: TextFile, deps: Deps) -> TextFiles:
    """The source; the files are looked for when it is read.

    Raises:
        ConfigError: The encoding is unknown.
    """
    del deps
    return TextFiles(settings)


def _matches(root: Path, pattern: str) -> list[Path]:
    try:
        found = [path for path in root.glob(pattern) if path.is_file()]
    except (ValueError, NotImplementedError) as error:
        raise ConfigError(
            f"prepare.source.pattern = {pattern!r} is no pattern below a folder ({error}); use one like '**/*.txt'."
        ) from error
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def _glob_parts(path: Path) -> tuple[Path, str]:
    """The part of a glob without signs, and the rest."""
    first = next(place for place, part in enumerate(path.parts) if GLOB_SIGNS & set(part))
    return Path(*path.parts[:first]), "/".join(path.parts[first:])


def _missing(path: Path) -> DataError:
    folder = path.parent
    if not os.path.isdir(folder):  # noqa: PTH112 - as above
        return DataError(f"prepare.source.path = {path} does not exist, and neither does its folder {folder}.")
    hint = did_you_mean(path.name, sorted(entry.name for entry in folder.iterdir()))
    return DataError(f"prepare.source.path = {path} does not exist{hint or '; name a file, a folder, or a glob'}.")


def _nothing_matches(folder: Path, pattern: str) -> DataError:
    others = [path.name for path in islice((path for path in folder.rglob("*") if path.is_file()), 3)]
    instead = f"it holds {', '.join(others)}" if others else "it holds no file at all"
    return DataError(
        f"No file in {folder} matches prepare.source.pattern = {pattern!r}: {instead}. "
        "Set prepare.source.pattern, or name another folder."
    )


def _empty(path: Path, files: int) -> DataError:
    what = f"{path} is empty" if files == 1 else f"All {files} files of {path} are empty"
    return DataError(f"{what}; name a file with text in prepare.source.path.")
