"""Wall time of `mlp --help` and of others that must answer at once, and of `mlp train` to its first step: medians of whole processes."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from our_training import job_of, random_text
from shapes import TINY
from tables import Row, Table, command_line, progress, publish

from ml_playground.core.run_folder import RunFolder

MLP = Path(sys.executable).with_name("mlp")
COMMANDS = [["--help"], ["runs"], ["experiments"], ["config", "show", "python_stdlib"]]
# As many as make the flight check try its trial; a shorter run is its own.
STEPS = 30


def tables(options: argparse.Namespace) -> Iterator[Table]:
    """Seven runs each (three when quick), the first not counted."""
    rounds = 3 if options.quick else 7
    rows = []
    for command in COMMANDS:
        progress(f"mlp {' '.join(command)}")
        seconds = [seconds_of(command) for _ in range(rounds + 1)]
        median_s = statistics.median(seconds[1:])
        target = "mlp --help" if command == ["--help"] else ""
        rows.append(Row([f"mlp {' '.join(command)}", median_s], target, median_s))
    progress("mlp train, to its first step")
    first, *later = first_steps(rounds)
    median_s = statistics.median(later)
    rows.append(Row(["mlp train (tiny), to its first step", median_s], "first step from process start", median_s))
    rows.append(Row(["the same, the machine never measured before", first]))
    notes = [f"Median of {rounds} processes after one that is not counted; the last row is that one alone."]
    yield Table("startup", "Seconds from process start", ["command", "seconds"], rows, notes)


def seconds_of(command: list[str]) -> float:
    """Wall time of a whole process."""
    began_s = time.perf_counter()
    subprocess.run([MLP, *command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began_s


def first_steps(rounds: int) -> list[float]:
    """Seconds from process start to the end of the first step, its numbers read, of one run after the other in a new home.

    The moment is that of the event `started` plus the elapsed time that the row of step 1 states.
    """
    with tempfile.TemporaryDirectory() as home:
        text, config = Path(home) / "text.txt", Path(home) / "job.json"
        random_text(TINY.vocabulary, text)
        sets = ["train.log_every_steps=1", 'hooks={console={kind="console"}, metrics={kind="jsonl_metrics"}}']
        config.write_text(job_of(TINY, text, steps=STEPS, sets=sets).model_dump_json(), encoding="utf-8")
        environment = os.environ | {"MLP_HOME": home}
        words = ["python_stdlib", "--config", str(config)]
        subprocess.run([MLP, "prepare", *words], check=True, env=environment, capture_output=True)
        return [first_step(words, environment) for _ in range(rounds + 1)]


def first_step(words: list[str], environment: dict[str, str]) -> float:
    """One of them."""
    began_s = time.time()
    reply = subprocess.run(
        [MLP, "train", *words, "--fresh", "--json"], check=True, env=environment, capture_output=True, text=True
    )
    run = RunFolder(Path(json.loads(reply.stdout)["run"]))
    events = [json.loads(line) for line in run.events.read_text().splitlines()]
    started = next(event["time"] for event in events if event["kind"] == "started")
    rows = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    elapsed_s = next(row["timing"]["elapsed_s"] for row in rows if row["kind"] == "train" and row["step"] == 1)
    return datetime.fromisoformat(started).timestamp() - began_s + elapsed_s


if __name__ == "__main__":
    publish(tables, command_line(__doc__))
