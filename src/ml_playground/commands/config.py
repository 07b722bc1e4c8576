"""`mlp config`: show, explain, compare and check settings. Needs no torch."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ml_playground.commands.options import ConfigFiles, Experiment, Json, Sets, complete_experiment
from ml_playground.configuration.explaining import Explanation
from ml_playground.configuration.explaining import explain as explanation_of
from ml_playground.configuration.fingerprint import config_hash
from ml_playground.configuration.loading import (
    CONFIG,
    NAME,
    Loaded,
    assemble,
    experiment_names,
    find_experiment,
    is_file,
    load,
    load_file,
    load_without_files,
    read_job,
)
from ml_playground.configuration.models import JobConfig
from ml_playground.configuration.origins import Origin
from ml_playground.configuration.problems import UnnamedFilesError
from ml_playground.configuration.reference import job_schema
from ml_playground.configuration.rendering import as_toml
from ml_playground.configuration.schema import dotted, leaves
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.registry import did_you_mean
from ml_playground.core.run_folder import all_runs, find_run, is_run, runs_folder

Key = Annotated[
    str, typer.Argument(metavar="KEY", help="A key such as optimizer.lr, or a section.", show_default=False)
]
MaybeExperiment = Annotated[
    str | None,
    typer.Argument(
        metavar="[EXPERIMENT]",
        help="Whose history; without one, what all experiments share.",
        autocompletion=complete_experiment,
        show_default=False,
    ),
]
Side = Annotated[
    str, typer.Argument(metavar="EXPERIMENT|FILE|RUN", help="An experiment, a file, a run.", show_default=False)
]
Target = Annotated[
    str, typer.Argument(metavar="EXPERIMENT|FILE", help="An experiment, or a configuration file.", show_default=False)
]
ABSENT = "-"
"""Stands for a key that one side of a comparison does not have."""


def show(experiment: Experiment, sets: Sets = None, files: ConfigFiles = None, json_output: Json = False) -> None:
    """Print every setting of a job and where its value comes from. The text is TOML."""
    loaded = load(experiment, sets=sets or (), files=files or ())
    typer.echo(json.dumps(_as_json(loaded), indent=2) if json_output else as_toml(loaded), nl=json_output)


def _as_json(loaded: Loaded) -> dict[str, Any]:
    return {
        "folder": str(loaded.folder),
        "config_hash": config_hash(loaded.job),
        "job": loaded.job.model_dump(mode="json"),
        "origins": {key: chain[-1].where for key, chain in loaded.origins.items()},
    }


def explain(
    key: Key,
    experiment: MaybeExperiment = None,
    sets: Sets = None,
    files: ConfigFiles = None,
    json_output: Json = False,
) -> None:
    """Say what a key means and takes, and which layer set it to what."""
    config = find_experiment(experiment) / CONFIG if experiment is not None else None
    found = explanation_of(key, assemble(config, sets=sets or (), files=files or ()))
    typer.echo(json.dumps(_explanation_json(found), indent=2) if json_output else _explanation_text(found))


def _explanation_json(found: Explanation) -> dict[str, Any]:
    """A key that must be set has no "default", one that nobody set no "value"."""
    known = {"default": found.default, "value": found.value}
    return {
        "key": found.key,
        "help": found.help,
        "takes": found.takes,
        **{name: value for name, value in known.items() if value is not ...},
        "kinds": list(found.kinds),
        "keys": dict(found.keys or {}),
        **({"plugin": found.plugin} if found.plugin else {}),
        "chain": [{"where": o.where, "layer": o.layer, "action": o.action, "value": o.value} for o in found.chain],
    }


def _explanation_text(found: Explanation) -> str:
    value = f" = {_shown(found.value)}" if found.value is not ... else ""
    lines = [f"{found.key}{value}", *(f"  {line}" for line in found.help.splitlines()), "", f"  takes    {found.takes}"]
    if found.plugin:
        lines.append(f"  of       {found.plugin}")
    if found.keys is not None:
        width = max(map(len, found.keys), default=0)
        return "\n".join([*lines, "", *(f"  {name:<{width}}  {text}".rstrip() for name, text in found.keys.items())])
    lines.append(f"  default  {'none of its own: it must be set' if found.default is ... else _shown(found.default)}")
    if found.kinds:
        lines.append(f"  only of  kind {' and '.join(found.kinds)}, which is not chosen here")
    width = max((len(origin.where) for origin in found.chain), default=0)
    steps = [f"  {origin.where:<{width}}  {_step(origin)}" for origin in found.chain]
    return "\n".join(
        [*lines, "", "  set by (the last one decides)", *(f"  {step}" for step in steps)] if steps else lines
    )


def _step(origin: Origin) -> str:
    words = {"dropped": "dropped: another kind was chosen", "cleared": "none: an alternative to it was chosen"}
    return words.get(origin.action) or _shown(origin.value)


def _shown(value: Any) -> str:
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


def diff(left: Side, right: Side, json_output: Json = False) -> None:
    """Compare the settings of two experiments, files or runs, as they are written: ML_PLAYGROUND_* variables do not count."""
    rows = differences(job_of(left), job_of(right))
    if json_output:
        absent = {key: [None if value is ... else value for value in pair] for key, pair in rows.items()}
        table = [{"key": key, "left": pair[0], "right": pair[1]} for key, pair in absent.items()]
        typer.echo(json.dumps({"left": left, "right": right, "differences": table}, indent=2))
    elif not rows:
        typer.echo("equal")
    else:
        texts = [(key, *(ABSENT if value is ... else _shown(value) for value in pair)) for key, pair in rows.items()]
        typer.echo(columns([("key", left, right), *texts]))


def differences(left: JobConfig, right: JobConfig) -> Mapping[str, tuple[Any, Any]]:
    """Dotted key -> both values, where they differ; `...` for a key that one side does not have."""
    values = [dict(leaves(job.model_dump(mode="json"))) for job in (left, right)]
    pairs = {path: (values[0].get(path, ...), values[1].get(path, ...)) for path in values[0] | values[1]}
    return {dotted(path): pair for path, pair in pairs.items() if pair[0] != pair[1]}


def job_of(target: str, environ: Mapping[str, str] | None = None) -> JobConfig:
    """The job that an experiment, a file or a run stands for; in this order, a path before a name.

    `environ`: variables that lie over an experiment; none of them unless given.

    Raises:
        ConfigError: Nothing answers to it, or what does is no valid job.
    """
    path = Path(target)
    if is_file(path):
        return load_file(path).job if path.name != "config.json" else read_job(path)
    if is_run(path):
        return read_job(path / "config.json")
    if is_file(path / CONFIG) or (NAME.fullmatch(target) and target in experiment_names()):
        return load(target, environ=environ or {}).job
    if not all_runs(runs_folder()):
        known = experiment_names()
        raise ConfigError(
            f"{target!r} is no experiment, file or run{did_you_mean(target, known)} "
            f"(experiments: {', '.join(known)}; runs: none yet)"
        )
    return read_job(find_run(target).config)


def job_of_data(target: str) -> JobConfig:
    """The job whose prepared data are meant: an experiment's, a file's, or what a run recorded.

    Raises:
        ConfigError: Nothing answers to it, or it leaves to its user what was prepared.
    """
    try:
        return job_of(target, os.environ)
    except UnnamedFilesError as error:
        raise ConfigError(
            f"{target} leaves {' and '.join(error.names)} to you, so it does not say by itself which data are meant; name one of "
            "its runs, or a file that holds all of its settings (mlp config show ... > job.toml), in its place."
        ) from None


def check(target: Target, sets: Sets = None, files: ConfigFiles = None, json_output: Json = False) -> None:
    """Check the settings without running anything: all problems, or "ok".

    They are checked as they are written, in an experiment or a file alike: ML_PLAYGROUND_* variables do not count.
    `mlp config show` lays them over. Files that an experiment leaves to its user are named, and no problem.
    """
    sets, files = sets or [], files or []
    if is_file(Path(target)):
        loaded, needs = load_file(Path(target), sets=sets, files=files), ()
    else:
        loaded, needs = load_without_files(target, sets=sets, files=files)
    but_for = f"but for what only you have: {', '.join(needs)}"
    # A hash with a name that only stands for one would be the hash of no job.
    found = None if needs else config_hash(loaded.job)
    if json_output:
        typer.echo(json.dumps({"ok": True, "config_hash": found, "needs": needs}))
    else:
        typer.echo(f"ok: {loaded.job.name}, {found or but_for}")


def schema() -> None:
    """Print the JSON schema of a job: for editors, and for programs that write one."""
    typer.echo(json.dumps(job_schema(), indent=2))


def columns(rows: list[tuple[str, ...]]) -> str:
    """Rows as lines with their columns in line; never cut, so that they can be piped."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
