"""What a check of data found, in words for a person."""

from collections.abc import Iterator
from pathlib import Path

import typer

from ml_playground.core.humanise import count, plural, printable
from ml_playground.data_pipeline.checks.quarantine import Separated
from ml_playground.data_pipeline.checks.report import Finding, Report

COLOURS = {"error": "red", "warning": "yellow", "info": "blue"}


def lines(
    report: Report, typed: str, separated: Separated | None, quarantine: Path | None, clean: Path | None
) -> Iterator[str]:
    """The report for a person: a block a finding, then what it comes to and what to type next."""
    for finding in report.findings:
        yield from _block(finding)
        yield ""
    what = "row" if report.kind == "chat" else "line"
    yield f"{plural(report.rows, what)} in {plural(report.documents, 'file' if what == 'row' else 'document')}, {count(report.size_bytes)}B"
    if report.kind == "chat" and report.facts["median_characters"]:
        median, share = report.facts["median_characters"], report.facts["answer_share"]
        yield f"half of the rows have {median:,.0f} characters at most; {share:.0%} of all are answers"
    kinds = [plural(report.count(severity), severity) for severity in ("error", "warning", "info")]
    yield f"found: {', '.join(kinds)}" if report.findings else "found: nothing"
    if separated is not None and quarantine is not None:
        entries = plural(separated.bad, "entry", "entries")
        yield printable(f"quarantine: {entries} in {quarantine}, each with its reason")
    if separated is not None and clean is not None:
        yield _clean_line(separated.good, clean)
    if separated is None and any(
        (one.check.severity, one.check.unit) == ("error", what) and one.count >= report.rows for one in report.findings
    ):
        yield f"next: mend what is named first; every {what} has it, so that nothing would be left to go on with"
    elif separated is None and (report.count("error") or report.count("warning")):
        more = " --clean GOOD.jsonl" if report.kind == "chat" else ""
        yield printable(f"next: mlp data check {typed} --quarantine BAD.jsonl{more}")


def _clean_line(rows: int, clean: Path) -> str:
    if not rows:
        return printable(f"clean: nothing is left, so {clean} was not written; mend the rows that are named above")
    return printable(f"clean: {plural(rows, 'row')} in {clean}; go on with that file")


def _block(finding: Finding) -> Iterator[str]:
    check = finding.check
    level = typer.style(f"{check.severity:<8}", fg=COLOURS[check.severity])
    note = f" ({finding.note})" if finding.note else ""
    which = "which" if finding.count == 1 else "each of which"
    yield f"{level}{finding.code}: {plural(finding.count, check.unit)}, {which} {check.title}{note}"
    yield f"{'':8}{check.effect} {check.remedy}"
    for example in finding.examples:
        words = f"  {example.note}" if example.note else ""
        yield printable(f"{'':8}{example.place.file}:{example.place.line}{words}")
        if example.excerpt:
            yield f"{'':10}| {example.excerpt}"
