"""`mlp verify-resume`: is a run that was killed and resumed the same, to the bit, as one that was left alone?"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ml_playground.commands.kill_and_resume import Plan, Verified, kill_and_resume
from ml_playground.commands.options import ConfigFiles, Experiment, Json, Sets, as_typed, naming
from ml_playground.commands.prepare import prepare_job
from ml_playground.configuration.loading import load
from ml_playground.core.certificate import Certificate, Equality, Kill
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.humanise import json_text, plural
from ml_playground.core.run_folder import RunFolder, find_run
from ml_playground.monitoring.comparison import Comparison, compare_runs
from ml_playground.training.verification import promise_of

FAILED = 1
USUAL = Plan(steps=10, more=10)
"""What is done where nothing else is asked for."""

Steps = Annotated[int, typer.Option("--steps", metavar="N", min=1, help="Steps before the checkpoint that is resumed.")]
More = Annotated[int, typer.Option("--more", metavar="M", min=1, help="Steps after it.")]
Kills = Annotated[int, typer.Option("--kills", metavar="K", min=1, help="How often the run is killed and resumed.")]
Anywhere = Annotated[
    bool,
    typer.Option(
        "--anywhere",
        help="Let the first kill come at any moment, the start included; of several, one comes after a checkpoint.",
    ),
]
Keep = Annotated[bool, typer.Option("--keep", help="Keep also the run that was left alone.")]
Against = Annotated[
    str | None,
    typer.Option(
        "--against",
        metavar="RUN",
        help="Train nothing: compare the run that EXPERIMENT names (RUN, as other commands take it) with this one.",
        show_default=False,
    ),
]


def verify_resume(
    experiment: Experiment,
    steps: Steps = USUAL.steps,
    more: More = USUAL.more,
    kills: Kills = USUAL.kills,
    anywhere: Anywhere = USUAL.anywhere,
    keep: Keep = USUAL.keep,
    against: Against = None,
    sets: Sets = None,
    files: ConfigFiles = None,
    json_output: Json = False,
) -> None:
    """Kill a run of this job, resume it, and prove that it ends with the same bits as one that was left alone.

    Trains N + M steps; then the same again, killed (SIGKILL) at a random moment after the checkpoint at step N, and resumed.
    Every loss, and every tensor of the last checkpoint (weights, averaged weights, optimizer), is compared bit by bit. PASS leaves
    a certificate in the folder of the resumed run; FAIL names the first step and the first tensor that differ, keeps both runs,
    and ends with exit code 1. Your own runs are not touched: these live in runs/.verify, which you may delete.
    """
    if against is not None:
        _refuse_plans(Plan(steps, more, kills, anywhere=anywhere, keep=keep), sets, files)
        one, other = _two_runs(experiment, against)
        comparison = compare_runs(one, other)
        lines = compared_lines(comparison, one, other)
        record = record_of(comparison, one, other)
    else:
        job = load(experiment, sets=sets or (), files=files or ()).job
        plan = Plan(steps, more, kills, anywhere=anywhere, keep=keep)
        with naming(as_typed(experiment, sets, files)):
            prepare_job(job)
            try:
                found = kill_and_resume(job, plan, Deps(), _quiet if json_output else _say, _show)
            finally:
                _show("")
        comparison, lines = found.comparison, verified_lines(found)
        record = record_of(comparison, found.whole, found.resumed, found.certificate)
    typer.echo(json_text(record) if json_output else "\n".join(lines))
    if not comparison.equal:
        raise typer.Exit(FAILED)


def _refuse_plans(plan: Plan, sets: Sequence[str] | None, files: Sequence[Path] | None) -> None:
    """Runs that are there have been trained and killed as they were.

    Raises:
        ConfigError: Something was asked for that only a training can do.
    """
    given = [f"--{name}" for name, value in asdict(plan).items() if value != getattr(USUAL, name)]
    given += [name for name, values in (("--set", sets), ("--config", files)) if values]
    if given:
        raise ConfigError(
            f"{' and '.join(given)} would have no effect with --against, which trains nothing; leave it out."
        )


def _two_runs(named: str, against: str) -> tuple[RunFolder, RunFolder]:
    """The runs that are compared.

    Raises:
        ConfigError: They are one.
        RunError: One of them is not there.
    """
    one, other = find_run(named), find_run(against)
    if one.path.resolve() == other.path.resolve():
        raise ConfigError(
            f"{named} and {against} both mean the run {one.id}, which equals itself whatever it holds; name two runs "
            "(mlp runs lists them)."
        )
    return one, other


def record_of(
    comparison: Comparison, one: RunFolder, other: RunFolder, certificate: Certificate | None = None
) -> dict[str, Any]:
    """What was found, for programs."""
    return {
        "verdict": "PASS" if comparison.equal else "FAIL",
        "runs": [str(run.path) for run in (one, other) if run.path.is_dir()],
        "row": None if comparison.row is None else asdict(comparison.row),
        "tensor": None if comparison.tensor is None else asdict(comparison.tensor),
        "state": list(comparison.state),
        "equal": comparison.equality.model_dump(mode="json") if comparison.equal else None,
        "certificate": None if certificate is None else certificate.model_dump(mode="json"),
    }


def verified_lines(found: Verified) -> Iterator[str]:
    """What came out, where the run was killed, under which circumstances, and where the proof lies."""
    yield f"{found.job.name}: {_verdict(found.comparison)}"
    if found.certificate is None:
        yield from _differences(found.comparison)
        yield f"promised:    {promise_of(found.job)}"
        yield f"left alone:  {found.whole.path}"
        yield f"resumed:     {found.resumed.path}"
        return
    yield from _equality(found.certificate.equal)
    yield from (f"killed:      {text_of(kill)}" for kill in found.certificate.kills)
    place = found.certificate.circumstances
    threads = f", {plural(place.threads, 'thread')}" if place.device == "cpu" else ""
    versions = f"torch {place.packages['torch']}, Python {place.python}"
    yield f"on:          {place.device} ({place.dtype}{threads}), {versions}"
    yield f"promised:    {found.certificate.promise}"
    yield f"certificate: {found.resumed.certificate}"


def compared_lines(comparison: Comparison, one: RunFolder, other: RunFolder) -> Iterator[str]:
    """What two runs that were there have in common, or do not."""
    yield f"{one.id} and {other.id}: {_verdict(comparison)}"
    yield from _equality(comparison.equality) if comparison.equal else _differences(comparison)


def _verdict(comparison: Comparison) -> str:
    return typer.style("PASS", fg="green", bold=True) if comparison.equal else typer.style("FAIL", fg="red", bold=True)


def _equality(found: Equality) -> Iterator[str]:
    yield (
        f"equal bits:  {plural(found.train_rows, 'step')}, {plural(found.evaluation_rows, 'evaluation')}, "
        f"{plural(found.tensors, 'tensor')} ({plural(found.numbers, 'number')}), and what each hook remembers"
    )
    yield f"losses:      sha256 {found.losses_sha256}"
    yield f"tensors:     sha256 {found.tensors_sha256}"


def _differences(found: Comparison) -> Iterator[str]:
    yield f"first step:  {found.row or 'none differs'}"
    yield f"tensor:      {found.tensor or 'none differs'}"
    if found.state:
        yield f"also:        {', '.join(found.state)}"


def text_of(kill: Kill) -> str:
    """When a run was killed, and where it went on."""
    saving = ", in the midst of a save" if kill.saving else ""
    then = f"resumed at step {kill.resumed_at:,}" if kill.resumed_at else "before its first checkpoint, so begun anew"
    return f"by {kill.signal} after {kill.seconds:.1f} s, its metrics at step {kill.written_step:,}{saving}; {then}"


def _say(text: str) -> None:
    _show("")
    typer.secho(text, bold=True, err=True)


def _show(text: str) -> None:
    """What is under way, on a terminal: one line that is wiped."""
    if sys.stderr.isatty():
        typer.echo(f"\r\x1b[K{text}", nl=False, err=True)


def _quiet(_text: str) -> None:
    """Programs read one object."""
