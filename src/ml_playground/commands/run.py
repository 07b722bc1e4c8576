"""`mlp run`: from a text on disk to a trained model that writes, or from images to one that tells them apart, in one go."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ml_playground.commands.budget import Request, check_request, former_job, planned_job, record_of, verdict
from ml_playground.commands.evaluate_images import evaluate_images
from ml_playground.commands.evaluate_images import record_of as evaluation_record
from ml_playground.commands.options import ConfigFiles, Experiment, Json, Sets, as_typed, named, naming
from ml_playground.commands.prepare import prepare_job, summary_of
from ml_playground.commands.sample import draw_from
from ml_playground.commands.train import Fresh, Resume, exit_code_of, follow_up, train_job
from ml_playground.commands.train import summary_of as training_summary_of
from ml_playground.configuration.loading import Loaded, load
from ml_playground.configuration.models import JobConfig
from ml_playground.configuration.origins import Layer
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import ConfigError, PlaygroundError, RunError
from ml_playground.core.humanise import json_text, plural
from ml_playground.core.registry import load_object
from ml_playground.core.run_folder import RunFolder, find_run, runs_folder
from ml_playground.core.run_schema import FINISHED
from ml_playground.data_pipeline.image_dataset import PreparedImages
from ml_playground.data_pipeline.manifest import Prepared
from ml_playground.data_pipeline.text_dataset import PreparedText, as_text
from ml_playground.monitoring.reader import read_run
from ml_playground.monitoring.report import write_report
from ml_playground.monitoring.report_parts import budget_of
from ml_playground.training.resume import choose_run, unfinished_run

if TYPE_CHECKING:
    from ml_playground.training.protocols import JobResult

MINUTES_OF_A_YEAR = 525_600

Minutes = Annotated[
    float | None,
    typer.Option(
        "--minutes",
        metavar="M",
        min=0,
        max=MINUTES_OF_A_YEAR,
        help="Plan the model that reaches the lowest loss in this time, and end in time.",
        show_default=False,
    ),
]


def run(
    experiment: Experiment,
    sets: Sets = None,
    files: ConfigFiles = None,
    fresh: Fresh = False,
    resume: Resume = None,
    minutes: Minutes = None,
    json_output: Json = False,
) -> None:
    """Prepare, train, sample (or, of images, evaluate) and report. Ctrl-C saves; the same command goes on where it stopped.

    With --minutes the program measures this machine and this text, plans size, context, batch, learning rate and schedule
    for the lowest loss in that time, says what it expects, and ends in time.
    """
    began_s = Deps().clock.tick()
    request = None if minutes is None else Request(experiment, sets or (), files or (), minutes)
    loaded = load(experiment, sets=sets or (), files=files or ())
    if request is not None:
        check_start(request, loaded, chosen=fresh or resume is not None)
    job = loaded.job
    typed = as_typed(experiment, sets, files)
    with naming(typed):
        if request is None and not fresh:
            # Preparing may take long, and changes nothing about which run this is.
            choose_run(job, runs_folder(), named=find_run(resume) if resume is not None else None)
        _refuse_long_rows(job)
        _stage(1, "prepare", json_output=json_output)
        prepared = prepare_job(job)
        if not json_output:
            typer.echo(named(summary_of(prepared, job, typed).rpartition("\n")[0], typed))
        if isinstance(prepared, PreparedText):
            check_prompts(job, prepared)
        _stage(2, "train", json_output=json_output)
        if request is not None:
            job = planned_job(request, as_text(prepared), began_s, fresh=fresh)
        result = train_job(job, fresh=fresh, resume=resume)
    if not json_output:
        typer.echo(_training_summary(job, result, minutes, f"mlp run {typed}"))
    with training_is_safe(job, RunFolder(result.run)):
        shown = _shown(job, prepared, result, quiet=json_output) if result.reason in FINISHED else {}
        report = write_report(RunFolder(result.run))
    if json_output:
        more: dict[str, Any] = {"run": str(result.run), "samples": [], **shown, "report": str(report)}
        typer.echo(json_text(asdict(result) | more | {"budget": record_of(job, result.metrics.get("loss"))}))
    else:
        typer.echo(f"report: {report}")
    if (code := exit_code_of(result)) != 0:
        raise typer.Exit(code)


def _refuse_long_rows(job: JobConfig) -> None:
    """Before minutes of preparing, what building the model would refuse after them.

    Raises:
        ConfigError: Rows are longer than the model reads.
    """
    most, tokens = job.model.most_tokens, getattr(job.data, "sequence_tokens", 0)
    if most is not None and tokens > most:
        raise ConfigError(
            f"data.sequence_tokens = {tokens} is longer than what the model reads at once, {most}; "
            f"use data.sequence_tokens = {most} or less."
        )


@contextmanager
def training_is_safe(job: JobConfig, run: RunFolder) -> Generator[None]:
    """Who interrupts what comes after the training reads that it is not lost, and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(
            f"\nThe training is saved: {run.path}. To go on: {follow_up(job, run)}, or the same command.", err=True
        )
        raise


def _shown(job: JobConfig, prepared: Prepared, result: "JobResult", *, quiet: bool) -> dict[str, Any]:
    """What the trained model does, as JSON values: texts, or how well it tells images apart."""
    _stage(3, "evaluate" if isinstance(prepared, PreparedImages) else "sample", json_output=quiet)
    try:
        if isinstance(prepared, PreparedImages):
            shown = {"evaluation": _evaluation_of(prepared, result, quiet=quiet)}
        else:
            shown = {"samples": _texts_of(job, result, quiet=quiet)}
    except PlaygroundError:
        # Hours of training may lie behind this; what can be seen of them without the rest is shown.
        typer.echo(f"report: {write_report(RunFolder(result.run))}", err=True)
        raise
    _stage(4, "report", json_output=quiet)
    return shown


def _training_summary(job: JobConfig, result: "JobResult", minutes: float | None, command: str) -> str:
    """What `mlp train` would say; of a budget that ran out that its time was used, and how good the forecast was."""
    summary = training_summary_of(result, job, command if minutes is None else f"{command} --minutes {minutes:g}")
    # A rule of another hook may have ended the run long before.
    if minutes is None or budget_of(read_run(RunFolder(result.run)).events).get("used") is not True:
        return summary
    lines = (
        summary.replace("stopped early", f"used its {plural(minutes, 'minute')}", 1),
        verdict(job, result.metrics.get("loss")),
    )
    return "\n".join(filter(None, lines))


def check_start(request: Request, asked: Loaded, *, chosen: bool = False) -> None:
    """Refuse before the planning what cannot be planned, and what no plan could be trained beside.

    Args:
        request: What was typed.
        asked: The job without a plan.
        chosen: Whether its user said which run it is to be, a new one or one by its name.

    Raises:
        ConfigError: It cannot be planned; says why.
        RunError: An unfinished run of the experiment was begun by another command.
    """
    fixed = check_request(request, asked)
    run = None if chosen else unfinished_run(asked.job.name, runs_folder())
    if run is not None and former_job(request, fixed) is None:
        typed = as_typed(request.experiment, request.sets, request.files)
        raise RunError(
            f"The run {run.id} is unfinished, and was started with other settings. "
            f"To begin a new one beside it: mlp run {typed} {request.layer} --fresh"
        )


def check_prompts(job: JobConfig, prepared: PreparedText) -> None:
    """Refuse before the training what would stop the sampling after it.

    Raises:
        ConfigError: A prompt cannot be read, or the tokenizer knows no character of it.
        DataError: The tokenizer cannot be read.
    """
    from ml_playground.sampling.preview import LOAD_TOKENIZER  # noqa: PLC0415 - torch takes seconds; preparing comes first
    from ml_playground.sampling.prompts import encode_prompt  # noqa: PLC0415

    tokenizer = load_object(LOAD_TOKENIZER)(prepared.tokenizer_folder)
    for prompt in job.sample.prompts:
        encode_prompt(prompt, tokenizer, None)


def _texts_of(job: JobConfig, result: "JobResult", *, quiet: bool) -> list[str]:
    """Drawn as this command's own `[sample]` says, which may differ from what the run recorded when it began."""
    from ml_playground.sampling.runner import load_run  # noqa: PLC0415 - as in `check_prompts`

    layer = Layer("this command", {"sample": job.sample.model_dump(mode="json")}, Path.cwd())
    return [text.prompt + text.text for text in draw_from(load_run(result.run, layers=[layer]), quiet=quiet)]


def _evaluation_of(prepared: PreparedImages, result: "JobResult", *, quiet: bool) -> dict[str, Any]:
    """On the images that nothing was decided by: those of the test, if there are some."""
    split = "test" if "test" in prepared.manifest.splits else "val"
    return evaluation_record(
        evaluate_images(result.run, split, which="best", layers=(), json_output=False, quiet=quiet)
    )


def _stage(number: int, name: str, *, json_output: bool) -> None:
    """A heading between the stages, where people read."""
    if not json_output:
        typer.secho(f"\n[{number}/4] {name}", bold=True, err=True)
