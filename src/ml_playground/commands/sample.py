"""`mlp sample`: let a trained model write."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from ml_playground.commands.options import Json, complete_experiment
from ml_playground.commands.sample_texts import SEPARATOR, Screen, Text, gather, whole_text
from ml_playground.commands.train import stop_on_signals
from ml_playground.configuration.origins import Layer
from ml_playground.core.atomic import write_file
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.core.run_folder import new_run_id
from ml_playground.sampling.recorded import sampling_layers

if TYPE_CHECKING:
    from ml_playground.models.protocols import Decoder
    from ml_playground.sampling.classifier import LoadedClassifier
    from ml_playground.sampling.runner import LoadedRun, Which

Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="An experiment (its newest run), a run's id or folder, a checkpoint's folder, or a Hugging Face model's.",
        autocompletion=complete_experiment,
        show_default=False,
    ),
]
Checkpoint = Annotated[
    str,
    typer.Option("--checkpoint", metavar="WHICH", help="best (by checkpointing.best_by), latest, or a step."),
]
Weights = Annotated[
    str | None,
    typer.Option("--weights", metavar="KIND", help="auto, raw, or ema: the averaged ones."),
]
Precision = Annotated[
    str | None,
    typer.Option("--precision", metavar="TYPE", help="Of the weights: auto (float32), float32, bfloat16 or int8."),
]
Engine = Annotated[
    str | None, typer.Option("--engine", metavar="NAME", help="torch, or llama_cpp, which is faster on a CPU.")
]
RecordedSets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set a key of sample, or runtime.device or threads."),
]

Prompts = Annotated[
    list[str] | None,
    typer.Option("--prompt", metavar="TEXT", help="Go on from this, or from FILE:path; may be repeated."),
]
NumSamples = Annotated[int | None, typer.Option("--num-samples", help="Texts for each prompt.")]
MaxNewTokens = Annotated[int | None, typer.Option("--max-new-tokens", help="Longest continuation.")]
Temperature = Annotated[float | None, typer.Option("--temperature", help="0 takes the likeliest token.")]
TopK = Annotated[int | None, typer.Option("--top-k", help="Only the k likeliest tokens; 0 is off.")]
TopP = Annotated[
    float | None, typer.Option("--top-p", help="Only the likeliest tokens that reach this probability; 1 is off.")
]
MinP = Annotated[
    float | None, typer.Option("--min-p", help="Only tokens this share as likely as the likeliest; 0 is off.")
]
RepetitionPenalty = Annotated[
    float | None, typer.Option("--repetition-penalty", help="Above 1: fewer repeats; 1 is off.")
]
NoRepeatNgram = Annotated[
    int | None, typer.Option("--no-repeat-ngram", help="No run of so many tokens twice; 0 is off.")
]
NumBeams = Annotated[
    int | None,
    typer.Option(
        "--num-beams", help="Search for the likeliest text instead of drawing: temperature 0, one text a prompt."
    ),
]
LengthPenalty = Annotated[
    float | None,
    typer.Option("--length-penalty", help="Of a beam search; above 0 longer texts gain, below shorter ones."),
]
Stop = Annotated[
    list[str] | None, typer.Option("--stop", metavar="TEXT", help="End before this text; may be repeated.")
]
Seed = Annotated[int | None, typer.Option("--seed", help="Equal seed, equal texts.")]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", help="Write the texts here instead of the run's samples/.")
]

OPTIONS = (
    *(
        "num_samples",
        "max_new_tokens",
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "repetition_penalty",
        "no_repeat_ngram",
    ),
    *("num_beams", "length_penalty", "seed", "weights", "precision", "engine"),
)
"""Keys of `[sample]` that have an option of their own name."""


def sample(
    target: Target,
    prompt: Prompts = None,
    num_samples: NumSamples = None,
    max_new_tokens: MaxNewTokens = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    min_p: MinP = None,
    repetition_penalty: RepetitionPenalty = None,
    no_repeat_ngram: NoRepeatNgram = None,
    num_beams: NumBeams = None,
    length_penalty: LengthPenalty = None,
    stop: Stop = None,
    seed: Seed = None,
    checkpoint: Checkpoint = "best",
    weights: Weights = None,
    precision: Precision = None,
    engine: Engine = None,
    sets: RecordedSets = None,
    json_output: Json = False,
    out: Out = None,
) -> None:
    """Let a trained model write; what it writes appears as it is drawn.

    Settings are those that the run recorded, but for the options given here. A text is its prompt and what follows;
    several are separated by a line of dashes. Texts go to stdout, everything else to stderr. They are also saved in
    the run's samples/, unless TARGET is a checkpoint's folder. Ctrl-C ends with what was drawn so far.
    """
    given = locals()
    options: dict[str, tuple[str, Any]] = {key: (f"--{key.replace('_', '-')}", given[key]) for key in OPTIONS}
    options |= {"prompts": ("--prompt", prompt or None), "stop": ("--stop", stop or None)}
    layers = sampling_layers(sets or (), options, os.environ, implied=_implied_by(num_beams))
    which = checkpoint_named(checkpoint)
    from ml_playground.sampling.runner import load_run  # noqa: PLC0415 - torch takes seconds; refusals come first

    draw_from(load_run(target, which=which, layers=layers), json_output=json_output, out=out)


def _implied_by(num_beams: int | None) -> Layer | None:
    """What a search needs and the run's own settings for drawing seldom say."""
    if num_beams is None or num_beams <= 1:
        return None
    return Layer("--num-beams", {"sample": {"temperature": 0.0, "num_samples": 1}}, Path.cwd())


def draw_from(
    run: "LoadedRun", *, json_output: bool = False, quiet: bool = False, out: Path | None = None
) -> list[Text]:
    """Draw the texts that the job of a loaded run asks for, show and save them; `quiet` leaves stdout alone.

    Raises:
        ConfigError: A prompt cannot be read, or the model does not know it.
        StorageError: The texts could not be saved.
    """
    from ml_playground.sampling.prompts import encode_prompt  # noqa: PLC0415 - as in `sample`
    from ml_playground.sampling.texts import draw_texts  # noqa: PLC0415

    run, greedy = _without_copies(run)
    settings = run.job.sample
    decoder = run.decoder()
    prompts = [encode_prompt(text, run.tokenizer, run.model.max_context) for text in settings.prompts]
    notes = [
        *run.notes,
        *greedy,
        *precision_notes(run, decoder),
        *(note for prompt in prompts for note in prompt.notes),
    ]
    engine = "llama.cpp" if run.job.sample.engine == "llama_cpp" else run.execution.device.type
    typer.echo(heading(run, f"{engine}, {run.precision}"), err=True)
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    texts = [Text(prompt.text, sample) for prompt in prompts for sample in range(settings.num_samples)]
    screen = None if json_output or quiet else Screen(texts)
    pieces = draw_texts(decoder, run.tokenizer, [prompt.ids for prompt in prompts], settings)
    with stop_on_signals() as signals:
        texts = gather(pieces, texts, settings.num_samples, screen, signals.requested)
    place = save(texts, run, notes, as_json=json_output, out=out) if texts else None
    if json_output and not quiet:
        typer.echo(record_of(texts, run, notes, place))
    elif place is not None:
        typer.echo(f"saved: {place}", err=True)
    return texts


def _without_copies(run: "LoadedRun") -> "tuple[LoadedRun, list[str]]":
    """The same with one text a prompt where all would be equal, and a note that says so."""
    settings = run.job.sample
    if settings.temperature > 0 or settings.num_beams > 1 or settings.num_samples == 1:
        return run, []
    job = run.job.model_copy(update={"sample": settings.model_copy(update={"num_samples": 1})})
    note = f"at temperature 0 the {settings.num_samples} texts of a prompt are all the same; one is drawn"
    return replace(run, job=job), [note]


def save(
    texts: Sequence[Text], run: "LoadedRun", notes: Sequence[str], *, as_json: bool = False, out: Path | None = None
) -> Path | None:
    """Write the texts to `out`, else into the run's samples/; a checkpoint without its run has no place for them.

    Raises:
        StorageError: They could not be written.
    """
    as_json = as_json or (out is not None and out.suffix == ".json")
    if out is None:
        if run.run is None:
            return None
        name = f"sample_{run.checkpoint.progress.step:06d}_{new_run_id(Deps().clock.now())}"
        out = run.run.samples / f"{name}{'.json' if as_json else '.txt'}"
    if as_json:
        content = record_of(texts, run, notes, out) + "\n"
    else:
        parts = [whole_text(text) for text in texts]
        content = f"{SEPARATOR}\n".join(part if part.endswith("\n") else f"{part}\n" for part in parts)
    write_file(out, content.encode("utf-8", "replace"))
    return out


def record_of(texts: Sequence[Text], run: "LoadedRun", notes: Sequence[str], place: Path | None) -> str:
    """Texts, settings and origin as one JSON object."""
    record = {
        "run": run.run.id if run.run else None,
        "checkpoint": run.checkpoint.reference,
        "step": run.checkpoint.progress.step,
        "weights": run.weights,
        "settings": run.job.sample.model_dump(mode="json"),
        "notes": list(notes),
        "saved": str(place) if place else None,
        "texts": [asdict(text) for text in texts],
    }
    return json.dumps(record)


def checkpoint_named(text: str) -> "Which":
    """What `--checkpoint` means.

    Raises:
        ConfigError: It is neither best nor latest nor a step.
    """
    if text in ("best", "latest"):
        return cast("Which", text)
    if text.isdecimal() and text.isascii():
        return int(text)
    raise ConfigError(f"--checkpoint {text!r} is no checkpoint; allowed: best, latest, or a step such as 500.")


def precision_notes(run: "LoadedRun", decoder: "Decoder") -> list[str]:
    """What quantised weights cost on text that the model was not trained on, measured; nothing for others."""
    if run.precision != "int8":
        return []
    from ml_playground.evaluation.precision import cost_of_precision  # noqa: PLC0415 - as in `sample`

    try:
        cost = cost_of_precision(run, decoder)
    except DataError as error:
        return [f"what int8 costs is unknown, for there is no validation text here: {error}"]
    difference = f"{cost.loss - cost.full_loss:+.4f} against float32"
    return [f"int8 on {cost.targets:,} tokens of the validation text: {cost.loss:.4f} nats per token, {difference}"]


def heading(run: "LoadedRun | LoadedClassifier", place: str) -> str:
    """Which weights these are, and where and how they run."""
    metrics = run.checkpoint.metrics or {}
    # The averaged weights are those that a training evaluates, where it keeps some.
    evaluated = "ema" if "ema" in run.checkpoint.groups else "raw"
    loss = f", validation loss {metrics['loss']:.4f}" if "loss" in metrics and run.weights == evaluated else ""
    averaged = ", averaged weights" if run.weights == "ema" else ""
    name = run.run.id if run.run else run.checkpoint.reference
    return f"{name}, step {run.checkpoint.progress.step:,}{loss}{averaged} ({place})"
