"""Text files on this machine: one, a folder of them, or a glob; each file is a document."""

from collections.abc import Iterator

from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import DataError
from ml_playground.core.values import Document
from ml_playground.data_pipeline.settings import TextFile
from ml_playground.data_pipeline.source_protocol import NamedFile, Provenance
from ml_playground.data_pipeline.sources.file_list import FileList
from ml_playground.data_pipeline.sources.text_pieces import check_encoding, text_pieces

DEFAULT_PATTERN: str = TextFile.model_fields["pattern"].default


class TextFiles:
    """The files that `path` and `pattern` name, in the order of their names; empty ones are skipped and counted."""

    def __init__(self, settings: TextFile) -> None:
        check_encoding(settings.encoding)
        self._settings = settings
        self._list = FileList(settings.path, settings.pattern, DEFAULT_PATTERN)

    def files(self) -> list[NamedFile]:
        """Each file, its name below the folder."""
        return [NamedFile(file.id, file.path, self._settings.encoding) for file in self._list.files()]

    def documents(self) -> Iterator[Document]:
        """Each file as a document, its name below the folder as the id."""
        files = self._list.files()
        empty = True
        for file in files:
            try:
                for text in text_pieces(file.path, self._settings.encoding):
                    empty = False
                    yield Document(file.id, text)
            except DataError as error:
                raise DataError(f"{error}{self._list.without_it()}") from error
        if empty:
            raise self._list.empty(len(files))

    def provenance(self) -> Provenance:
        """Names, sizes and hashes of the files."""
        used, skipped = self._list.accounts()
        return Provenance(
            kind=self._settings.kind, files=used, skipped=skipped, facts={"path": str(self._settings.path)}
        )


def build(settings: TextFile, deps: Deps) -> TextFiles:
    """The source; the files are looked for when it is read.

    Raises:
        ConfigError: The encoding is unknown.
    """
    del deps
    return TextFiles(settings)
