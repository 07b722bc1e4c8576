"""`mlp sample`: let a trained model write."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import typer

from ml_playground.commands.options import Json
from ml_playground.commands.sample_chat import AS_TEXT, Asked, Way, asked_of
from ml_playground.commands.sample_options import (
    OPTIONS,
    Checkpoint,
    Engine,
    LengthPenalty,
    MaxNewTokens,
    MinP,
    NoRepeatNgram,
    NumBeams,
    NumSamples,
    Out,
    Precision,
    Processors,
    Prompts,
    Raw,
    RecordedSets,
    RepetitionPenalty,
    Seed,
    Stop,
    System,
    Target,
    Temperature,
    TopK,
    TopP,
    Weights,
    unfelt,
)
from ml_playground.commands.sample_texts import SEPARATOR, Screen, Text, gather, processor_lines, whole_text
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
    processors: Processors = None,
    system: System = None,
    raw: Raw = False,
    sets: RecordedSets = None,
    json_output: Json = False,
    out: Out = None,
) -> None:
    """Let a trained model write; what it writes appears as it is drawn.

    Settings are those that the run recorded, but for the options given here. A text is its prompt and what follows;
    several are separated by a line of dashes. Of a run trained on chats, a prompt is a user's turn, and what follows the
    answer; without a prompt it is asked held-out questions of its data. Texts go to stdout, everything else to stderr.
    They are also saved in the run's samples/, unless TARGET is a folder of a checkpoint or from Hugging Face.
    Ctrl-C ends with what was drawn so far.
    """
    given = locals()
    options: dict[str, tuple[str, Any]] = {key: (f"--{key.replace('_', '-')}", given[key]) for key in OPTIONS}
    options |= {"prompts": ("--prompt", prompt or None), "stop": ("--stop", stop or None)}
    layers = sampling_layers(sets or (), options, os.environ, implied=_implied_by(num_beams))
    which = checkpoint_named(checkpoint)
    from ml_playground.sampling.runner import load_run  # noqa: PLC0415 - torch takes seconds; refusals come first

    run = load_run(target, which=which, layers=layers)
    run = replace(run, notes=[*run.notes, *unfelt(layers, run.job.sample)])
    draw_from(run, json_output=json_output, out=out, way=Way(system, raw))


def _implied_by(num_beams: int | None) -> Layer | None:
    """What a search needs and the run's own settings for drawing seldom say."""
    if num_beams is None or num_beams <= 1:
        return None
    return Layer("--num-beams", {"sample": {"temperature": 0.0, "num_samples": 1}}, Path.cwd())


def draw_from(
    run: "LoadedRun",
    *,
    json_output: bool = False,
    quiet: bool = False,
    out: Path | None = None,
    way: Way = AS_TEXT,
) -> list[Text]:
    """Draw the texts that the job of a loaded run asks for, show and save them; `quiet` leaves stdout alone.

    Raises:
        ConfigError: A prompt cannot be read, or the model does not know it.
        DataError: Template or profile of the run's chats are damaged.
        StorageError: The texts could not be saved.
    """
    from ml_playground.sampling.texts import draw_texts  # noqa: PLC0415 - as in `sample`

    run, greedy = _without_copies(run)
    settings = run.job.sample
    asked = asked_of(run, way)
    decoder = run.decoder()
    notes = _notes_of(run, decoder, [*greedy, *asked.notes], asked)
    engine = "llama.cpp" if run.job.sample.engine == "llama_cpp" else run.execution.device.type
    typer.echo(heading(run, f"{engine}, {run.precision}"), err=True)
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    texts = [text for question in asked.questions for text in question.texts(settings.num_samples)]
    screen = None if json_output or quiet else Screen(texts)
    prompts = [question.ids for question in asked.questions]
    pieces = draw_texts(decoder, run.tokenizer, prompts, settings, steering=asked.steering)
    with stop_on_signals() as signals:
        texts = gather(pieces, texts, settings.num_samples, screen, signals.requested)
    for line in processor_lines(texts):
        typer.echo(line, err=True)
    place = save(texts, run, notes, as_json=json_output, out=out) if texts else None
    if json_output and not quiet:
        typer.echo(record_of(texts, run, notes, place))
    elif place is not None:
        typer.echo(f"saved: {place}", err=True)
    return texts


def _notes_of(run: "LoadedRun", decoder: "Decoder", notes: Sequence[str], asked: Asked) -> list[str]:
    """What there is to say before the first text, in its order."""
    of_prompts = [note for question in asked.questions for note in question.notes]
    return [*run.notes, *notes, *precision_notes(run, decoder), *of_prompts]


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
        "texts": [
            {
                key: value
                for key, value in asdict(text).items()
                if key != "lead" and (value is not None or key == "score")
            }
            for text in texts
        ],
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
