"""Several sources as one: whole documents in turn, always of the part that is furthest behind its share of the text."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from itertools import groupby
from typing import TypeVar

from ml_playground.configuration.families import SOURCES
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import DataError, PlaygroundError
from ml_playground.core.registry import kind_of, load_object
from ml_playground.core.values import Document
from ml_playground.data_pipeline.source_counts import Counter, CountingSource, SourceCounts
from ml_playground.data_pipeline.source_protocol import (
    AGAIN,
    Provenance,
    RefetchedSource,
    SkippedFile,
    Source,
    SourceFile,
)
from ml_playground.data_pipeline.sources.settings import Mixture
from ml_playground.data_pipeline.transforms.mixing import Shares

_KEY = "prepare.source."

FileT = TypeVar("FileT", SourceFile, SkippedFile)


class _Part:
    """One source of a mixture while it is read: whole documents, and from the beginning again where that is wanted."""

    def __init__(self, name: str, source: Source) -> None:
        self.name = name
        self.source = source
        self.times = 0
        """How often it was begun."""
        self.exhausted = False
        """Whether it was given whole."""
        self._groups: Iterator[tuple[str, Iterator[Document]]] = iter(())
        self.begin()

    def begin(self) -> None:
        """Start from its first document."""
        self.times += 1
        some = (document for document in self.source.documents() if document.text)
        self._groups = groupby(some, key=lambda document: document.id)

    def next_document(self) -> Iterator[Document] | None:
        """The pieces of its next document; None at its end."""
        with _named(self.name):
            group = next(self._groups, None)
        if group is None:
            self.exhausted = True
            return None
        return self._renamed(group[1])

    def _renamed(self, pieces: Iterator[Document]) -> Iterator[Document]:
        again = f"{AGAIN}{self.times}" if self.times > 1 else ""
        with _named(self.name):
            for piece in pieces:
                yield Document(f"{self.name}/{piece.id}{again}", piece.text)


class MixedSource:
    """The parts in turn; equal for every number of processes, since one reads them."""

    def __init__(self, settings: Mixture, parts: Mapping[str, Source]) -> None:
        self._settings = settings
        self._parts = parts
        self._weights = {name: settings.weights.get(name, 1.0) for name in parts}
        self._counts: SourceCounts | None = None

    def documents(self) -> Iterator[Document]:
        """Documents of all parts, `PART/` before their ids; what is given again has a number behind it."""
        parts = {name: _Part(name, source) for name, source in self._parts.items()}
        shares, counter = Shares(self._weights), Counter(shares=dict.fromkeys(parts, 0))
        while True:
            part = parts[shares.due()]
            document = part.next_document()
            if document is None:
                if self._ends(parts):
                    break
                self._check_has_text(part, counter)
                part.begin()
                continue
            characters = 0
            for piece in document:
                characters += len(piece.text)
                yield piece
            shares.give(part.name, characters)
            counter.shares[part.name] += characters
            if part.times > 1:
                counter.repeated_documents += 1
                counter.repeated_characters += characters
            else:
                counter.found += 1
        for part in parts.values():
            self._check_has_text(part, counter)
        if self._counts is None:
            self._counts = self._closed(parts, counter)

    def counts(self) -> SourceCounts:
        """What each part gave, what was repeated and left out."""
        return self._counts or SourceCounts()

    def provenance(self) -> Provenance:
        """The files of all parts, the part's name before each."""
        accounts: dict[str, Provenance] = {}
        for name, source in self._parts.items():
            with _named(name):
                accounts[name] = source.provenance()
        return Provenance(
            kind=self._settings.kind,
            files=tuple(_prefixed(name, file) for name, one in accounts.items() for file in one.files),
            skipped=tuple(_prefixed(name, file) for name, one in accounts.items() for file in one.skipped),
            facts={f"{name}: {key}": value for name, one in accounts.items() for key, value in one.facts.items()},
        )

    def fetch_anew(self) -> None:
        """For each part that was fetched."""
        for source in self._parts.values():
            if isinstance(source, RefetchedSource):
                source.fetch_anew()

    def _ends(self, parts: Mapping[str, _Part]) -> bool:
        exhausted = [part.exhausted for part in parts.values()]
        return any(exhausted) if self._settings.epoch_ends == "first_exhausted" else all(exhausted)

    def _check_has_text(self, part: _Part, counter: Counter) -> None:
        """Refuse a part that gives nothing: beginning it again would have no end."""
        if part.exhausted and not counter.shares[part.name]:
            raise DataError(
                f"The part {part.name!r} of the mixture has no text; correct {_KEY}parts.{part.name}, or leave it out."
            )

    def _closed(self, parts: Mapping[str, _Part], counter: Counter) -> SourceCounts:
        """The counts, with what was not given; the rest of each part is read for that, once."""
        for part in parts.values():
            if part.times == 1:
                while not part.exhausted and (document := part.next_document()) is not None:
                    pieces = [(piece.id, len(piece.text)) for piece in document]
                    counter.found += 1
                    counter.leave_out("beyond_share", pieces[0][0], sum(size for _, size in pieces))
            if isinstance(part.source, CountingSource):
                inner = part.source.counts()
                counter.found += sum(one.documents for one in inner.left_out.values()) - inner.repeated_documents
                counter.repeated_documents += inner.repeated_documents
                counter.repeated_characters += inner.repeated_characters
                for reason, one in inner.left_out.items():
                    places = tuple(f"{part.name}/{place}" for place in one.places)
                    counter.add_left_out(reason, one.model_copy(update={"places": places}))
        return counter.counts()


def build(settings: Mixture, deps: Deps) -> MixedSource:
    """The source, with one of each part.

    Raises:
        ConfigError: A setting of a part cannot be used.
    """
    parts: dict[str, Source] = {}
    for name, part in settings.parts.items():
        with _named(name):
            parts[name] = load_object(kind_of(SOURCES, part.kind_name).build)(part, deps)
    return MixedSource(settings, parts)


@contextmanager
def _named(name: str) -> Generator[None]:
    """Let errors of a part name its own settings.

    Raises:
        PlaygroundError: What was raised, in words for a part.
    """
    try:
        yield
    except PlaygroundError as error:
        part = f"{_KEY}parts.{name}"
        text = str(error).replace(_KEY, f"{part}.")
        raise type(error)(text if part in text else f"{part}: {text}") from error


def _prefixed(name: str, file: FileT) -> FileT:
    return file.model_copy(update={"name": f"{name}/{file.name}"})
