"""Rows of JSON Lines, an object a line; each row is a document."""

from collections.abc import Iterator

from ml_playground.core.deps import Deps
from ml_playground.core.values import Document
from ml_playground.data_pipeline.source_counts import SourceCounts
from ml_playground.data_pipeline.source_protocol import Provenance
from ml_playground.data_pipeline.sources.file_list import FileList, ListedFile
from ml_playground.data_pipeline.sources.jsonl_rows import MOST_LINE_BYTES, RowError, lines, parse_row
from ml_playground.data_pipeline.sources.row_texts import BrokenRow, Row, RowTexts
from ml_playground.data_pipeline.sources.settings import JsonlText
from ml_playground.data_pipeline.sources.text_pieces import blocks

_DEFAULT_PATTERN: str = JsonlText.model_fields["pattern"].default


class JsonlRows:
    """The objects of all files, each a document; they need not have the same keys."""

    def __init__(self, settings: JsonlText) -> None:
        self._settings = settings
        self._list = FileList(settings.path, settings.pattern, _DEFAULT_PATTERN)
        self._texts = RowTexts(settings, str(settings.path), tables=False)

    def documents(self) -> Iterator[Document]:
        """Each row that has text; `FILE:LINE` is its id."""
        return self._texts.documents(row for file in self._list.files() for row in _rows(file))

    def counts(self) -> SourceCounts:
        """Rows, and which of them were left out."""
        return self._texts.counts()

    def provenance(self) -> Provenance:
        """Names, sizes and hashes of the files."""
        used, skipped = self._list.accounts()
        return Provenance(
            kind=self._settings.kind, files=used, skipped=skipped, facts={"path": str(self._settings.path)}
        )


def build(settings: JsonlText, deps: Deps) -> JsonlRows:
    """The source; the files are looked for when it is read."""
    del deps
    return JsonlRows(settings)


def _rows(file: ListedFile) -> Iterator[Row | BrokenRow]:
    """Each object; blank lines are none."""
    for line in lines(blocks(file.path)):
        where = f"{file.id}:{line.number}"
        if line.size_bytes > MOST_LINE_BYTES:
            yield BrokenRow(where, f"the row has {line.size_bytes:,} bytes, at most {MOST_LINE_BYTES:,} are read", 0)
        elif line.raw.strip():
            try:
                row = parse_row(line.raw)
            except RowError as error:
                yield BrokenRow(where, str(error), len(line.raw.decode(errors="replace")))
            else:
                yield Row(where, row)
