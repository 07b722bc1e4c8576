"""`mlp report`: one file about a run, to keep and to show."""

import typer

from ml_playground.commands.options import Run
from ml_playground.core.run_folder import find_run
from ml_playground.monitoring.report import write_report


def report(run: Run) -> None:
    """Write report.html of a run anew, and print its path."""
    typer.echo(write_report(find_run(run)))
