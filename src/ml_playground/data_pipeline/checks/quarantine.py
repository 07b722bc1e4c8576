"""The bad rows away from the good ones: a second pass that writes each where it belongs, whole files or none; inputs stay as they are."""

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain, groupby
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ml_playground.core.atomic import file as whole_file
from ml_playground.core.error_handling import DataError
from ml_playground.data_pipeline.checks.checking_rows import RowCheck
from ml_playground.data_pipeline.checks.checking_texts import Progress, TextCheck, numbered, watched
from ml_playground.data_pipeline.checks.findings import Fault
from ml_playground.data_pipeline.checks.fingerprints import FingerprintTable
from ml_playground.data_pipeline.checks.inputs import Input
from ml_playground.data_pipeline.checks.marks import RowMarks
from ml_playground.data_pipeline.checks.row_scan import scan_row
from ml_playground.data_pipeline.checks.table import CHECKS
from ml_playground.data_pipeline.checks.text_scan import TextFault
from ml_playground.data_pipeline.sources.jsonl_rows import Line, lines

BAD = frozenset({"error", "warning"})


class Separated(NamedTuple):
    """What was written."""

    bad: int
    """Rows or lines with errors or warnings."""
    good: int
    """Rows of the clean file; 0 where none was asked for, or only blank ones were left, for which there is no file."""


def separate_rows(
    files: Iterable[Input],
    check: RowCheck,
    marks: RowMarks,
    quarantine: Path | None,
    clean: Path | None,
    progress: Progress = lambda done: None,
) -> Separated:
    """Write the rows of the training files with an error or a warning to one file, and the others to another one.

    Each line of the quarantine is an object: file, line, offset, codes, reason, and the row as it was: `row`, or `row_base64` where it
    is no UTF-8. Rows of `clean` are byte for byte those of the input, each with a line feed; where all of them are blank there is no file.

    Raises:
        DataError: The input is not what was checked.
        StorageError: Something could not be written; neither file is there then.
    """
    row = bad = good = size_bytes = 0
    something_left, marked = False, marks.reader()
    with ExitStack() as stack:
        away = stack.enter_context(whole_file(quarantine)) if quarantine is not None else None
        kept = stack.enter_context(whole_file(clean)) if clean is not None else None
        for file in watched(files, progress):
            for line in lines(file.blocks()):
                if row == check.report.rows:
                    raise _changed(file.name)
                found = [*check.faults(scan_row(line, check.reader)), *map(Fault, marked.codes(row))]
                faults = [fault for fault in found if CHECKS[fault.code].severity in BAD]
                row += 1
                size_bytes += line.size_bytes + line.ended
                if file.held_out:
                    continue
                if faults:
                    if away is not None:
                        _write(away, {**_place(file.name, line.number, line.offset), **_why(faults), **_row(line)})
                    bad += 1
                elif kept is not None:
                    kept.write(line.raw + b"\n")
                    good += 1
                    something_left = something_left or bool(line.raw.strip())
        if (row, size_bytes) != (check.report.rows, check.report.size_bytes):
            raise _changed("The input")
    if clean is not None and not something_left:
        clean.unlink()
        return Separated(bad, 0)
    return Separated(bad, good)


def separate_lines(documents: Iterable[Input], check: TextCheck, quarantine: Path, progress: Progress) -> Separated:
    """Write the lines of texts with an error or a warning to a file, and the names of documents that are wrong as a whole.

    Entries are those of `separate_rows`; a document's has no row.

    Raises:
        StorageError: It could not be written; there is no such file then.
    """
    bad = 0
    with whole_file(quarantine) as away, FingerprintTable() as prints, FingerprintTable() as paragraphs:
        for document, seen, found in numbered(watched(documents, progress), prints, paragraphs):
            faults = (fault for fault in found if CHECKS[fault.fault.code].severity in BAD)
            for entry in _line_entries(document.name, faults):
                _write(away, entry)
                bad += 1
            if seen.first_row in check.copies:
                _write(away, {**_place(document.name, 1, 0), **_why([Fault("duplicate_document")]), "row": None})
                bad += 1
    return Separated(bad, 0)


def _line_entries(name: str, faults: Iterable[TextFault]) -> Iterator[Mapping[str, Any]]:
    """One entry for each line with faults; one for each fault of more than a line."""
    by_line = groupby(faults, key=lambda found: (found.line, CHECKS[found.fault.code].unit == "line" and found.passage))
    for (line, passage), group in by_line:
        first = next(group)
        # Each code and note once: a file without a line end is one line, and each of its stretches may have the same fault.
        same = dict.fromkeys(found.fault._replace(start=0, end=0) for found in chain([first], group))
        why = _why(list(same))
        if not passage:
            yield {**_place(name, line, first.offset), **why, "row": None}
            continue
        start = passage.rfind(b"\n", 0, first.fault.start) + 1
        end = passage.find(b"\n", first.fault.start)
        row = passage[start : len(passage) if end < 0 else end]
        offset = first.offset - (first.fault.start - start)
        yield {**_place(name, line, offset), **why, **_text(row)}


def _place(file: str, line: int, offset: int) -> Mapping[str, Any]:
    return {"file": file, "line": line, "offset": offset}


def _why(faults: Sequence[Fault]) -> Mapping[str, Any]:
    codes = list(dict.fromkeys(fault.code for fault in faults))
    notes = (f"{CHECKS[fault.code].title}{f': {fault.note}' if fault.note else ''}" for fault in faults)
    return {"codes": codes, "reason": "; ".join(dict.fromkeys(notes))}


def _row(line: Line) -> Mapping[str, Any]:
    return _text(line.raw) if line.size_bytes == len(line.raw) else {"row": None}


def _text(raw: bytes) -> Mapping[str, Any]:
    try:
        return {"row": raw.decode()}
    except UnicodeDecodeError:
        return {"row": None, "row_base64": base64.b64encode(raw).decode()}


def _write(stream: BinaryIO, entry: Mapping[str, Any]) -> None:
    # Half a surrogate pair, from the name of a file, becomes the escape that JSON has for it.
    stream.write(json.dumps(entry, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")


def _changed(what: str) -> DataError:
    return DataError(
        f"{what} changed while it was checked; nothing was written. Run the command again when it stands still."
    )
