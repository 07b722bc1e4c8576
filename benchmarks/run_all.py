"""All benchmarks in turn: their tables, one JSON of them all, and which promises are kept.

`make bench` takes about half an hour on an idle machine, with nanoGPT, litgpt and trl beside an hour; `make bench-quick` 3 minutes.
A script that fails does not stop the others; exit code 1 then. The JSON lies under .cache/bench/ by the time it was made;
`write_docs.py` puts its tables into the docs.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tables import Row, Table, progress

from ml_playground.core.machine import probe

HERE = Path(__file__).parent
RESULTS = HERE.parent / ".cache" / "bench"

# The quickest first: whoever looks on sees something. Long ones last.
SCRIPTS = (
    "startup",
    "hook_cost",
    "checkpoint_stall",
    "prepare_speed",
    "sampling_speed",
    "time_to_loss",
    "train_speed",
    "sft_speed",
    "memory_table",
    "low_memory",
    "budget_mode",
)
LONGEST_S = 1200.0


@dataclass(frozen=True)
class Outcome:
    """What became of one script."""

    script: str
    tables: Sequence[Table]
    problem: str = ""


def run(script: str, options: argparse.Namespace, folder: Path) -> Outcome:
    """One script as a process of its own; its tables and its progress go where ours go."""
    kept = folder / f"{script}.json"
    command = [sys.executable, str(HERE / f"{script}.py"), "--json", str(kept), *(["--quick"] if options.quick else [])]
    peers = {
        "MLP_BENCH_PYTHON_LITGPT": options.litgpt,
        "MLP_BENCH_PYTHON_TRL": options.trl,
        "MLP_BENCH_NANOGPT": options.nanogpt,
    }
    environment = os.environ | {name: value for name, value in peers.items() if value}
    with subprocess.Popen(command, env=environment, start_new_session=True) as process:
        try:
            code = process.wait(LONGEST_S)
        except BaseException as error:
            # Its own children too: one that lives on would be measured with the next script.
            end(process)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            problem = f"was ended after {LONGEST_S:.0f} s"
        else:
            problem = f"ended with {code}" if code else ""
    tables = [Table.from_json(table) for table in json.loads(kept.read_text())] if kept.exists() else []
    return Outcome(script, tables, problem)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a script and everything that it started."""
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def verdicts(outcomes: Sequence[Outcome]) -> Table:
    """Every row that has a target, in one table."""
    rows = [
        Row([f"{table.name}: {row.cells[0]}", row.value], row.target, row.value)
        for outcome in outcomes
        for table in outcome.tables
        for row in table.rows
        if row.target
    ]
    problems = [f"{outcome.script} {outcome.problem}" for outcome in outcomes if outcome.problem]
    return Table("verdicts", "What was promised, and what was measured", ["what", "measured"], rows, problems=problems)


def circumstances() -> dict[str, object]:
    """What the figures hold for."""
    machine = probe()
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True, check=False
    )
    return {
        "processor": machine.processor,
        "features": list(machine.features),
        "usable_cores": machine.usable_cores,
        "memory_bytes": machine.memory_bytes,
        "load_at_start": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "torch": version("torch"),
        "commit": commit.stdout.strip(),
    }


def name_of(began: datetime, *, quick: bool, partial: bool) -> str:
    """The file of a result; only those that hold everything, fully measured, are for the documents (`write_docs.py`)."""
    return f"{began:%Y%m%dT%H%M%SZ}{'-quick' if quick else ''}{'-partial' if partial else ''}.json"


def main() -> int:
    """Run them, keep them, judge them."""
    parser = argparse.ArgumentParser(description="all benchmarks in turn")
    parser.add_argument("--quick", action="store_true", help="about 3 minutes instead of 20")
    parser.add_argument("--only", nargs="+", choices=SCRIPTS, default=SCRIPTS, help="some of them")
    parser.add_argument("--litgpt", metavar="PYTHON", help="the interpreter that has litgpt, if it is not this one")
    parser.add_argument("--trl", metavar="PYTHON", help="the interpreter that has trl, if it is not this one")
    parser.add_argument(
        "--nanogpt",
        metavar="DIR",
        help="a checkout of nanoGPT, its data prepared: what our speed and time to a loss are held against",
    )
    options = parser.parse_args()
    began = datetime.now(UTC)
    facts = circumstances()
    outcomes: list[Outcome] = []
    RESULTS.mkdir(parents=True, exist_ok=True)
    target = RESULTS / name_of(began, quick=options.quick, partial=list(options.only) != list(SCRIPTS))
    with tempfile.TemporaryDirectory() as folder:
        for number, script in enumerate(options.only, start=1):
            progress(f"{number} of {len(options.only)}: {script}")
            outcomes.append(run(script, options, Path(folder)))
            kept = {
                "created_at": began.isoformat(timespec="seconds"),
                "quick": options.quick,
                "circumstances": facts,
                "failed": {outcome.script: outcome.problem for outcome in outcomes if outcome.problem},
                "tables": [
                    *(table.as_json() for outcome in outcomes for table in outcome.tables),
                    verdicts(outcomes).as_json(),
                ],
            }
            target.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    judged = verdicts(outcomes)
    missed = [row for row in judged.rows if row.met == "no"]
    print(f"\n{judged.markdown()}\n")
    print(f"{len(judged.rows) - len(missed)} of {len(judged.rows)} promises kept. All tables: {target}")
    return 1 if judged.problems else 0


if __name__ == "__main__":
    sys.exit(main())
