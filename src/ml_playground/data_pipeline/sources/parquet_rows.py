"""Rows of Parquet files, a few at a time and only the columns that are read; each row is a document."""

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow  # pyright: ignore[reportMissingTypeStubs]
from pyarrow import parquet  # pyright: ignore[reportMissingTypeStubs]

from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import DataError
from ml_playground.core.values import Document
from ml_playground.data_pipeline.source_counts import SourceCounts
from ml_playground.data_pipeline.source_protocol import Provenance
from ml_playground.data_pipeline.sources.columns import CONTENT
from ml_playground.data_pipeline.sources.file_list import FileList, ListedFile
from ml_playground.data_pipeline.sources.row_texts import Row, RowTexts
from ml_playground.data_pipeline.sources.settings import Parquet

BATCH_ROWS = 256
"""Read at once."""
BUFFER_BYTES = 1 << 20
"""A column of a row group is read in pieces of this size; as it comes it would be read whole, and may have gigabytes."""

# The library is not typed.
_ARROW: Any = pyarrow
# The last two: text that is no UTF-8, dates that Python's own do not reach.
FAILURES: tuple[type[Exception], ...] = (_ARROW.ArrowException, OSError, ValueError, OverflowError)
IS_TEXT: tuple[Callable[[Any], bool], ...] = (
    _ARROW.types.is_string,
    _ARROW.types.is_large_string,
    _ARROW.types.is_string_view,
)

_DEFAULT_PATTERN: str = Parquet.model_fields["pattern"].default


class ParquetRows:
    """The rows of all files, each a document."""

    def __init__(self, settings: Parquet) -> None:
        self._settings = settings
        self._list = FileList(settings.path, settings.pattern, _DEFAULT_PATTERN)
        self._texts = RowTexts(settings, str(settings.path), tables=True)

    def documents(self) -> Iterator[Document]:
        """Each row that has text; `FILE:ROW` is its id."""
        return self._texts.documents(row for file in self._list.files() for row in self._rows(file))

    def counts(self) -> SourceCounts:
        """Rows, and which of them were left out."""
        return self._texts.counts()

    def provenance(self) -> Provenance:
        """Names, sizes and hashes of the files."""
        used, skipped = self._list.accounts()
        return Provenance(
            kind=self._settings.kind, files=used, skipped=skipped, facts={"path": str(self._settings.path)}
        )

    def _rows(self, file: ListedFile) -> Iterator[Row]:
        try:
            with parquet.ParquetFile(file.path, buffer_size=BUFFER_BYTES, pre_buffer=False) as opened:
                table: Any = opened
                wanted = self._texts.columns(table.schema_arrow.names, str(file.path))
                kind = table.schema_arrow.field(wanted[CONTENT]).type
                if not any(test(_plain(kind)) for test in IS_TEXT):
                    raise DataError(
                        f"{file.path}: the column {wanted[CONTENT]!r} is {kind}, not text; set "
                        "prepare.source.content_column."
                    )
                columns = list(dict.fromkeys(column for column in wanted.values() if column is not None))
                number = 0
                for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=columns, use_threads=False):
                    for cells in batch.to_pylist():
                        number += 1
                        yield Row(f"{file.id}:{number}", cells)
        except FAILURES as error:
            raise DataError(
                f"{file.path} cannot be read as Parquet: {str(error).rstrip('.')}. Make it anew, or name another file in "
                "prepare.source.path."
            ) from error


def _plain(kind: Any) -> Any:
    """The type of the values, where a column holds numbers of them in a list of all."""
    return kind.value_type if _ARROW.types.is_dictionary(kind) else kind


def build(settings: Parquet, deps: Deps) -> ParquetRows:
    """The source; the files are looked for when it is read."""
    del deps
    return ParquetRows(settings)
