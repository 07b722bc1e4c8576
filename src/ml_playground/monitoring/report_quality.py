"""What `mlp analyze quality` found about a run's samples, as HTML."""

from typing import Any, cast

from ml_playground.core.error_handling import RunError
from ml_playground.core.foreign_files import json_table, read_at_most
from ml_playground.core.run_folder import RunFolder
from ml_playground.monitoring.report_parts import text

MOST_BYTES = 64 << 20
"""Of the file: a list of every copied stretch is in it."""


def quality_section(run: RunFolder) -> str:
    """The lines that a reader of the terminal sees; nothing where nobody looked.

    Raises:
        RunError: The file is there and cannot be read.
    """
    if not run.quality.is_file():
        return ""
    try:
        lines: Any = json_table(read_at_most(run.quality, MOST_BYTES)).get("summary")
    except (OSError, ValueError) as error:
        raise RunError(
            f"{run.quality} cannot be read ({error}); delete it, and look again: mlp analyze quality {run.id}"
        ) from error
    if not isinstance(lines, list):
        raise RunError(f"{run.quality} has no summary; delete it, and look again: mlp analyze quality {run.id}")
    shown = "\n".join(str(line) for line in cast(list[object], lines))
    return f"<section><h2>What the samples are like</h2><pre>{text(shown)}</pre></section>"
