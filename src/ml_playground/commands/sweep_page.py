"""`sweep.html`: one file about a sweep that opens anywhere, without a script and without a network."""

from collections.abc import Iterator

from ml_playground.commands.sweep_record import SweepRecord, Trial
from ml_playground.core.humanise import duration, loss_text, plural, printable
from ml_playground.monitoring.plots import Axis, best_so_far, heat_map, label, parallel, scatter, text
from ml_playground.monitoring.report import ASSETS

PAIR = 2
MOST_CELLS = 12
"""Different values of a key, above which a field of colours is a scatter of dots."""

STYLE = """
svg { width: 100%; height: auto; font: 11px system-ui, sans-serif; fill: var(--quiet); }
svg .mid { text-anchor: middle; } svg .end { text-anchor: end; } svg .name { fill: var(--ink); } svg .value { fill: var(--ink); }
svg .axis { stroke: var(--quiet); fill: none; } svg .grid { stroke: var(--line); fill: none; }
svg circle { fill: var(--accent); fill-opacity: .75; } svg circle.faint { fill-opacity: .3; } svg rect { fill: var(--accent); }
svg .line, svg polyline { stroke: var(--accent); fill: none; stroke-width: 2; }
svg text { paint-order: stroke; stroke: var(--card); stroke-width: 2px; } svg .value { stroke: none; }
.wide svg { max-height: 26rem; font-size: 7px; }
"""


def page_of(record: SweepRecord) -> str:
    """The page. Texts are escaped where they become HTML."""
    style = (ASSETS / "report.css").read_text(encoding="utf-8") + STYLE
    ranked = record.ranked
    complete = [trial for trial in ranked if trial.state == "complete"]
    title = f"{record.experiment}: {plural(len(ranked), 'trial')}"
    direction = f"{'more' if record.higher else 'less'} {_safe(record.metric)}"
    cards = "\n".join(_cards(record, sorted(complete, key=lambda trial: trial.number)))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_safe(title)}</title><style>{style}</style></head><body>
<p class="kicker">sweep</p><h1>{_safe(title)}</h1>
<p><span class="badge {"good" if complete else "bad"}">{plural(len(complete), "trial")} complete</span>
<span class="quiet">{len(ranked) - len(complete)} failed; {direction} is better</span></p>
<section><h2>What matters</h2><div class="charts">
{cards or '<p class="quiet">No trial is complete yet.</p>'}
</div></section>
<section><h2>Trials, best first</h2><div class="scroll"><table>
{_table(record)}
</table></div></section>
</body></html>
"""


def _cards(record: SweepRecord, trials: list[Trial]) -> Iterator[str]:
    """Best so far, the result against each key, and all keys together."""
    if not trials:
        return
    scores = Axis(record.metric, [trial.score for trial in trials])
    numbers = Axis("trial", [trial.number for trial in trials], linear=True)
    yield _card(f"Best {record.metric} so far", best_so_far(numbers, scores, higher=record.higher))
    axes = {key: Axis(key, [trial.values[key] for trial in trials]) for key in record.keys}
    notes = [f"trial {trial.number}: {record.metric} {loss_text(trial.score or 0.0)}, {trial.run}" for trial in trials]
    for key, axis in axes.items():
        yield _card(f"{record.metric} against {key}", scatter(axis, scores, notes))
    pair = list(axes.values())
    if len(pair) == PAIR and all(len(axis.places) <= MOST_CELLS for axis in pair):
        yield _card(
            f"Best {record.metric} by both",
            heat_map(pair[0], pair[1], scores.values, record.metric, higher=record.higher),
        )
    elif len(pair) >= PAIR:
        yield _card(
            "All settings together", parallel(pair, scores.values, record.metric, higher=record.higher), " wide"
        )


def _card(title: str, chart: str, more: str = "") -> str:
    head = f'<div class="chart-head"><h3>{_safe(title)}</h3></div>'
    return f'<div class="card{more}">{head}<div class="plot">{chart}</div></div>'


def _table(record: SweepRecord) -> str:
    heads = ["trial", *record.keys, record.metric, "steps", "time", "run"]
    rows = ["<thead><tr>" + "".join(f"<th>{_safe(head)}</th>" for head in heads) + "</tr></thead><tbody>"]
    for trial in record.ranked:
        score = "failed" if trial.score is None else loss_text(trial.score)
        cells = [str(trial.number), *(label(trial.values[key]) for key in record.keys), score]
        cells += [
            "-" if trial.steps is None else f"{trial.steps:,}",
            duration(trial.seconds),
            trial.run or trial.reason,
        ]
        rows.append("<tr>" + "".join(f"<td>{_safe(cell)}</td>" for cell in cells) + "</tr>")
    return "\n".join([*rows, "</tbody>"])


def _safe(value: str) -> str:
    return text(printable(value))
