"""Trains the job that a run folder holds, in a process of its own: `python -m ml_playground.commands.train_folder FOLDER`.

What `mlp train` does, for programs: the job is taken as it was recorded, and nothing is laid over it.
"""

import sys
from pathlib import Path

from ml_playground.commands.train import exit_code_of, train_job
from ml_playground.core.error_handling import PlaygroundError
from ml_playground.core.run_folder import RunFolder
from ml_playground.training.resume import read_job

MENDABLE = 2


def main(folder: Path) -> int:
    """Train, or go on; the exit code is that of `mlp train`."""
    try:
        return exit_code_of(train_job(read_job(RunFolder(folder)), resume=str(folder)))
    except PlaygroundError as error:
        sys.stderr.write(f"error: {error}\n")
        return MENDABLE


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
