"""Wall time of `mlp --help` and of others that must answer at once: medians of whole processes."""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tables import Row, Table, command_line, progress, publish

MLP = Path(sys.executable).with_name("mlp")
COMMANDS = [["--help"], ["runs"], ["experiments"], ["config", "show", "python_stdlib"]]


def tables(options: argparse.Namespace) -> Iterator[Table]:
    """Seven runs each (three when quick), the first not counted."""
    rows = []
    for command in COMMANDS:
        progress(f"mlp {' '.join(command)}")
        seconds = []
        for _ in range(4 if options.quick else 8):
            began = time.perf_counter()
            subprocess.run([MLP, *command], check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - began)
        median_s = statistics.median(seconds[1:])
        target = "mlp --help" if command == ["--help"] else ""
        rows.append(Row([f"mlp {' '.join(command)}", median_s], target, median_s))
    yield Table("startup", "Answering at once, seconds from process start", ["command", "seconds"], rows)


if __name__ == "__main__":
    publish(tables, command_line(__doc__))
