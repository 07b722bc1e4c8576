"""`report.html`: one file about a run that opens anywhere, without a network, and is nice to look at."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

from ml_playground.core.atomic import write_file
from ml_playground.core.humanise import printable
from ml_playground.core.run_folder import RunFolder
from ml_playground.monitoring.curves import smoothed, thinned
from ml_playground.monitoring.reader import Curve, RunView, SampleText, read_run
from ml_playground.monitoring.report_images import data_section, evaluation_sections, read_evaluations
from ml_playground.monitoring.report_parts import (
    chart_cards,
    event_rows,
    figures,
    outcome_of,
    sample_section,
    setting_rows,
    text,
)
from ml_playground.monitoring.report_quality import quality_section

ASSETS = Path(__file__).parent / "assets"
UPLOT = Path(__file__).parent / "vendor" / "uplot"

LIVE_SAMPLES = 300
"""Samples over time that a report holds; of more, evenly chosen ones with the first and the last."""
SMOOTHING_STEPS = 5
"""Least steps to either side over which the smoothed loss averages."""
SMOOTHING_SHARE = 0.01
"""Share of a run, to either side of a step, over which the smoothed loss averages."""


def write_report(run: RunFolder) -> Path:
    """Write the report of a run as it stands.

    Raises:
        RunError: A file of the run cannot be read; names it.
        StorageError: The report cannot be written.
    """
    write_file(run.report, report_of(read_run(run)))
    return run.report


def report_of(view: RunView) -> str:
    """The page. Texts are escaped where they become HTML; what scripts read is JSON that cannot end its element."""
    charts = charts_of(view)
    live = _evenly(view.live_samples, LIVE_SAMPLES)
    outcome = outcome_of(view)
    data = {"charts": charts, "samples": [_sample(sample) for sample in live]}
    return Template((ASSETS / "report.html").read_text(encoding="utf-8")).substitute(
        title=text(f"{view.run.id}: {outcome.word}"),
        experiment=text(view.run.path.parent.name),
        run_id=text(view.run.path.name),
        tone=outcome.tone,
        outcome=text(outcome.word),
        outcome_note=text(outcome.note),
        figures=figures(view),
        curves_section=chart_cards(charts),
        samples_section=f"{evaluation_sections(read_evaluations(view.run))}\n{sample_section(len(live), view.final_samples)}"
        f"{quality_section(view.run)}",
        text_section=data_section(view.environment),
        config_rows=setting_rows(view.config),
        environment_rows=setting_rows({name: value for name, value in view.environment.items() if name != "data"}),
        event_rows=event_rows(view.events),
        data=inline_json(data),
        css=(ASSETS / "report.css").read_text(encoding="utf-8"),
        js=(ASSETS / "report.js").read_text(encoding="utf-8"),
        uplot_css=(UPLOT / "uPlot.min.css").read_text(encoding="utf-8"),
        uplot_js=(UPLOT / "uPlot.iife.min.js").read_text(encoding="utf-8"),
        uplot_version=json.loads((UPLOT / "vendor.json").read_text(encoding="utf-8"))["version"],
    )


def charts_of(view: RunView) -> list[dict[str, Any]]:
    """What is drawn: each chart with at least one point, its curves thinned."""
    unit = view.status.unit if view.status else "token"
    loss = view.train.get("loss", Curve())
    charts = [
        _chart(
            "loss",
            f"Loss, nats per {unit}",
            _drawn("training", loss, "--raw"),
            _drawn(
                "training, smoothed", smoothed(loss, max(SMOOTHING_STEPS, len(loss.steps) * SMOOTHING_SHARE)), "--loss"
            ),
            _drawn("validation", view.evaluation.get("loss", Curve()), "--validation", points=True),
        ),
        _chart(
            "accuracy",
            f"Accuracy, share of validation {unit}s",
            _drawn("accuracy", view.evaluation.get("accuracy", Curve()), "--validation", points=True),
        ),
        _chart("lr", "Learning rate", _drawn("learning rate", view.train.get("lr", Curve()), "--other")),
        _chart(
            "grad-norm",
            "Gradient norm, before clipping",
            _drawn("gradient norm", view.train.get("grad_norm", Curve()), "--other"),
        ),
        _chart(
            "speed",
            f"Speed, {unit}s per second",
            _drawn(f"{unit}s/s", view.train.get("targets_per_s", Curve()), "--other"),
        ),
    ]
    return [chart for chart in charts if chart["curves"]]


def inline_json(value: Any) -> str:
    """JSON for a script element: no `<`, `>` or `&`, so that no text in it can end the element or begin another."""
    dumped = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return dumped.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _chart(name: str, title: str, *curves: dict[str, Any]) -> dict[str, Any]:
    shown = [curve for curve in curves if curve["steps"]]
    return {"id": f"chart-{name}", "title": title, "wide": name == "loss", "curves": shown}


def _drawn(name: str, curve: Curve, color: str, *, points: bool = False) -> dict[str, Any]:
    thin = thinned(_one_value_a_step(curve))
    # Six figures are more than a screen can show; what is no number becomes a gap.
    values = [float(f"{value:.6g}") if math.isfinite(value) else None for value in thin.values]
    return {"name": name, "color": color, "points": points, "steps": thin.steps, "values": values}


def _one_value_a_step(curve: Curve) -> Curve:
    """In the order of the steps, the last value of each: what the plotting library needs of its columns."""
    newest = dict(zip(curve.steps, curve.values, strict=True))
    return Curve(sorted(newest), [newest[step] for step in sorted(newest)])


def _sample(sample: SampleText) -> dict[str, Any]:
    return {"step": sample.step or 0, "prompt": printable(sample.prompt), "text": printable(sample.text)}


def _evenly(samples: Sequence[SampleText], limit: int) -> list[SampleText]:
    if len(samples) <= limit:
        return list(samples)
    return [samples[number * (len(samples) - 1) // (limit - 1)] for number in range(limit)]
