"""Which files a source reads: one, all of a folder that match a pattern, or a glob; in the order of their names."""

import os
from collections.abc import Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.core.registry import did_you_mean
from ml_playground.data_pipeline.source_protocol import SkippedFile, SourceFile
from ml_playground.data_pipeline.sources.packed_files import ENDINGS, plain_name
from ml_playground.data_pipeline.sources.text_pieces import blocks, file_account, is_packed

GLOB_SIGNS = frozenset("*?[")


class ListedFile(NamedTuple):
    """A file that a source reads."""

    id: str
    """Its path below the source's folder, without the ending of a packed file: its text has this name."""
    name: str
    """Its path below the source's folder."""
    path: Path


class Accounts(NamedTuple):
    """What a source's files are."""

    used: tuple[SourceFile, ...]
    skipped: tuple[SkippedFile, ...]


class FileList:
    """The files that `prepare.source.path` and `.pattern` name; looked for anew whenever they are asked for."""

    def __init__(self, path: Path, pattern: str, default_pattern: str) -> None:
        self._path = path
        self._pattern = pattern
        self._default_pattern = default_pattern

    def files(self) -> list[ListedFile]:
        """All of them, in the order of their ids.

        Raises:
            DataError: There are none, or two are the same text, packed and not.
            ConfigError: The pattern is none, or has no effect.
        """
        root, paths = self._found()
        names = [path.relative_to(root).as_posix() for path in paths]
        listed = sorted(ListedFile(plain_name(name), name, path) for name, path in zip(names, paths, strict=True))
        for one, next_one in pairwise(listed):
            if one.id == next_one.id:
                raise DataError(
                    f"{one.path} and {next_one.path} are two forms of one document, {one.id!r}; move one of them to "
                    f"another folder, or narrow {self._key()} so that it matches one."
                )
        return listed

    def accounts(self) -> Accounts:
        """Size and hash of each file; empty ones are skipped.

        Raises:
            DataError: As for `files`, or all of them are empty.
        """
        used: list[SourceFile] = []
        skipped: list[SkippedFile] = []
        for file in self.files():
            account = file_account(file.path, file.name)
            if account.size_bytes and not (is_packed(file.path) and _holds_nothing(file.path)):
                used.append(account)
            else:
                skipped.append(SkippedFile(name=file.name, reason="empty", size_bytes=account.size_bytes))
        if not used:
            raise self.empty(len(skipped))
        return Accounts(tuple(used), tuple(skipped))

    def empty(self, files: int) -> DataError:
        """The error for so many files, none of which holds anything."""
        what = f"{self._path} is empty" if files == 1 else f"All {files} files of {self._path} are empty"
        return DataError(f"{what}; name a file with text in prepare.source.path.")

    def without_it(self) -> str:
        """How to go on without a file that is one of several; nothing where it was named itself."""
        if self._path.is_file():
            return ""
        return f" Or leave this file out: move it to another folder, or narrow {self._key()} so that it does not match."

    def _key(self) -> str:
        """The setting that chooses among several files."""
        return "prepare.source.pattern" if self._path.is_dir() else "prepare.source.path"

    def _found(self) -> tuple[Path, Sequence[Path]]:
        """The folder that names are relative to, and all files."""
        path = self._path
        # Unlike pathlib's, these raise for no name: what no file system takes does not exist.
        if os.path.isfile(path):  # noqa: PTH113
            self._check_pattern_unused("a file")
            return path.parent, [path]
        if os.path.isdir(path):  # noqa: PTH112
            files = _matches(path, self._pattern)
            if not files:
                raise _nothing_matches(path, self._pattern)
            return path, files
        if GLOB_SIGNS & set(str(path)):
            self._check_pattern_unused("a glob")
            root, pattern = _glob_parts(path)
            files = _matches(root, pattern)
            if not files:
                raise DataError(f"prepare.source.path = {path} matches no file; check its folder and its signs.")
            return root, files
        raise _missing(path)

    def _check_pattern_unused(self, what: str) -> None:
        """A pattern chooses among the files of a folder; elsewhere it would have no effect."""
        if self._pattern != self._default_pattern:
            raise ConfigError(
                f"prepare.source.pattern = {self._pattern!r} has no effect, for prepare.source.path = "
                f"{self._path} is {what}, not a folder; leave it as it comes (--set 'prepare.source.pattern={self._default_pattern}'), "
                "or name the folder."
            )


def _holds_nothing(path: Path) -> bool:
    return not any(blocks(path))


def _matches(root: Path, pattern: str) -> list[Path]:
    """The files that match, packed or not.

    Raises:
        DataError: One is a link to nothing: its text would be missing in silence.
        ConfigError: The pattern is none.
    """
    packed = [] if pattern.endswith("**") else [f"{pattern}{ending}" for ending in ENDINGS]
    try:
        found = list({path: None for one in (pattern, *packed) for path in root.glob(one)})
    except (ValueError, NotImplementedError) as error:
        raise ConfigError(
            f"prepare.source.pattern = {pattern!r} is no pattern below a folder ({error}); use one like '**/*.txt'."
        ) from error
    # Hidden ones are no text: editors lock files by links to nothing.
    if lost := [path for path in found if path.is_symlink() and not path.exists() and not path.name.startswith(".")]:
        raise DataError(
            f"{lost[0]} is a link to {lost[0].readlink()}, which does not exist; bring that file back, or remove the link."
        )
    return [path for path in found if path.is_file()]


def _glob_parts(path: Path) -> tuple[Path, str]:
    """The part of a glob without signs, and the rest."""
    first = next(place for place, part in enumerate(path.parts) if GLOB_SIGNS & set(part))
    return Path(*path.parts[:first]), "/".join(path.parts[first:])


def _missing(path: Path) -> DataError:
    folder = path.parent
    if os.path.lexists(path):
        what = "a link to nothing" if os.path.islink(path) else "no file but a pipe or a device"  # noqa: PTH114 - as above
        return DataError(f"prepare.source.path = {path} is {what}; name a file, a folder, or a glob.")
    if not os.path.isdir(folder):  # noqa: PTH112 - as above
        return DataError(f"prepare.source.path = {path} does not exist, and neither does its folder {folder}.")
    hint = did_you_mean(path.name, sorted(entry.name for entry in folder.iterdir()))
    return DataError(f"prepare.source.path = {path} does not exist{hint or '; name a file, a folder, or a glob.'}")


def _nothing_matches(folder: Path, pattern: str) -> DataError:
    others = [path.name for path in islice((path for path in folder.rglob("*") if path.is_file()), 3)]
    instead = f"it holds {', '.join(others)}" if others else "it holds no file at all"
    return DataError(
        f"No file in {folder} matches prepare.source.pattern = {pattern!r}: {instead}. "
        "Set prepare.source.pattern, or name another folder."
    )
