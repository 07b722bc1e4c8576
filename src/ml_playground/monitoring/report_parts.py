"""The pieces of a report as HTML; every text that comes from a run goes through `text`."""

import html
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from ml_playground.core.humanise import count, duration, plural, printable
from ml_playground.core.run_schema import Event
from ml_playground.monitoring.reader import Curve, RunView, SampleText

WORDS = {
    "completed": "completed",
    "stopped_early": "stopped early",
    "paused": "paused",
    "nan": "loss is no number",
    "out_of_memory": "out of memory",
}
GOOD = frozenset({"completed", "stopped_early"})
BAD = frozenset({"failed", "nan", "out_of_memory", "interrupted"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run stands, in words and in a colour."""

    word: str
    tone: Literal["good", "bad", "plain"]
    note: str


def text(value: str) -> str:
    """A text for HTML: nothing in it is markup."""
    return html.escape(printable(value), quote=True)


def outcome_of(view: RunView) -> Outcome:
    """The state, and where it was reached."""
    tone = "good" if view.state in GOOD else "bad" if view.state in BAD else "plain"
    word = WORDS.get(view.state, view.state)
    budget = budget_of(view.events)
    if budget.get("used") is True and view.state == "stopped_early":
        word = f"used its {plural(budget['minutes'], 'minute')}"
    if view.status is None:
        return Outcome(word, tone, "nothing was written yet")
    status = view.status
    note = f"at step {status.step:,} of {status.max_steps:,}, {status.updated_at:%Y-%m-%d %H:%M} UTC"
    message = status.message or (view.result.message if view.result else "")
    if message not in ("", word):
        note += f": {message}"
    if view.unreadable_lines:
        note += f" ({plural(view.unreadable_lines, 'line')} of its files could not be read)"
    return Outcome(word, tone, note)


def budget_of(events: Sequence[Event]) -> Mapping[str, Any]:
    """What the time budget noted when the run ended; empty for a run without one."""
    notes = [event.data for event in events if event.kind == "budget" and isinstance(event.data.get("minutes"), float)]
    return notes[-1] if notes else {}


def figures(view: RunView) -> str:
    """The cards at the top."""
    return "\n".join(
        f"<div><dt>{text(name)}</dt><dd>{text(value)}{f'<small>{text(note)}</small>' if note else ''}</dd></div>"
        for name, value, note in _figures(view)
    )


def _figures(view: RunView) -> Iterator[tuple[str, str, str]]:
    """Name, value and a small note."""
    unit = view.status.unit if view.status else "token"
    loss = view.evaluation.get("loss", Curve())
    finite = [(value, step) for value, step in zip(loss.values, loss.steps, strict=True) if math.isfinite(value)]
    if finite:
        lowest, step = min(finite)
        yield "best validation loss", f"{lowest:.4f}", f"nats per {unit}, at step {step:,}"
        yield "last validation loss", f"{loss.values[-1]:.4f}", f"at step {loss.steps[-1]:,}"
        # Beyond 700 the exponential leaves the range of floats.
        if lowest < 700 and unit == "token":  # noqa: PLR2004
            yield "perplexity", f"{math.exp(lowest):.4g}", "of the best validation loss"
    budget = budget_of(view.events)
    if all(isinstance(budget.get(name), float) for name in ("expected", "low", "high", "error")):
        band = f"{budget['low']:.3f} to {budget['high']:.3f}"
        yield "forecast", f"{budget['expected']:.3f}", f"{band}; error {budget['error']:+.3f}"
    for name, curve in view.evaluation.items():
        if name not in ("loss", "elapsed_s"):
            yield name.replace("_", " "), f"{curve.values[-1]:.4g}", f"validation, at step {curve.steps[-1]:,}"
    train = view.train.get("loss")
    if train is not None:
        yield "last training loss", f"{train.values[-1]:.4f}", f"at step {train.steps[-1]:,}"
    if view.status is not None:
        yield f"{unit}s trained on", count(view.status.targets), f"{view.status.epoch:.2f} epochs"
        yield "time", duration(view.status.elapsed_s), "over all starts"
    speed = view.train.get("targets_per_s")
    if speed is not None:
        yield f"{unit}s per second", count(sorted(speed.values)[len(speed.values) // 2]), "median, training alone"
    yield from _troubles(view.events)
    parameters = next((event.data["parameters"] for event in view.events if "parameters" in event.data), None)
    if parameters is not None:
        yield "parameters", str(parameters), ""


def _troubles(events: Sequence[Event]) -> Iterator[tuple[str, str, str]]:
    """Steps that went wrong, each once however often the run was resumed; name, value and a small note."""
    undone = {str(event.data.get("batches")): event.step for event in events if event.kind == "rolled_back"}
    if undone:
        yield "steps undone", f"{len(undone):,}", f"{_steps(undone.values())}; their texts and numbers: bad_batches/"
    skipped = {event.step for event in events if event.kind == "skipped"}
    if skipped:
        yield "steps skipped", f"{len(skipped):,}", _steps(skipped)
    splits = [event for event in events if event.kind == "split" and event.data.get("phase") == "training"]
    if splits:
        yield (
            "parts of a micro-batch",
            str(splits[-1].data.get("parts")),
            f"since memory ran out at step {splits[-1].step:,}",
        )


def _steps(steps: Collection[int], limit: int = 5) -> str:
    """The first few steps, and how many more there are."""
    listed = ", ".join(f"{step:,}" for step in sorted(steps)[:limit])
    more = f" and {len(steps) - limit} more" if len(steps) > limit else ""
    return f"step{'s' if len(steps) > 1 else ''} {listed}{more}"


def chart_cards(charts: Sequence[Mapping[str, Any]]) -> str:
    """A card for each chart, which the script fills."""
    if not charts:
        return '<section><h2>Curves</h2><p class="quiet">No step was recorded yet.</p></section>'
    cards = "\n".join(
        f'<div class="card{" wide" if chart["wide"] else ""}" id="{text(chart["id"])}"><div class="chart-head">'
        f"<h3>{text(chart['title'])}</h3>"
        + ('<label><input type="checkbox"> logarithmic</label>' if chart["wide"] else "")
        + '</div><div class="plot"></div></div>'
        for chart in charts
    )
    hint = '<p class="quiet">Drag across a chart to zoom, double-click to zoom out; click a name to hide its curve.</p>'
    return f'<section><h2>Curves</h2><div class="charts">\n{cards}\n</div>{hint}</section>'


def sample_section(live: int, final: Mapping[str, Sequence[SampleText]]) -> str:
    """Samples over time, moved through with a slider, and those that were drawn afterwards."""
    parts: list[str] = []
    if live:
        parts.append(
            '<section><h2>Samples while it learned</h2><div class="slider">'
            f'<input type="range" id="sample" min="0" max="{live - 1}" value="{live - 1}" aria-label="Which sample">'
            '<output id="sample-step"></output></div><pre id="sample-text"></pre></section>'
        )
    newest = max(final, default="")
    for name, samples in final.items():
        blocks = "\n".join(f"<pre><b>{text(sample.prompt)}</b>{text(sample.text)}</pre>" for sample in samples)
        unfolded = " open" if name == newest else ""
        parts.append(
            f"<section><details{unfolded}><summary><h2>{text(name)}</h2></summary>{blocks}</details></section>"
        )
    return "\n".join(parts)


TEXT_ROWS = (
    ("documents", "ledger", "documents"),
    ("characters", "ledger", "characters"),
    ("tokens", "epoch", "tokens"),
    ("trained in an epoch", "epoch", "trained"),
    ("read, never a target", "epoch", "masked"),
    ("cut off", "epoch", "truncated"),
    ("left out", "epoch", "dropped"),
    ("padding beside them", "epoch", "padding"),
    ("unknown to the tokenizer", "ledger", "unknown_tokens"),
)
"""Line of the table, and where its number stands in the books."""


def text_section(environment: Mapping[str, Any]) -> str:
    """Where the text went, as the trainer wrote it down; nothing for a run that did not."""
    books = table_at(environment, "data")
    columns = {
        split: {"ledger": counts, "epoch": table_at(books, "epoch", split)}
        for split, counts in table_at(books, "ledger", "splits").items()
    }
    if not columns:
        return ""
    heads = "".join(f'<th class="number">{text(split)}</th>' for split in columns)
    rows = "\n".join(
        f"<tr><th>{name}</th>"
        + "".join(f'<td class="number">{number_text(table_at(part, book).get(key))}</td>' for part in columns.values())
        + "</tr>"
        for name, book, key in TEXT_ROWS
    )
    fraction = books.get("lost_fraction")
    lost = ""
    if isinstance(fraction, (int, float)) and 0 <= fraction <= 1:
        lost = f"Lost unasked: {100 * fraction:.2g} % of the text. "
    copies = number_text(table_at(books, "ledger", "losses", "copies").get("documents"))
    dropped = " (dropped)" if table_at(books, "ledger", "dropped") else ""
    return (
        f'<section><h2>Text</h2><div class="scroll"><table><thead><tr><th></th>{heads}</tr></thead><tbody>\n{rows}\n'
        f'</tbody></table></div><p class="quiet">{lost}Copies of earlier documents: {copies}{dropped}.</p></section>'
    )


def table_at(value: Any, *path: str) -> Mapping[str, Any]:
    """The table at a path of JSON values; an empty one where there is none."""
    for name in path:
        value = cast(Mapping[str, Any], value).get(name) if isinstance(value, Mapping) else None
    return cast(Mapping[str, Any], value) if isinstance(value, Mapping) else {}


def number_text(value: Any) -> str:
    """A whole number with its thousands apart; a dash for anything else."""
    return f"{value:,}" if isinstance(value, int) else "-"


def setting_rows(settings: Mapping[str, Any]) -> str:
    """A row for each value, by its dotted path."""
    rows = [f"<tr><th>{text(path)}</th><td>{text(value)}</td></tr>" for path, value in flattened(settings)]
    return "\n".join(rows) or '<tr><td class="quiet">none recorded</td></tr>'


def flattened(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted path and value of every leaf, as JSON but for plain texts."""
    for name, value in settings.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            yield from flattened(cast(Mapping[str, Any], value), f"{path}.")
        else:
            yield path, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def event_rows(events: Sequence[Event]) -> str:
    """A row for each event, oldest first."""
    rows = [
        f"<tr><td>{event.time:%Y-%m-%d %H:%M:%S}</td><td>{event.step:,}</td><td>{text(event.kind)}</td>"
        f"<td>{text(', '.join(f'{name} {value}' for name, value in flattened(event.data)))}</td></tr>"
        for event in events
    ]
    return "\n".join(rows) or '<tr><td class="quiet" colspan="4">none recorded</td></tr>'
