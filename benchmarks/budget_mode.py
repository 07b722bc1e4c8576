"""`mlp run X --minutes M` against our own fixed presets at equal time, on three texts, or on some that the loss law never saw.

    python benchmarks/budget_mode.py                      # 0.75 minutes each, three texts, two presets: about 8 minutes in all
    python benchmarks/budget_mode.py --minutes 3          # as the target asks, with recipe/speed_long: 38 minutes
    python benchmarks/budget_mode.py --minutes 3 --texts packages_char topics_char     # held out
    python benchmarks/budget_mode.py --quick              # 0.75 minutes, one text, one preset

A preset gets exactly the time that the budget run trained for, by the same hook and with the same decay, which is more than it
has of itself: `--set use=recipe/speed --minutes M` keeps all that the preset says, and lets the clock end it. Every run is a whole
process, prepare, sampling and report included; its wall time is taken from outside. All losses are over the same windows: the
validation part, read with the context of each model. The promise is about three minutes, so shorter runs are not judged.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from budget_texts import Text, texts
from tables import Row, Table, command_line, progress, publish

PRESETS = {"recipe/speed": 0.5, "recipe/modern": 0.5, "recipe/speed_long": 1.5}
"""Our recipes, and the minutes below which each has no chance: 900 steps of speed_long take as long as nanoGPT's."""
TEXTS = ("shakespeare_char", "stdlib_bpe", "docstrings_char")
TARGET, TARGET_MINUTES = "budget against our best preset", 3.0
SHORT_MINUTES = 0.75
"""Of each run by default, so that all fit into a third of `make bench`."""


@dataclass(frozen=True)
class Outcome:
    """What one command came to."""

    loss: float
    wall_s: float
    steps: int
    forecast: dict[str, float]


def run(text: Text, minutes: float, home: Path, *sets: str) -> Outcome | None:
    """One command, timed from outside; None where it was refused."""
    experiment = home / text.name
    experiment.mkdir(parents=True, exist_ok=True)
    lines = [f"{item.partition('=')[0]} = {_toml(item.partition('=')[2])}" for item in text.sets if "=" in item]
    (experiment / "config.toml").write_text("\n".join(lines) + '\n[sample]\nprompts = ["the"]\n', encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "ml_playground.cli",
        "run",
        str(experiment),
        "--minutes",
        f"{minutes:g}",
        "--fresh",
        "--json",
    ]
    for item in sets:
        command += ["--set", item]
    began_s = time.monotonic()
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"MLP_HOME": str(home)}
    )
    wall_s = time.monotonic() - began_s
    if done.returncode:
        progress(f"{text.name} {sets}: {done.stderr.strip().splitlines()[-1]}")
        return None
    record: dict[str, Any] = json.loads(done.stdout)
    for line in done.stderr.splitlines():
        if line.startswith("plan: "):
            progress(f"{text.name}: {line}")
    return Outcome(record["metrics"]["loss"], wall_s, record["step"], record["budget"] or {})


def _toml(value: str) -> str:
    """A `--set` value as a file writes it: bare words are text."""
    return value if value[:1] in '{["' or value.replace(".", "").isdigit() else json.dumps(value)


def presets_for(minutes: float) -> tuple[str, ...]:
    """Those that have a chance in so short a time."""
    return tuple(name for name, least in PRESETS.items() if least <= minutes)


def margin(fixed: Sequence[float], planned: float) -> float | None:
    """How much lower the planned loss is than the best of the presets; none where no preset ran."""
    return round(min(fixed) - planned, 4) if fixed else None


def rows_of(text: Text, minutes: float, home: Path, presets: tuple[str, ...], problems: list[str]) -> Iterator[Row]:
    """The budget run, the presets, and the verdict; adds to `problems` what did not run."""
    run(text, 0.5, home)  # prepares, and fills the caches of the file system: what is timed then is the same for all
    progress(f"{text.name}: planned")
    planned = run(text, minutes, home)
    if planned is None:
        problems.append(f"{text.name}: the planned run failed")
        return
    losses: list[float] = []
    for preset in presets:
        progress(f"{text.name}: {preset}")
        fixed = run(text, minutes, home, f'use=["{preset}"]')
        if fixed is None:
            problems.append(f"{text.name}: {preset} failed")
        else:
            losses.append(fixed.loss)
            yield Row([text.name, preset, fixed.loss, None, None, fixed.steps, fixed.wall_s / 60 / minutes, None])
    forecast = planned.forecast
    band = f"{forecast['expected']:.3f} ({forecast['low']:.3f} to {forecast['high']:.3f})"
    cells = [text.name, "planned", planned.loss, band, forecast["error"], planned.steps, planned.wall_s / 60 / minutes]
    better = margin(losses, planned.loss)
    judged = not text.held_out and minutes >= TARGET_MINUTES
    yield Row([*cells, better], target=TARGET if judged else "", value=better if judged else None)


def tables(options: argparse.Namespace) -> Iterator[Table]:
    """One table over all texts."""
    minutes = options.minutes or SHORT_MINUTES
    presets, names = presets_for(minutes), TEXTS
    if options.quick:
        presets, names = presets[:1], TEXTS[:1]
    presets, names = tuple(options.presets or presets), tuple(options.texts or names)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        chosen = [text for text in texts(home / "texts") if text.name in names]
        problems: list[str] = []
        rows = [row for text in chosen for row in rows_of(text, minutes, home, presets, problems)]
    held_out = [text.name for text in chosen if text.held_out]
    missing = [name for name in names if name not in {text.name for text in chosen}]
    columns = [
        "text",
        "plan",
        "validation loss",
        "forecast",
        "error",
        "steps",
        "wall time / minutes",
        "below the best preset",
    ]
    yield Table(
        "budget_mode",
        f"`mlp run X --minutes {minutes:g}` against fixed presets at equal time",
        columns,
        rows,
        notes=[
            *(f"{name} is held out: neither the law nor its spread has seen it." for name in held_out),
            *(f"missing here: {name}" for name in missing),
        ],
        problems=problems,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=None)
    parser.add_argument("--presets", nargs="+")
    parser.add_argument("--texts", nargs="+")
    publish(tables, command_line(__doc__, parser))
