"""`mlp export`: a trained model in the form that other programs read, compared with the checkpoint before it is called done."""

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ml_playground.commands.options import Json
from ml_playground.commands.sample import Checkpoint, Target, Weights, checkpoint_named, heading
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.humanise import json_text, plural
from ml_playground.core.registry import did_you_mean
from ml_playground.sampling.recorded import sampling_layers

if TYPE_CHECKING:
    from ml_playground.export.hugging_face import Report
    from ml_playground.export.model_folder import Dtype
    from ml_playground.sampling.runner import LoadedRun

FOR_EXPORT = ("sample.weights", "runtime.device", "runtime.threads")
"""What may be set: with what it is computed, never what the model is."""
KINDS = ("hugging_face",)
DTYPES = ("float32", "bfloat16")
GB = 10**9

Kind = Annotated[
    str,
    typer.Option("--kind", metavar="KIND", help="hugging_face: a folder for AutoModelForCausalLM and AutoTokenizer."),
]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="FOLDER", help="Where to; else export/hugging_face in the run's folder.")
]
DtypeOption = Annotated[str, typer.Option("--dtype", metavar="TYPE", help="Of the tensors: float32 or bfloat16.")]
FileSize = Annotated[
    float, typer.Option("--largest-file-gb", metavar="GB", help="Larger models are spread over several files.")
]
WithoutTokenizer = Annotated[bool, typer.Option("--without-tokenizer", help="The model alone; its users bring ids.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an export that lies there.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set runtime.threads, or model.path of a base that was moved."),
]


def export(
    target: Target,
    kind: Kind = "hugging_face",
    out: Out = None,
    checkpoint: Checkpoint = "best",
    weights: Weights = None,
    dtype: DtypeOption = "float32",
    largest_file_gb: FileSize = 2.0,
    without_tokenizer: WithoutTokenizer = False,
    force: Force = False,
    sets: Sets = None,
    json_output: Json = False,
) -> None:
    """Write a trained model in the form that other programs read, and prove that it is the one that was trained.

    The folder of --kind hugging_face loads with AutoModelForCausalLM and AutoTokenizer alone. Before it gets its name it is
    opened so, and token ids, logits, greedy text and the end of texts are compared with the checkpoint: parity.json and
    README.md in it say what came out. Where they disagree nothing is left. An adapter is merged into the weights.
    """
    _check(kind, dtype, largest_file_gb, sets or ())
    which = checkpoint_named(checkpoint)
    # On the CPU, where sums come out alike in every library.
    cpu = ("runtime.device=cpu", *(sets or ()))
    layers = sampling_layers(cpu, {"weights": ("--weights", weights)}, os.environ, FOR_EXPORT)
    typer.echo(f"export: loading {target}", err=True)
    from ml_playground.commands.export_run import sources_of  # noqa: PLC0415 - torch takes seconds; refusals come first
    from ml_playground.export.hugging_face import refuse_place  # noqa: PLC0415
    from ml_playground.export.model_folder import refuse_unknown  # noqa: PLC0415
    from ml_playground.export.place import refuse_sources  # noqa: PLC0415
    from ml_playground.sampling.runner import load_run  # noqa: PLC0415

    run = load_run(target, which=which, layers=layers, open_keys=FOR_EXPORT)
    refuse_unknown(run.job.model)
    place = _place(run, target, out)
    refuse_sources(place, sources_of(run))
    refuse_place(place, force=force)
    typer.echo(heading(run, f"{kind}, {dtype}"), err=True)
    for note in run.notes:
        typer.echo(f"note: {note}", err=True)
    report = _written(
        run, place, cast("Dtype", dtype), round(largest_file_gb * GB), with_tokenizer=not without_tokenizer
    )
    if sys.stderr.isatty():
        typer.echo("\r\x1b[K", nl=False, err=True)
    record = report.as_json() | {"folder": str(place)}
    typer.echo(json_text(record) if json_output else "\n".join(lines_of(report)))
    typer.echo(f"saved: {place}", err=True)


def _written(
    run: "LoadedRun", place: Path, dtype: "Dtype", largest_file_bytes: int, *, with_tokenizer: bool
) -> "Report":
    """Write the folder of a run and compare it; errors are those of `export_folder`."""
    from ml_playground.commands.export_run import written  # noqa: PLC0415 - as above

    name = run.run.id if run.run else "CHECKPOINT"
    typed = shlex.join(["mlp", "export", name, "--kind", "hugging_face", "--dtype", dtype])
    return written(
        run,
        place,
        typed,
        dtype=dtype,
        progress=show,
        with_tokenizer=with_tokenizer,
        largest_file_bytes=largest_file_bytes,
    )


def lines_of(report: "Report") -> Iterator[str]:
    """What was compared, and what came out."""
    parity = report.parity
    yield f"compared with the checkpoint on {report.compared}, the folder opened with transformers alone:"
    ids = f"equal, {plural(parity.tokens, 'token')}" if parity.tokens else "not compared: the folder has no tokenizer"
    yield f"  token ids    {ids}"
    apart = f"at most {parity.largest_difference:.1e} apart"
    yield f"  logits       {apart} at {plural(parity.positions, 'position')} (rounding explains {parity.allowed_difference:.1e})"
    ties = f"; {plural(parity.ties, 'text')} up to two tokens that are equally likely" if parity.ties else ""
    yield f"  greedy text  equal, {plural(parity.drawn, 'token')} after {plural(parity.rows, 'prompt')}{ties}"
    stops = ", ".join(map(str, parity.stop_ids)) or "none"
    yield f"  end          equal, at ids {stops}; {plural(parity.ended, 'text')} ended so"
    if report.merging is not None:
        yield f"  adapter      merged, which moves logits by at most {report.merging:.1e}"
    if report.rounding is not None:
        yield (
            f"  {report.dtype}     moves logits by at most {report.rounding.largest_change:.1e}, "
            f"predictions by {report.rounding.divergence_nats:.1e} nats a token"
        )


def _check(kind: str, dtype: str, largest_file_gb: float, sets: Sequence[str]) -> None:
    """Refuse what can be refused before anything is loaded."""
    if kind not in KINDS:
        raise ConfigError(
            f"--kind {kind!r} is no form that can be written{did_you_mean(kind, KINDS)}; allowed: {', '.join(KINDS)}."
        )
    if dtype not in DTYPES:
        raise ConfigError(f"--dtype {dtype!r} is no type of tensors; allowed: {', '.join(DTYPES)}.")
    # Written so that NaN fails.
    if not largest_file_gb > 0:
        raise ConfigError(f"--largest-file-gb {largest_file_gb:g} is no size of a file; give gigabytes, 2 say.")
    if any(text.partition("=")[0].strip() == "runtime.device" for text in sets):
        raise ConfigError(
            "--set runtime.device has no effect here: models are compared on the CPU, where sums come out alike."
        )


def _place(run: "LoadedRun", target: str, out: Path | None) -> Path:
    """Where the folder will lie.

    Raises:
        ConfigError: Nobody has said it, and there is no run to put it into.
    """
    if out is not None:
        return out.expanduser().absolute()
    if run.run is None:
        raise ConfigError(f"{target} is no run, so there is no place for an export of it; name one: --out FOLDER")
    return run.run.exports / "hugging_face"


def show(done: str) -> None:
    """One line that changes, on a terminal only."""
    if sys.stderr.isatty():
        typer.echo(f"\r\x1b[K{done}", nl=False, err=True)
