"""`mlp sweep`: the same job with many settings, one run after the other; which is best, and what matters. Needs no torch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ml_playground.commands.config import columns
from ml_playground.commands.options import ConfigFiles, Experiment, Json, Sets
from ml_playground.commands.sweep_page import page_of
from ml_playground.commands.sweep_record import SweepRecord, Trial, held, read_record, sweep_folder, write_record
from ml_playground.commands.sweep_space import (
    Space,
    Values,
    check_number,
    check_values,
    combinations,
    ends_of,
    read_grid,
    read_space,
    text_of,
)
from ml_playground.commands.sweep_trials import Stopped, Trials
from ml_playground.commands.train import stop_on_signals
from ml_playground.configuration.loading import load
from ml_playground.configuration.models import JobConfig
from ml_playground.configuration.rendering import toml_value
from ml_playground.core.atomic import write_file
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.humanise import duration, json_text, loss_text, plural, printable
from ml_playground.core.registry import load_object

NONE_COMPLETE = 1
LONGEST_REASON = 100

Grid = Annotated[
    list[str] | None,
    typer.Option(
        "--grid", metavar="KEY=[A,B,...]", help="Values of one key; may be repeated: every combination is tried."
    ),
]
OptunaTrials = Annotated[
    int | None,
    typer.Option(
        "--optuna", metavar="TRIALS", min=1, help="Let Optuna choose so many trials from --space (extra `sweep`)."
    ),
]
SpaceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--space",
        metavar="KEY=RANGE",
        help="log(1e-4,1e-2), uniform(0,0.3), int(2,8), logint(8,512) or [A,B]; may be repeated.",
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed", metavar="N", min=0, help="Of what Optuna draws; as it comes, 0. Trials train with the job's seed."
    ),
]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is tried, in which order."""

    record: Mapping[str, Any]
    """As `sweep.json` holds it; names the sweep."""
    trials: int
    next_values: Callable[[int, Sequence[Trial]], Values]
    """Of trial `number`, counted from 1, after those that have ended."""


def sweep(
    experiment: Experiment,
    grid: Grid = None,
    optuna: OptunaTrials = None,
    space: SpaceOption = None,
    seed: Seed = None,
    sets: Sets = None,
    files: ConfigFiles = None,
    json_output: Json = False,
) -> None:
    """Train a job with many settings, one run after the other, and say which is best.

    Either every combination of --grid, or as many trials as --optuna says, drawn from --space. All values are checked before
    anything starts. Each trial is a run of its own (`mlp runs`); a trial that fails is noted with its reason, and the sweep goes
    on. Ctrl-C saves and leaves, and the same command goes on, also after a kill. A trial counts by its best evaluation
    (checkpointing.best_by). A page with plots lies beside the record, under sweeps/.
    """

    def load_job(more: Sequence[str]) -> JobConfig:
        return load(experiment, sets=[*(sets or ()), *more], files=files or ()).job

    if grid and seed is not None:
        raise ConfigError(
            f"--seed {seed} has no effect with --grid, which draws nothing; to train with another seed: --set seed={seed}, with "
            f"several: --grid 'seed=[{seed},{seed + 1}]'"
        )
    job = load_job(())
    plan = _grid_plan(grid, load_job) if grid else _optuna_plan(optuna, space, seed or 0, job, load_job)
    if grid and (optuna is not None or space):
        raise ConfigError("--grid tries every combination and --optuna draws from --space; give only one of the two")
    folder = sweep_folder(job.name, job.model_dump(mode="json"), plan.record)
    empty = SweepRecord(experiment=job.name, metric=job.merit.metric, higher=job.merit.higher, plan=dict(plan.record))
    if any(key.startswith("prepare.") for key in empty.keys) and not job.merit.higher:
        typer.echo(
            "note: losses per token compare only where the tokens are the same; prepare.* makes them others", err=True
        )
    arguments = [experiment, *(word for file in files or () for word in ("--config", str(file)))]
    arguments += [word for text in sets or () for word in ("--set", text)]
    with held(folder), stop_on_signals() as signals:
        maker = Trials(arguments, load_job, folder, Deps(stop_requested=signals.requested))
        record, left = _swept(plan, read_record(folder, empty), folder, maker)
    _tell(record, plan, folder, left=left, json_output=json_output)


def _grid_plan(texts: Sequence[str], load_job: Callable[[Sequence[str]], JobConfig]) -> Plan:
    grid = read_grid(texts)
    trials = combinations(grid)
    check_values(trials, load_job)
    return Plan({"keys": list(grid), "grid": grid}, len(trials), lambda number, _: trials[number - 1])


def _optuna_plan(
    trials: int | None,
    texts: Sequence[str] | None,
    seed: int,
    job: JobConfig,
    load_job: Callable[[Sequence[str]], JobConfig],
) -> Plan:
    if trials is None or not texts:
        raise ConfigError(
            "nothing to try: give --grid optimizer.lr=[1e-3,3e-4], or --optuna 20 --space optimizer.lr=log(1e-4,1e-2)"
        )
    check_number(trials, "--optuna")
    space: Space = read_space(texts)
    check_values(ends_of(space), load_job)
    suggest = load_object("ml_playground.commands.sweep_optuna:suggest")

    def next_values(number: int, before: Sequence[Trial]) -> Values:
        return suggest(space, before, number, seed, higher=job.merit.higher)

    return Plan({"keys": list(space), "space": sorted(texts), "seed": seed}, trials, next_values)


def _swept(plan: Plan, record: SweepRecord, folder: Path, maker: Trials) -> tuple[SweepRecord, bool]:
    """The trials that are still to be made; true where its user left before the last one."""
    if record.trials:
        typer.echo(f"going on: {len(record.trials)} of {plural(plan.trials, 'trial')} have ended", err=True)
    for number in range(len(record.trials) + 1, plan.trials + 1):
        values = plan.next_values(number, record.trials)
        typer.echo(f"trial {number} of {plan.trials}: {printable(text_of(values))}", err=True)
        try:
            trial = maker.make(number, values)
        except Stopped:
            return record, True
        record = record.with_trial(trial)
        write_record(folder, record)
        write_file(folder / "sweep.html", page_of(record), durable=False)
        typer.echo(f"  {printable(_outcome(trial, record.metric))}", err=True)
    return record, False


def _outcome(trial: Trial, metric: str) -> str:
    if trial.score is None:
        return f"failed: {trial.reason}"
    return f"{metric} {loss_text(trial.score)} at step {trial.step:,}, {duration(trial.seconds)}, {trial.run}"


def _tell(record: SweepRecord, plan: Plan, folder: Path, *, left: bool, json_output: bool) -> None:
    """The table, best first, and where the page is; exit code 1 where every trial failed."""
    ranked = record.ranked
    complete = [trial for trial in ranked if trial.state == "complete"]
    if json_output:
        typer.echo(json_text(_as_json(record, plan, folder)))
    else:
        typer.echo("\n".join(_lines(record)) if ranked else "no trial has ended yet")
        if left:
            typer.echo(f"paused: {len(ranked)} of {plural(plan.trials, 'trial')}; the same command goes on")
        if complete:
            typer.echo(f"best: {printable(text_of(complete[0].values))}")
        if ranked:
            typer.echo(f"page: {folder / 'sweep.html'}")
    if ranked and not complete and not left:
        raise typer.Exit(NONE_COMPLETE)


def _as_json(record: SweepRecord, plan: Plan, folder: Path) -> dict[str, Any]:
    ranked = [trial.model_dump(mode="json") for trial in record.ranked]
    complete = [trial for trial in ranked if trial["state"] == "complete"]
    return {
        "experiment": record.experiment,
        "metric": record.metric,
        "better": "higher" if record.higher else "lower",
        "folder": str(folder),
        "planned": plan.trials,
        "complete": len(complete),
        "failed": len(ranked) - len(complete),
        "best": complete[0] if complete else None,
        "trials": ranked,
    }


def _lines(record: SweepRecord) -> Iterator[str]:
    """A row for each trial, best first; failed ones below with their reason."""
    rows = [("trial", *record.keys, record.metric, "at step", "steps", "time", "run")]
    for trial in record.ranked:
        values = [toml_value(trial.values[key]) for key in record.keys]
        score, step = ("failed", "-") if trial.score is None else (loss_text(trial.score), f"{trial.step:,}")
        steps = "-" if trial.steps is None else f"{trial.steps:,}"
        seconds = "-" if trial.seconds is None else duration(trial.seconds)
        rows.append((str(trial.number), *values, score, step, steps, seconds, trial.run or "-"))
    yield printable(columns(rows))
    for trial in record.ranked:
        if trial.reason:
            reason = trial.reason if len(trial.reason) <= LONGEST_REASON else f"{trial.reason[:LONGEST_REASON]}..."
            yield printable(f"trial {trial.number} failed: {' '.join(reason.split())}")
