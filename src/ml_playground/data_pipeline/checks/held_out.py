"""Which lines of a source `[prepare]` keeps for validation and test, known once all of it was read."""

from array import array
from bisect import bisect_right

from ml_playground.configuration.models import PrepareSettings
from ml_playground.data_pipeline.checks.repeats import Parts
from ml_playground.data_pipeline.checks.text_scan import DocumentScan
from ml_playground.data_pipeline.transforms.split import character_ends, document_ends, split_of_id

LEAST_UNITS = 3
"""Documents or characters that give train, val and test one each."""


def watcher_of(settings: PrepareSettings) -> "SplitWatcher | None":
    """What finds leaks between the parts of a source; none where copies are dropped.

    The split is drawn over what is left then, which is not known here: whole copies would pass for leaks that are none.
    """
    return SplitWatcher(settings) if settings.duplicates == "keep" else None


class SplitWatcher:
    """Remembers of each document what its split depends on: some bytes a document, and some for each 64 KiB."""

    def __init__(self, settings: PrepareSettings) -> None:
        self._settings = settings
        self._rows = array("Q")
        self._lengths = array("Q")
        self._sizes = array("Q")
        self._by_hash = array("b")
        self._mark_characters = array("Q")
        self._mark_rows = array("Q")
        self._characters = 0
        self._end_row = 0

    def add(self, seen: DocumentScan) -> None:
        """The next document; one without characters is in no split."""
        if not seen.characters:
            return
        settings = self._settings
        self._rows.append(seen.first_row)
        self._lengths.append(seen.characters)
        self._sizes.append(seen.size_bytes)
        if settings.split_by == "hash":
            split = split_of_id(seen.name, settings.val_fraction, settings.test_fraction)
            self._by_hash.append(split != "train")
        elif settings.split_by == "position":
            for characters, line in seen.marks:
                self._mark_characters.append(self._characters + characters)
                self._mark_rows.append(seen.first_row + line - 1)
        self._characters += seen.characters
        self._end_row = seen.first_row + seen.lines

    def parts(self) -> tuple[Parts, int]:
        """Where what is held out begins and ends, and how many bytes it has."""
        found = Parts()
        fractions = self._settings.val_fraction, self._settings.test_fraction
        units = self._characters if self._settings.split_by == "position" else len(self._rows)
        if units < LEAST_UNITS:
            return found, 0
        if self._settings.split_by == "position":
            end = character_ends(self._characters, *fractions)[0]
            found.begin(0, held_out=False)
            found.begin(self._row_at(end), held_out=True)
            return found, round(sum(self._sizes) * (1 - end / self._characters))
        if self._settings.split_by == "document":
            first = document_ends(self._lengths, *fractions)[0]
            sides = [number >= first for number in range(len(self._rows))]
        else:
            sides = [bool(side) for side in self._by_hash]
        for row, side in zip(self._rows, sides, strict=True):
            found.begin(row, held_out=side)
        return found, sum(size for size, side in zip(self._sizes, sides, strict=True) if side)

    def _row_at(self, character: int) -> int:
        """The line of a character: exact where a stretch begins, in proportion within it."""
        place = bisect_right(self._mark_characters, character) - 1
        before, row = self._mark_characters[place], self._mark_rows[place]
        last = place + 1 == len(self._mark_rows)
        after = self._characters if last else self._mark_characters[place + 1]
        next_row = self._end_row if last else self._mark_rows[place + 1]
        return row + round((character - before) / (after - before) * (next_row - row))
