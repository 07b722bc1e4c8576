"""Rows of chats, looked at in one pass and then together: each by itself, copies, contradictions, leaks, and what stands out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from heapq import heappush, heappushpop
from typing import Any

from ml_playground.core.error_handling import DataError
from ml_playground.data_pipeline.checks import repeats
from ml_playground.data_pipeline.checks.checking_texts import Progress, watched
from ml_playground.data_pipeline.checks.findings import Example, Fault, Place, Tally, excerpt_of
from ml_playground.data_pipeline.checks.fingerprints import FingerprintTable, Groups, Mask
from ml_playground.data_pipeline.checks.inputs import Input
from ml_playground.data_pipeline.checks.marks import RowMarks
from ml_playground.data_pipeline.checks.outliers import Fences, LogHistogram, start_of
from ml_playground.data_pipeline.checks.repeats import HELD_OUT, TRAINED, Parts, Picked
from ml_playground.data_pipeline.checks.report import Places, Report, findings_of
from ml_playground.data_pipeline.checks.row_scan import ANY_ROW, RowPrint, RowReader, RowScan, scan_row
from ml_playground.data_pipeline.checks.table import CHECKS
from ml_playground.data_pipeline.sources.jsonl_rows import lines


@dataclass(frozen=True, slots=True)
class RowCheck:
    """What came of it, and what a second pass needs to judge each row again, beside the marks."""

    report: Report
    most_characters: int | None
    """The limit that was given."""
    lengths: Fences | None
    """What is usual where no limit was given."""
    reader: RowReader = ANY_ROW
    """How the rows were read, and are to be read again."""

    def faults(self, scan: RowScan) -> list[Fault]:
        """Everything that is wrong with a row, but for what was found by comparing it with others."""
        found = list(scan.faults)
        if scan.print is not None and (fault := self._too_long(scan.print.characters)):
            found.append(fault)
        return found

    def _too_long(self, characters: int) -> Fault | None:
        if self.most_characters is not None:
            return too_long(characters, self.most_characters)
        outlier = self.lengths is not None and characters and self.lengths.above(characters)
        return Fault("long_row", f"{characters:,} characters") if outlier else None


def too_long(characters: int, most: int) -> Fault | None:
    """The fault of a row beyond the limit."""
    return Fault("long_row", f"{characters:,} characters, {most:,} fit") if characters > most else None


def check_rows(
    files: Iterable[Input],
    *,
    most_examples: int,
    most_characters: int | None = None,
    marks: RowMarks | None = None,
    reader: RowReader = ANY_ROW,
    progress: Progress = lambda done: None,
) -> RowCheck:
    """Check files of rows.

    Args:
        files: Read once, in order; `held_out` says which are for validation.
        most_examples: Of each code.
        most_characters: Of a row; none: rows far longer than the others are found.
        marks: Gets the rows that are found by comparing them; for a second pass.
        reader: Reads them as their experiment does.
        progress: Told how far it has come.

    Raises:
        DataError: A file cannot be read.
        StorageError: The folder for temporary files is full.
    """
    with FingerprintTable() as prints, FingerprintTable() as prompts:
        state = _Pass(prints, prompts, most_examples, most_characters, reader)
        for file in watched(files, progress):
            state.read(file)
        if not state.rows:
            raise DataError("There is no row to check: the files are empty.")
        state.compare(marks)
        state.outliers()
    report = Report(
        "chat", state.files, state.rows, state.size_bytes, findings_of(state.tally, state.notes), state.facts()
    )
    return RowCheck(report, most_characters, state.lengths.fences(), reader)


@dataclass(slots=True)
class _Largest:
    """The rows with the largest values of something."""

    most: int
    words: str
    """Of a row's number, as its note."""
    rows: list[tuple[float, int, Example]] = field(default_factory=list[Any])

    def add(self, value: float, number: float, row: int, place: Place, scan: RowScan) -> None:
        """Keep a row if it is among them; hardly one in a thousand is."""
        full = len(self.rows) >= self.most
        if full and (not self.most or value <= self.rows[0][0]):
            return
        entry = (value, -row, Example(place, excerpt_of(scan.passage), self.words.format(number)))
        if full:
            heappushpop(self.rows, entry)
        else:
            heappush(self.rows, entry)

    def examples(self, least: float) -> list[Example]:
        """Those from a value on, the largest first."""
        return [example for value, _, example in sorted(self.rows, reverse=True) if value >= least]


class _Pass:
    """What is remembered from row to row."""

    def __init__(
        self,
        prints: FingerprintTable,
        prompts: FingerprintTable,
        most: int,
        most_characters: int | None,
        reader: RowReader,
    ) -> None:
        self._reader = reader
        self.tally, self.notes = Tally(most), dict[str, str]()
        self.files = self.rows = self.size_bytes = 0
        self.lengths, self._ratios = LogHistogram(), LogHistogram()
        self._prints, self._prompts, self._most, self._limit = prints, prompts, most, most_characters
        self._places, self._parts = Places(), Parts()
        self._longest = _Largest(most, "{:,.0f} characters")
        ratio = "{:.3g} characters of answer for each of the question"
        self._wordy, self._terse = _Largest(most, ratio), _Largest(most, ratio)
        self._characters = self._answer_characters = 0

    def read(self, file: Input) -> None:
        """Look at each row of a file."""
        first = self.rows
        self._places.begin(file, first)
        self._parts.begin(first, HELD_OUT if file.held_out else TRAINED)
        self.files += 1
        for line in lines(file.blocks()):
            scan = scan_row(line, self._reader)
            place = Place(file.name, line.number, line.offset)
            for fault in scan.faults:
                self.tally.add(fault, place, scan.passage)
            if scan.print is not None:
                self._compare_later(self.rows, place, scan, scan.print)
            self.rows += 1
            self.size_bytes += line.size_bytes + line.ended

    def _compare_later(self, row: int, place: Place, scan: RowScan, found: RowPrint) -> None:
        # A row that cannot be used takes no good row with it: it contradicts nothing, and is the original of no copy.
        if not any(CHECKS[fault.code].severity == "error" for fault in scan.faults):
            self._prints.add(found.key, found.exact, row, place.offset)
            if found.prompt is not None:
                self._prompts.add(found.prompt, found.answer, row, place.offset)
        characters = found.characters
        self._characters += characters
        self._answer_characters += found.answer_characters
        if characters:
            self.lengths.add(characters)
            if self._limit is None:
                self._longest.add(characters, characters, row, place, scan)
            elif fault := too_long(characters, self._limit):
                self.tally.add(fault, place, scan.passage)
        if found.ratio is not None:
            self._ratios.add(found.ratio)
            self._wordy.add(found.ratio, found.ratio, row, place, scan)
            self._terse.add(1 / found.ratio, found.ratio, row, place, scan)

    def compare(self, marks: RowMarks | None) -> None:
        """Count copies, contradictions and leaks, and mark the rows."""
        found: dict[str, list[Picked]] = {}

        def mark(code: str, groups: Groups, mask: Mask, shown: Mask | None = None) -> None:
            if marks is not None:
                marks.add(code, groups.records["row"][mask])
            found.setdefault(code, []).append(repeats.picked(groups, mask if shown is None else shown, self._most))

        for groups in self._prints.groups():
            mark("duplicate_row", groups, repeats.exact(groups))
            mark("near_duplicate_row", groups, repeats.near(groups))
        for groups in self._prompts.groups(self._parts.sides):
            mark("different_answers", groups, repeats.contradicting(groups))
            if self._parts.both:
                held, trained = repeats.leaking(groups)
                mark("validation_leak", groups, trained, held)
        for code, parts in found.items():
            picked = repeats.together(parts, self._most)
            examples = [
                self._places.example(at.row, at.offset, f"as {self._places.words(at.first_row)}")
                for at in picked.repeats
            ]
            self.tally.put(code, picked.count, examples)

    def outliers(self) -> None:
        """Rows that are far longer, and answers that are far longer or shorter, than is usual here."""
        if self._limit is None and (fences := self.lengths.fences()):
            beyond = start_of(fences.highest + 1)
            self.tally.put("long_row", self.lengths.outside(fences)[1], self._longest.examples(beyond))
            self.notes["long_row"] = (
                f"longer than {beyond:,.0f} characters; half of the rows have {self.lengths.median():,.0f} at most"
            )
        if fences := self._ratios.fences():
            short, long = self._ratios.outside(fences)
            low, high = start_of(fences.lowest), start_of(fences.highest + 1)
            examples = [*self._wordy.examples(high), *self._terse.examples(1 / low)]
            self.tally.put("odd_ratio", short + long, examples)
            self.notes["odd_ratio"] = f"usual are {low:.2g} to {high:.2g} characters of answer for each of the question"

    def facts(self) -> Mapping[str, float]:
        """What else is worth knowing."""
        answers = self._answer_characters / self._characters if self._characters else 0.0
        return {"median_characters": self.lengths.median(), "answer_share": answers}
