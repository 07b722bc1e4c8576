"""Wall time of `mlp --help` and of others that must answer at once: medians of whole processes."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

MLP = Path(sys.executable).with_name("mlp")
COMMANDS = [["--help"], ["runs"], ["experiments"], ["config", "show", "python_stdlib"]]


def main() -> None:
    """Seven runs each, the first not counted."""
    print("| command | seconds |")
    print("|---|---|")
    for command in COMMANDS:
        seconds = []
        for _ in range(8):
            began = time.perf_counter()
            subprocess.run([MLP, *command], check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - began)
        print(f"| mlp {' '.join(command)} | {statistics.median(seconds[1:]):.3f} |")


main()
