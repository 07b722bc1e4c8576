"""Texts, looked at in one pass and then together: each document by itself, copies, what is trained and validated on."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from ml_playground.core.error_handling import DataError
from ml_playground.core.humanise import count
from ml_playground.data_pipeline.checks import repeats
from ml_playground.data_pipeline.checks.findings import Place, Tally
from ml_playground.data_pipeline.checks.fingerprints import FingerprintTable
from ml_playground.data_pipeline.checks.held_out import SplitWatcher
from ml_playground.data_pipeline.checks.inputs import Input
from ml_playground.data_pipeline.checks.repeats import HELD_OUT, TRAINED, Parts, Picked
from ml_playground.data_pipeline.checks.report import Places, Report, findings_of, share
from ml_playground.data_pipeline.checks.text_scan import DocumentScan, TextFault, scan_document

Progress = Callable[[int], None]
"""Told how many bytes were read so far."""

MUCH = 0.05
"""Share of the text from which on repeated paragraphs are a warning."""
LEAST_LEAK = 0.01
"""Share of the held-out text from which on what is also trained on is a warning."""


@dataclass(frozen=True, slots=True)
class TextCheck:
    """What came of it."""

    report: Report
    copies: frozenset[int]
    """First lines of documents, counted over all of them, that are copies of earlier ones."""


def watched(documents: Iterable[Input], progress: Progress) -> Iterator[Input]:
    """The same inputs; what is read of them is reported."""
    done = 0

    def blocks(document: Input) -> Iterator[bytes]:
        nonlocal done
        for block in document.blocks():
            yield block
            done += len(block)
            progress(done)

    for document in documents:
        yield replace(document, blocks=lambda document=document: blocks(document))


def numbered(
    documents: Iterable[Input], documents_table: FingerprintTable, paragraphs: FingerprintTable
) -> Iterator[tuple[Input, DocumentScan, Iterator[TextFault]]]:
    """Each document with its faults, to be read to their end, and with what is known after that."""
    row = 0
    for document in documents:
        seen = DocumentScan(document.name, row)
        yield document, seen, scan_document(document, seen, documents_table, paragraphs)
        row += seen.lines


def check_texts(
    documents: Iterable[Input],
    *,
    most_examples: int,
    split: SplitWatcher | None = None,
    progress: Progress = lambda done: None,
) -> TextCheck:
    """Check texts.

    Args:
        documents: Read once, in order; `held_out` says which are for validation where there is no `split`.
        most_examples: Of each code.
        split: Says, once all is read, which lines are held out.
        progress: Told how far it has come.

    Raises:
        StorageError: The folder for temporary files is full.
    """
    tally, places, parts = Tally(most_examples), Places(), Parts()
    rows = held_bytes = size_bytes = read = 0
    with FingerprintTable() as prints, FingerprintTable() as paragraphs:
        for document, seen, faults in numbered(watched(documents, progress), prints, paragraphs):
            places.begin(document, seen.first_row)
            parts.begin(seen.first_row, HELD_OUT if document.held_out else TRAINED)
            for found in faults:
                tally.add(found.fault, Place(document.name, found.line, found.offset), found.passage)
            # What stands behind the last line feed is a line only if there is something.
            rows, read = rows + seen.lines - (not seen.line_bytes), read + 1
            size_bytes += seen.size_bytes
            held_bytes += seen.size_bytes if document.held_out else 0
            if split is not None:
                split.add(seen)
        if split is not None:
            parts, held_bytes = split.parts()
        together = _Together(tally, places, most_examples)
        copies = together.documents(prints)
        if copies and split is not None and split.drops_copies:
            together.notes["duplicate_document"] = "prepare.duplicates = 'drop' leaves them out"
        together.paragraphs(paragraphs, parts, size_bytes, held_bytes)
    report = Report("text", read, rows, size_bytes, findings_of(tally, together.notes))
    return TextCheck(report, copies)


def some_text(check: TextCheck) -> TextCheck:
    """The same check, of texts that are not all empty: preparing refuses those.

    Raises:
        DataError: They are.
    """
    if not check.report.size_bytes and all(one.code == "empty_document" for one in check.report.findings):
        raise DataError("There is no text to check: the files are empty.")
    return check


class _Together:
    """What is found by looking at all documents together."""

    def __init__(self, tally: Tally, places: Places, most: int) -> None:
        self._tally, self._places, self._most = tally, places, most
        self.notes: dict[str, str] = {}

    def documents(self, prints: FingerprintTable) -> frozenset[int]:
        """Count the copies; returns the rows of the exact ones."""
        exact: list[Picked] = []
        near: list[Picked] = []
        copies: set[int] = set()
        for groups in prints.groups():
            mask = repeats.exact(groups)
            copies.update(groups.records["row"][mask].tolist())
            exact.append(repeats.picked(groups, mask, self._most))
            near.append(repeats.picked(groups, repeats.near(groups), self._most))
        self._put("duplicate_document", repeats.together(exact, self._most))
        self._put("near_duplicate_document", repeats.together(near, self._most))
        return frozenset(copies)

    def paragraphs(self, paragraphs: FingerprintTable, parts: Parts, size_bytes: int, held_bytes: int) -> None:
        """Count what stands there again, and what is on both sides of the split."""
        twice: list[Picked] = []
        leaks: list[Picked] = []
        for groups in paragraphs.groups(parts.sides):
            twice.append(repeats.picked(groups, repeats.again(groups), self._most))
            if parts.both:
                held, _ = repeats.leaking(groups)
                leaks.append(repeats.picked(groups, held, self._most))
        repeated, leaking = repeats.together(twice, self._most), repeats.together(leaks, self._most)
        much = repeated.weight > MUCH * size_bytes
        self._put("much_duplicate_text" if much else "duplicate_paragraph", repeated, size_bytes)
        serious = leaking.weight > LEAST_LEAK * held_bytes
        self._put("validation_leak" if serious else "validation_overlap", leaking, held_bytes)

    def _put(self, code: str, found: Picked, of_bytes: int | None = None) -> None:
        examples = [
            self._places.example(at.row, at.offset, f"as {self._places.words(at.first_row)}") for at in found.repeats
        ]
        self._tally.put(code, found.count, examples)
        if found.count and of_bytes is not None:
            self.notes[code] = f"{count(found.weight)}B, {share(found.weight, of_bytes)}"
