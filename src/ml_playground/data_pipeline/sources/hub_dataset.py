"""Data sets of the Hugging Face library `datasets`: a folder of its own, a folder of files, or a name on the hub."""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import datasets  # pyright: ignore[reportMissingTypeStubs]
from datasets.exceptions import DatasetsError  # pyright: ignore[reportMissingTypeStubs]

from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import DataError
from ml_playground.core.values import Document
from ml_playground.data_pipeline.source_counts import SourceCounts
from ml_playground.data_pipeline.source_protocol import Provenance, SourceFile
from ml_playground.data_pipeline.sources.row_texts import Row, RowTexts
from ml_playground.data_pipeline.sources.settings import HubDataset
from ml_playground.data_pipeline.sources.text_pieces import file_account

BATCH_ROWS = 256
"""Read at once."""

_COMMIT = re.compile(r"@([0-9a-f]{40})/")


class HubRows:
    """The rows of one split, each a document."""

    def __init__(self, settings: HubDataset) -> None:
        self._settings = settings
        self._where = settings.name or str(settings.path)
        self._texts = RowTexts(settings, self._where, tables=True)
        self._opened: Any = None

    def documents(self) -> Iterator[Document]:
        """Each row that has text; `SPLIT:ROW` is its id."""
        return self._texts.documents(self._rows())

    def counts(self) -> SourceCounts:
        """Rows, and which of them were left out."""
        return self._texts.counts()

    def provenance(self) -> Provenance:
        """Names, sizes and hashes of the files that are read; on the hub the commit, too."""
        facts = {"data set": self._where, "split": self._settings.split, "datasets": version("datasets")}
        if self._settings.path is not None:
            files = _files_of(self._settings.path)
        else:
            rows = self._dataset()
            files = _accounts([(Path(file["filename"]).name, Path(file["filename"])) for file in rows.cache_files])
            commits = {found[1] for address in rows.info.download_checksums or () if (found := _COMMIT.search(address))}
            facts |= {"revision": self._settings.revision or "", "commit": ", ".join(sorted(commits))}
        return Provenance(kind=self._settings.kind, files=tuple(files), facts=facts)

    def _rows(self) -> Iterator[Row]:
        rows = self._dataset()
        try:
            names = list(rows.column_names or next(iter(rows), ()))
            wanted = self._texts.columns(names, self._where)
            columns = list(dict.fromkeys(column for column in wanted.values() if column is not None))
            number = 0
            for batch in rows.select_columns(columns).iter(batch_size=BATCH_ROWS):
                for cells in _turned(batch, columns):
                    number += 1
                    yield Row(f"{self._settings.split}:{number}", cells)
        except (DatasetsError, OSError, ValueError, OverflowError) as error:
            # The last: dates that Python's own do not reach.
            raise self._failed(error) from error

    def _dataset(self) -> Any:
        """The split, opened once.

        Raises:
            DataError: It is not there, or cannot be read.
        """
        if self._opened is None:
            if not sys.stderr.isatty():
                datasets.disable_progress_bars()
            try:
                folder, name = self._settings.path, self._settings.name
                self._opened = self._of_the_hub(name) if folder is None and name else self._folder(Path(folder or ""))
            except (DatasetsError, OSError, ValueError, RuntimeError) as error:
                # The last: a folder whose rows a script would make, which is never run.
                raise self._failed(error) from error
        return self._opened

    def _of_the_hub(self, name: str) -> Any:
        settings = self._settings
        if Path(name).exists():
            raise DataError(
                f"prepare.source.name = {name!r} is also a file or folder here, which the library would read instead; set "
                "prepare.source.path if it is meant, or run the command in another folder."
            )
        return datasets.load_dataset(name, settings.subset, split=settings.split, revision=settings.revision)

    def _folder(self, path: Path) -> Any:
        """What save_to_disk wrote, memory-mapped; any other folder as a stream of its files."""
        if not path.is_dir():
            what = "is a file" if path.exists() else "does not exist"
            raise DataError(
                f"prepare.source.path = {path} {what}; name the folder that save_to_disk wrote, or one with Parquet or JSON "
                "Lines. (For such a file alone use the kinds parquet and jsonl_text.)"
            )
        split = self._settings.split
        if (path / "dataset_dict.json").is_file():
            splits = cast(Mapping[str, Any], datasets.load_from_disk(str(path)))
            if split not in splits:
                raise DataError(
                    f"{path} has no split {split!r} (it has: {', '.join(splits)}); set prepare.source.split."
                )
            return splits[split]
        if (path / "state.json").is_file():
            if split != "train":
                raise DataError(f"{path} holds one data set without splits; leave prepare.source.split out.")
            return datasets.load_from_disk(str(path))
        return datasets.load_dataset(str(path), split=split, streaming=True)

    def _failed(self, error: Exception) -> DataError:
        reason = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
        if self._settings.path is not None:
            return DataError(
                f"{self._where} cannot be read as a data set: {reason}. Name a folder that save_to_disk wrote, or one with "
                "Parquet or JSON Lines."
            )
        return DataError(
            f"{self._where} cannot be had from the hub: {reason}. Check name, subset, split, revision and the network. Without a "
            "network: where it can be had, write it with load_dataset(...).save_to_disk(FOLDER), bring that folder, and "
            'set prepare.source = {kind = "hub_dataset", path = "FOLDER"}; or set HF_HOME to a cache that has it.'
        )


def build(settings: HubDataset, deps: Deps) -> HubRows:
    """The source; nothing is opened or fetched before it is read."""
    del deps
    return HubRows(settings)


def _turned(batch: Mapping[str, Sequence[Any]], columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Columns of a batch as rows."""
    for values in zip(*(batch[column] for column in columns), strict=True):
        yield dict(zip(columns, values, strict=True))


def _files_of(path: Path) -> list[SourceFile]:
    """What a folder holds, but for hidden files and what the library keeps beside its own.

    Raises:
        DataError: It is none, or a file cannot be read.
    """
    found = [file for file in path.rglob("*") if file.is_file() and not _is_beside(file.relative_to(path))]
    if not found:
        what = "holds no files" if path.is_dir() else "is no folder"
        raise DataError(f"prepare.source.path = {path} {what}; name the folder of a data set.")
    return _accounts([(file.relative_to(path).as_posix(), file) for file in found])


def _is_beside(name: Path) -> bool:
    return any(part.startswith(".") for part in name.parts) or name.name.startswith("cache-")


def _accounts(files: Sequence[tuple[str, Path]]) -> list[SourceFile]:
    return [file_account(path, name) for name, path in sorted(files)]
