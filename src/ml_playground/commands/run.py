"""`mlp run`: from a text on disk to a trained model that writes, in one go."""

import json
from dataclasses import asdict

import typer

from ml_playground.commands.options import ConfigFiles, Experiment, Json, Sets
from ml_playground.commands.prepare import prepare_job, summary_of
from ml_playground.commands.sample import draw_from
from ml_playground.commands.train import FINISHED, Fresh, Resume, exit_code_of, train_job
from ml_playground.commands.train import summary_of as training_summary_of
from ml_playground.configuration.loading import load
from ml_playground.core.run_folder import RunFolder
from ml_playground.monitoring.report import write_report


def run(
    experiment: Experiment,
    sets: Sets = None,
    files: ConfigFiles = None,
    fresh: Fresh = False,
    resume: Resume = None,
    json_output: Json = False,
) -> None:
    """Prepare, train, sample and report. Ctrl-C saves; the same command goes on where it stopped."""
    job = load(experiment, sets=sets or (), files=files or ()).job
    _stage(1, "prepare", json_output=json_output)
    prepared = prepare_job(job)
    if not json_output:
        typer.echo(summary_of(prepared, job.name).rpartition("\n")[0])
    _stage(2, "train", json_output=json_output)
    result = train_job(job, fresh=fresh, resume=resume)
    if not json_output:
        typer.echo(training_summary_of(result))
    texts: list[str] = []
    if result.reason in FINISHED:
        from ml_playground.sampling.runner import load_run  # noqa: PLC0415 - torch takes seconds; preparing comes first

        _stage(3, "sample", json_output=json_output)
        drawn = draw_from(load_run(result.run), quiet=json_output)
        texts = [text.prompt + text.text for text in drawn]
        _stage(4, "report", json_output=json_output)
    report = write_report(RunFolder(result.run))
    if json_output:
        typer.echo(json.dumps(asdict(result) | {"run": str(result.run), "samples": texts, "report": str(report)}))
    else:
        typer.echo(f"report: {report}")
    if (code := exit_code_of(result)) != 0:
        raise typer.Exit(code)


def _stage(number: int, name: str, *, json_output: bool) -> None:
    """A heading between the stages, where people read."""
    if not json_output:
        typer.secho(f"\n[{number}/4] {name}", bold=True, err=True)
