"""Minutes of a parliament in TEI, as tagged text: a sitting, an item of its agenda or a speech is a document."""

from collections.abc import Iterator, Mapping
from itertools import groupby

from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import DataError
from ml_playground.core.humanise import plural
from ml_playground.core.values import Document
from ml_playground.data_pipeline.source_counts import Counter, SourceCounts
from ml_playground.data_pipeline.source_protocol import Provenance
from ml_playground.data_pipeline.sources.file_list import FileList, ListedFile
from ml_playground.data_pipeline.sources.settings import Tag, TeiXml
from ml_playground.data_pipeline.sources.tei_lines import TaggedLine, tagged_lines
from ml_playground.data_pipeline.sources.text_pieces import PIECE_BYTES, blocks

_DEFAULT_PATTERN: str = TeiXml.model_fields["pattern"].default
TEXT: frozenset[Tag] = frozenset({"paragraph", "stage"})
"""Lines that say something; the others say where, when and who."""
BEGINS: Mapping[str, Tag | None] = {"file": None, "division": "division", "speech": "speaker"}
"""By what a document is: the line with which it begins, if that is one of its kind's first level."""
ABOVE: Mapping[str, frozenset[Tag]] = {
    "file": frozenset(),
    "division": frozenset({"document"}),
    "speech": frozenset({"document", "division"}),
}
"""By what a document is: lines that belong to all documents below them."""
MOST_WAITING = 1_000
"""Lines without text that a document may begin with."""


class Minutes:
    """The documents of all files."""

    def __init__(self, settings: TeiXml) -> None:
        self._settings = settings
        self._list = FileList(settings.path, settings.pattern, _DEFAULT_PATTERN)
        self._counts: SourceCounts | None = None

    def documents(self) -> Iterator[Document]:
        """In pieces of many lines; the file's name is the id, with `#NUMBER` where it holds several documents."""
        counter = Counter()
        files = self._list.files()
        some = False
        for file in files:
            for document in _joined(_FileDocuments(file, self._settings, counter).documents()):
                some = True
                yield document
        if not some:
            raise DataError(
                f"{self._settings.path} holds no text of TEI: none of {plural(len(files), 'file')} has a paragraph or stage inside "
                "<text>. Name another one in prepare.source.path."
            )
        self._counts = counter.counts()

    def counts(self) -> SourceCounts:
        """Sittings, items or speeches, and which of them were left out."""
        return self._counts or SourceCounts()

    def provenance(self) -> Provenance:
        """Names, sizes and hashes of the files."""
        used, skipped = self._list.accounts()
        return Provenance(
            kind=self._settings.kind, files=used, skipped=skipped, facts={"path": str(self._settings.path)}
        )


class _FileDocuments:
    """The documents of one file. Each begins with the lines that say where it stands, and only once it has text."""

    def __init__(self, file: ListedFile, settings: TeiXml, counter: Counter) -> None:
        self._file = file
        self._unit = settings.document
        self._tags = frozenset(settings.tags)
        self._counter = counter
        self._number = 0
        self._around: dict[Tag, str] = {}
        """What stands above documents, by tag: it is said at the beginning of each."""
        self._waiting: list[str] = []
        """Lines of a document that has no text yet."""
        self._opened = self._unit == "file"
        """Whether a document was announced."""
        self._begun = False
        """Whether it has text."""

    def documents(self) -> Iterator[Document]:
        """The lines of each."""
        for line in tagged_lines(self._file.path, blocks(self._file.path)):
            if line.ends:
                if self._unit == "speech":
                    self._close()
                continue
            if line.begins and line.tag == BEGINS[self._unit]:
                self._close()
                self._opened = True
            if text := self._written(line):
                if not self._begun:
                    text = "".join([*self._around.values(), *self._waiting, text])
                    self._waiting, self._begun = [], True
                    self._counter.found += 1
                yield Document(self._id(), text)
        self._close()

    def _written(self, line: TaggedLine) -> str:
        """What to write for a line; nothing where it waits, stands above the documents, or is left out."""
        written = f"<{line.tag}> {line.text}\n" if line.text and line.tag in self._tags else ""
        if line.tag in ABOVE[self._unit]:
            if line.tag == "document":
                self._around.clear()
            self._around[line.tag] = written
            return ""
        if line.tag in TEXT and not written:
            self._counter.leave_out("tags", self._id(), len(line.text), documents=0)
        if line.tag in TEXT or self._begun or len(self._waiting) >= MOST_WAITING:
            return written
        if written:
            self._waiting.append(written)
        return ""

    def _close(self) -> None:
        """The document ends, or had no text at all."""
        if self._opened and not self._begun:
            self._counter.found += 1
            self._counter.leave_out("no_content", self._id(), 0)
        self._number += self._begun
        self._opened = self._begun = False
        self._waiting.clear()

    def _id(self) -> str:
        return self._file.id if self._unit == "file" else f"{self._file.id}#{self._number}"


def _joined(lines: Iterator[Document]) -> Iterator[Document]:
    """Lines of one document as pieces: each piece costs whoever splits and encodes it as much as a line."""
    for name, group in groupby(lines, key=lambda line: line.id):
        held: list[str] = []
        characters = 0
        for line in group:
            held.append(line.text)
            characters += len(line.text)
            if characters >= PIECE_BYTES:
                yield Document(name, "".join(held))
                held, characters = [], 0
        if held:
            yield Document(name, "".join(held))


def build(settings: TeiXml, deps: Deps) -> Minutes:
    """The source; the files are looked for when it is read."""
    del deps
    return Minutes(settings)
