"""Which lines of a source `[prepare]` keeps for validation and test, known once all of it was read."""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence

import numpy as np

from ml_playground.configuration.models import PrepareSettings
from ml_playground.data_pipeline.checks.repeats import HELD_OUT, LEFT_OUT, TRAINED, Parts
from ml_playground.data_pipeline.checks.text_scan import DocumentScan
from ml_playground.data_pipeline.survey import originals_of
from ml_playground.data_pipeline.transforms.split import character_ends, document_ends, split_of_id

LEAST_UNITS = 3
"""Documents or characters that give train, val and test one each."""


class SplitWatcher:
    """Remembers of each document what its split depends on: some bytes a document, and some for each 64 KiB.

    Copies that `prepare.duplicates = "drop"` leaves out are in no split, and the others are dealt out as if these were not there.
    """

    def __init__(self, settings: PrepareSettings) -> None:
        self._settings = settings
        self._rows = array("Q")
        self._lengths = array("Q")
        self._sizes = array("Q")
        self._by_hash = array("b")
        self._prints = bytearray()
        self._mark_characters = array("Q")
        self._mark_rows = array("Q")
        self._characters = 0
        self._end_row = 0

    @property
    def drops_copies(self) -> bool:
        """Whether preparing leaves copies out."""
        return self._settings.duplicates == "drop"

    def add(self, seen: DocumentScan) -> None:
        """The next document; one without characters is in no split."""
        if not seen.characters:
            return
        settings = self._settings
        self._rows.append(seen.first_row)
        self._lengths.append(seen.characters)
        self._sizes.append(seen.size_bytes)
        if self.drops_copies:
            self._prints += seen.fingerprint
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
        """On which side each line is, and how many bytes are held out."""
        found, kept = Parts(), self._kept()
        lengths = array("Q", (length for length, keep in zip(self._lengths, kept, strict=True) if keep))
        if (sum(lengths) if self._settings.split_by == "position" else len(lengths)) < LEAST_UNITS:
            return found, 0
        trained_of = self._trained(lengths)
        held_bytes, number, before, characters = 0.0, 0, 0, 0
        for index, (row, length, keep) in enumerate(zip(self._rows, self._lengths, kept, strict=True)):
            if not keep:
                found.begin(row, LEFT_OUT)
            else:
                trained = trained_of(index, number, before)
                found.begin(row, TRAINED if trained else HELD_OUT)
                if 0 < trained < length:
                    found.begin(self._row_at(characters + trained), HELD_OUT)
                held_bytes += self._sizes[index] * (1 - trained / length)
                number, before = number + 1, before + length
            characters += length
        return found, round(held_bytes)

    def _kept(self) -> Sequence[bool]:
        """Of each document, whether it is in a split."""
        if not self.drops_copies or not self._rows:
            return [True] * len(self._rows)
        originals = originals_of(self._lengths, self._prints)
        return (originals == np.arange(len(originals))).tolist()

    def _trained(self, lengths: "array[int]") -> Callable[[int, int, int], int]:
        """How many characters of a document are trained on.

        Asked for by its number, its number among those that are kept, and the characters of these before it.
        """
        settings = self._settings
        fractions = settings.val_fraction, settings.test_fraction
        if settings.split_by == "hash":
            return lambda index, number, before: 0 if self._by_hash[index] else self._lengths[index]
        if settings.split_by == "document":
            documents = document_ends(lengths, *fractions)[0]
            return lambda index, number, before: self._lengths[index] if number < documents else 0
        end = character_ends(sum(lengths), *fractions)[0]
        return lambda index, number, before: min(max(end - before, 0), self._lengths[index])

    def _row_at(self, character: int) -> int:
        """The line of a character: exact where a stretch begins, in proportion within it."""
        place = bisect_right(self._mark_characters, character) - 1
        before, row = self._mark_characters[place], self._mark_rows[place]
        last = place + 1 == len(self._mark_rows)
        after = self._characters if last else self._mark_characters[place + 1]
        next_row = self._end_row if last else self._mark_rows[place + 1]
        return row + round((character - before) / (after - before) * (next_row - row))
