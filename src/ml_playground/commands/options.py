"""Options that several commands share."""

import shlex
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ml_playground.core.error_handling import PlaygroundError

if TYPE_CHECKING:
    from ml_playground.configuration.models import JobConfig


def complete_experiment(incomplete: str) -> list[str]:
    """Names of experiments that begin with what was typed."""
    from ml_playground.configuration.loading import experiment_names  # noqa: PLC0415 - only when the shell asks

    return [name for name in experiment_names() if name.startswith(incomplete)]


Experiment = Annotated[
    str,
    typer.Argument(
        metavar="EXPERIMENT",
        help="Name of an experiment, or a folder with a config.toml.",
        autocompletion=complete_experiment,
        show_default=False,
    ),
]
Run = Annotated[
    str,
    typer.Argument(
        metavar="RUN",
        help="An experiment (its newest run), EXPERIMENT/RUN-ID, the beginning of a run id, or a folder.",
        show_default=False,
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set one key, e.g. --set train.max_steps=200; may be repeated."),
]
ConfigFiles = Annotated[
    list[Path] | None,
    typer.Option("--config", metavar="FILE", help="TOML, JSON or YAML laid over the experiment; may be repeated."),
]


def as_typed(experiment: str, sets: Sequence[str] | None, files: Sequence[Path] | None) -> str:
    """An experiment with the settings that were typed, to be typed again."""
    words = [experiment]
    for file in files or ():
        words += ["--config", str(file)]
    for text in sets or ():
        words += ["--set", text]
    return shlex.join(words)


@contextmanager
def naming(typed: str) -> Generator[None]:
    """Errors of those who do not know which experiment it is name it, with what was typed for it."""
    try:
        yield
    except PlaygroundError as error:
        if (text := named(str(error), typed)) == str(error):
            raise
        raise type(error)(text) from error


def named(text: str, typed: str) -> str:
    """A text that advises to prepare or to train, with the experiment in it."""
    for command in ("prepare", "train"):
        text = text.replace(f"mlp {command} EXPERIMENT", f"mlp {command} {typed}")
    return text


def at_lower_rate(job: "JobConfig", command: str) -> str:
    """A command with a tenth of the learning rate, for a new run beside the one whose numbers gave out."""
    rates = [name for name in ("lr", "matrix_lr") if isinstance(getattr(job.optimizer, name, None), float)]
    # What was typed for a rate stands before, and the last one counts.
    lower = [f"--set optimizer.{name}={getattr(job.optimizer, name) / 10:.4g}" for name in rates]
    return " ".join([command, *lower, "--fresh"])


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
