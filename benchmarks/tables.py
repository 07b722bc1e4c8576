"""What all scripts here share: a table is data, printed as markdown and kept as JSON, its rows judged by our targets.

A script is a function from its options to tables, and one line:

    def tables(options: argparse.Namespace) -> Iterator[Table]:
        quick = options.quick                       # a third of the rounds, the small shapes: under a minute
        rows = [Row(["tiny", 56_000, 20_000, 2.8], target="train tiny against nanoGPT", value=2.8)]
        yield Table("training", "Training, tokens/s", ["model", "ours", "plain loop", "ratio"], rows, notes=["2 threads"])

    if __name__ == "__main__":
        publish(tables, command_line(__doc__))

Every script takes `--quick` and `--json FILE`; one that starts itself as a child to measure adds its own options to the
parser (`command_line(__doc__, parser)`) and returns before `publish`. Numbers stay numbers in the cells: they are rounded
when they are printed, never in the JSON. `progress` says on stderr what is under way. A target is a row of `targets.py`:
name it in `Row.target`, give what is compared with it in `Row.value`, and the table gets the columns must, aim, met.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from targets import TARGETS

Cell = str | int | float | bool | None

_BEGAN_S = time.monotonic()


@dataclass(frozen=True)
class Row:
    """One line: its cells, and what of it is judged."""

    cells: Sequence[Cell]
    target: str = ""
    """A name in targets.TARGETS; empty where there is none."""
    value: float | None = None
    """The figure that is compared with the target."""

    @property
    def met(self) -> str:
        """`aim`, `must` or `no`; empty without a target or a figure."""
        if not self.target or self.value is None:
            return ""
        return TARGETS[self.target].reached(self.value)

    def as_json(self) -> dict[str, object]:
        """Cells, and the target in full."""
        if not self.target:
            return {"cells": list(self.cells)}
        target = TARGETS[self.target]
        judged = {"target": self.target, "value": self.value, "must": target.must, "aim": target.aim, "met": self.met}
        return {"cells": list(self.cells), **judged}


@dataclass(frozen=True)
class Table:
    """One table as data."""

    name: str
    """One word, unique among all scripts: the key in JSON and in the markers of the documentation."""
    title: str
    """What is measured, in what unit."""
    columns: Sequence[str]
    rows: Sequence[Row]
    notes: Sequence[str] = field(default_factory=list)
    """How it was measured; what must be known to read it."""
    problems: Sequence[str] = field(default_factory=list)
    """What could not be measured although it should have been; the script then ends with exit code 1."""

    def as_json(self) -> dict[str, object]:
        """The same, for machines."""
        rows = [row.as_json() for row in self.rows]
        kept = {"name": self.name, "title": self.title, "columns": list(self.columns)}
        return {**kept, "rows": rows, "notes": list(self.notes), "problems": list(self.problems)}

    @staticmethod
    def from_json(kept: dict) -> "Table":
        """What `as_json` gave."""
        rows = [Row(row["cells"], row.get("target", ""), row.get("value")) for row in kept["rows"]]
        return Table(kept["name"], kept["title"], kept["columns"], rows, kept["notes"], kept["problems"])

    def markdown(self) -> str:
        """Title, table, notes; three columns more where a row has a target."""
        judged = any(row.target for row in self.rows)
        columns = [*self.columns, *(("must", "aim", "met") if judged else ())]
        lines = [f"**{self.title}**", "", _line(columns), _line(["---"] * len(columns))]
        for row in self.rows:
            verdict = [*_goals(row.target), row.met] if judged else []
            lines.append(_line([*map(shown, row.cells), *verdict]))
        below = [*self.notes, *(f"Not measured: {problem}" for problem in self.problems)]
        return "\n".join([*lines, *(["", *below] if below else [])])


def shown(cell: Cell) -> str:
    """A cell as it is printed: three to four digits that mean something, thousands separated."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, str):
        return cell
    if abs(cell) >= 100:
        return f"{cell:,.0f}"
    return f"{cell:.1f}" if abs(cell) >= 20 else f"{cell:.3g}"


def _goals(target: str) -> tuple[str, str]:
    return TARGETS[target].words if target else ("", "")


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def command_line(about: str | None, parser: argparse.ArgumentParser | None = None) -> argparse.Namespace:
    """What was typed: `--quick`, `--json FILE`, and what the script's own parser adds."""
    parser = parser or argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds and only small shapes: under a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the tables there, as one JSON array")
    return parser.parse_args()


def publish(tables: Callable[[argparse.Namespace], Iterable[Table]], options: argparse.Namespace) -> None:
    """Measure, print each table as soon as it stands, and keep them all in the file that was asked for.

    The file is written anew after each table, so that a later failure does not lose the earlier ones.

    Raises:
        SystemExit: With 1, when something could not be measured.
    """
    kept = []
    failed = False
    for table in tables(options):
        print(f"\n{table.markdown()}", flush=True)
        kept.append(table.as_json())
        failed = failed or bool(table.problems)
        if options.json is not None:
            options.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    if failed:
        raise SystemExit(1)


def progress(text: str) -> None:
    """What is under way, on stderr, with the seconds since this program began."""
    print(f"[{time.monotonic() - _BEGAN_S:6.1f} s] {text}", file=sys.stderr, flush=True)
