"""`mlp merge`: an adapter and its base as one model, compared with the pair before it is called done."""

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from ml_playground.commands.export import DTYPES, FOR_EXPORT, DtypeOption, lines_of, show
from ml_playground.commands.options import Json
from ml_playground.commands.sample import Checkpoint, Target, Weights, checkpoint_named, heading
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.humanise import json_text
from ml_playground.sampling.recorded import sampling_layers

if TYPE_CHECKING:
    from ml_playground.export.hugging_face import Report
    from ml_playground.export.model_folder import Dtype
    from ml_playground.sampling.runner import LoadedRun

Out = Annotated[
    Path | None, typer.Option("--out", metavar="FOLDER", help="Where to; else export/merged in the run's folder.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set runtime.threads, or model.path of a base that was moved."),
]


def merge(
    target: Target,
    out: Out = None,
    checkpoint: Checkpoint = "best",
    weights: Weights = None,
    dtype: DtypeOption = "float32",
    sets: Sets = None,
    json_output: Json = False,
) -> None:
    """Merge a trained adapter into its base, and prove that the folder is what was trained.

    The folder loads with AutoModelForCausalLM and AutoTokenizer alone, or here as model.path of a new job. Before it gets its
    name it is opened again and compared with the model and its adapter: token ids, logits and greedy texts on rows of the
    data; parity.json in it says what came out, and holds the sha256 of adapter, base and result. Where they disagree beyond
    rounding nothing is left. What stood there before is kept beside it, as FOLDER.backup-1.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"--dtype {dtype!r} is no type of tensors; allowed: {', '.join(DTYPES)}.")
    which = checkpoint_named(checkpoint)
    # On the CPU, where sums come out alike in every library.
    cpu = ("runtime.device=cpu", *(sets or ()))
    layers = sampling_layers(cpu, {"weights": ("--weights", weights)}, os.environ, FOR_EXPORT)
    typer.echo(f"merge: loading {target} and its base", err=True)
    from ml_playground.export.backup import kept  # noqa: PLC0415 - torch takes seconds
    from ml_playground.sampling.runner import load_run  # noqa: PLC0415

    run = load_run(target, which=which, layers=layers, open_keys=FOR_EXPORT)
    place = _place(run, target, out)
    typer.echo(heading(run, f"merge, {dtype}"), err=True)
    for note in run.notes:
        typer.echo(f"note: {note}", err=True)
    with kept(place) as backup:
        report = _written(run, place, dtype)
    if sys.stderr.isatty():
        typer.echo("\r\x1b[K", nl=False, err=True)
    record = report.as_json() | {"folder": str(place), "backup": None if backup is None else str(backup)}
    typer.echo(json_text(record) if json_output else "\n".join(lines_of(report)))
    if backup is not None:
        typer.echo(f"kept:  {backup}", err=True)
    typer.echo(f"saved: {place}", err=True)
    typer.echo(f"next:  mlp sample {shlex.quote(str(place))}", err=True)


def _written(run: "LoadedRun", place: Path, dtype: "Dtype") -> "Report":
    """Merge, write and compare; nothing is left where they disagree."""
    from ml_playground.commands.export_run import written  # noqa: PLC0415 - torch takes seconds

    typed = shlex.join(["mlp", "merge", run.run.id if run.run else "CHECKPOINT", "--dtype", dtype])
    return written(run, place, typed, dtype=dtype, progress=show, sources=_sources(run))


def _place(run: "LoadedRun", target: str, out: Path | None) -> Path:
    """Where the folder will lie.

    Raises:
        ConfigError: There is nothing to merge, nobody has said where to, or something else lies there.
    """
    from ml_playground.commands.export_run import sources_of  # noqa: PLC0415 - torch takes seconds
    from ml_playground.export.place import refuse_sources  # noqa: PLC0415
    from ml_playground.models.hugging_face.folder import CONFIG  # noqa: PLC0415

    model: Any = run.job.model
    if getattr(model, "adapter", None) is None:
        raise ConfigError(
            f"{target} has no adapter (model.adapter), so there is nothing to merge: all of its weights were trained. To write them "
            f"as a folder for other programs: mlp export {shlex.quote(target)} --kind hugging_face"
        )
    if out is None and run.run is None:
        raise ConfigError(f"{target} is no run, so there is no place for its merged model; name one: --out FOLDER")
    place = (
        run.run.exports / "merged" if out is None and run.run is not None else cast(Path, out).expanduser().absolute()
    )
    refuse_sources(place, sources_of(run))
    if place.exists() and not place.is_dir():
        raise ConfigError(f"--out {place} is a file; name a folder.")
    if place.is_dir() and any(place.iterdir()) and not (place / CONFIG).is_file():
        raise ConfigError(
            f"{place} is there and holds no model (there is no {CONFIG}); it is left alone. Name another folder: --out FOLDER"
        )
    return place


def _sources(run: "LoadedRun") -> dict[str, str]:
    """The sha256 of what is merged."""
    from ml_playground.core.checkpoint_manifest import checked_sizes  # noqa: PLC0415 - as in `merge`

    records = checked_sizes(run.checkpoint.path)
    groups = ("model", "ema") if run.weights == "ema" else ("model",)
    adapter = {f"adapter/{group}": records[run.checkpoint.tensor_file(group).name].sha256 for group in groups}
    return adapter | {"base": cast(Any, run.job.model).files_sha256}
