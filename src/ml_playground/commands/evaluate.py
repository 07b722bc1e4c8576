"""`mlp evaluate`: how well a trained model predicts a split, or tells its images apart."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ml_playground.commands.config import job_of_data
from ml_playground.commands.evaluate_images import evaluate_images
from ml_playground.commands.evaluate_pairs import show_pairs
from ml_playground.commands.options import Json, complete_experiment
from ml_playground.commands.sample import Checkpoint, Target, Weights, checkpoint_named, heading
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.humanise import json_text, loss_text, plural
from ml_playground.sampling.recorded import FOR_EVALUATION, sampling_layers

if TYPE_CHECKING:
    from ml_playground.configuration.origins import Layer
    from ml_playground.evaluation.loss import Evaluation, Phase
    from ml_playground.sampling.runner import LoadedRun, Which

EvaluationSets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help=f"Set one of {', '.join(FOR_EVALUATION)}, e.g. --set runtime.device=cpu.",
    ),
]

DataOf = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="EXPERIMENT",
        help="Its prepared data instead of the run's own; also those of a run, or of a file with a job.",
        autocompletion=complete_experiment,
    ),
]

FOR_ANSWERS = (*FOR_EVALUATION, "sample.max_new_tokens", "sample.processors", "sample.precision")
"""What has an effect on answers."""

Profile = Annotated[
    bool,
    typer.Option(
        "--profile", help="Let a run trained on chats answer them, and score the answers as its profile does."
    ),
]
Limit = Annotated[
    int | None, typer.Option("--limit", metavar="N", help="Ask only so many questions, drawn by the run's seed.")
]
Against = Annotated[
    str | None,
    typer.Option("--against", metavar="RUN", help="Ask another run, or `base`, what it was trained from, the same."),
]
Also = Annotated[
    str | None,
    typer.Option(
        "--also",
        metavar="EXPERIMENT",
        help="Its prepared data, too: what training has cost there, against --against or the base.",
        autocompletion=complete_experiment,
    ),
]


def evaluate(
    target: Target,
    split: Annotated[str, typer.Option("--split", metavar="NAME", help="val, train or test.")] = "val",
    checkpoint: Checkpoint = "best",
    weights: Weights = None,
    data: DataOf = None,
    profile: Profile = False,
    limit: Limit = None,
    against: Against = None,
    also: Also = None,
    sets: EvaluationSets = None,
    json_output: Json = False,
) -> None:
    """Loss, perplexity and bits per byte over a whole split, each token once; of images accuracy and what is taken for what.

    Beside the model stand a unigram and a bigram model, counted on the training split: what a model must beat to have
    learned more than which tokens are frequent, and which follow each other. There are no bits per byte where the
    tokenizer does not know some of the text. A model from elsewhere (a Hugging Face folder) needs --data; what was prepared
    must have been prepared with its own tokenizer.

    With --profile a run that was trained on chats answers them, greedily, as its profile asks and steers it, and the answers are
    compared with those that were wanted: exactly, and as the profile compares answers. All numbers have their 95 % interval.
    """
    only_with_profile(profile, {"--limit": limit, "--against": against, "--also": also})
    open_keys = FOR_ANSWERS if profile else FOR_EVALUATION
    layers = sampling_layers(sets or (), {"weights": ("--weights", weights)}, os.environ, open_keys)
    which = checkpoint_named(checkpoint)
    from ml_playground.sampling.classifier import is_classifier  # noqa: PLC0415 - torch takes seconds

    if is_classifier(target):
        if data is not None or profile:
            raise ConfigError(
                f"{'--profile' if profile else '--data'} is for models of text; one that tells images apart is evaluated on its own data."
            )
        evaluate_images(target, split, which=which, layers=layers, json_output=json_output)
        return
    if profile:
        evaluate_chats(target, which, layers, (split, data, limit, against, also), json_output=json_output)
    else:
        evaluate_text(target, split, data, (which, layers), sets or (), json_output=json_output)


def evaluate_text(
    target: str,
    split: str,
    data: str | None,
    chosen: tuple["Which", "Sequence[Layer]"],
    sets: Sequence[str],
    *,
    json_output: bool,
) -> None:
    """Measure the loss of a run on a split, and show it; `chosen`: which checkpoint, and what is laid over its job."""
    from ml_playground.evaluation.loss import evaluate as evaluate_run  # noqa: PLC0415 - torch takes seconds
    from ml_playground.sampling.runner import load_run  # noqa: PLC0415

    which, layers = chosen
    other = None if data is None else job_of_data(data)
    run = load_run(target, which=which, layers=layers, open_keys=FOR_EVALUATION)
    if other is not None:
        from ml_playground.evaluation.other_data import over_data_of  # noqa: PLC0415

        run = over_data_of(run, other)
    dtype = str(run.execution.dtype).removeprefix("torch.")
    typer.echo(heading(run, f"{run.execution.device.type}, {dtype}"), err=True)
    for note in run.notes:
        typer.echo(f"note: {note}", err=True)
    if run.job.data.pairs:
        show_pairs(run, split, json_output=json_output)
        return
    evaluation = evaluate_run(run, split, progress=show_progress)
    if sys.stderr.isatty():
        typer.echo("\r\x1b[K", nl=False, err=True)
    typer.echo(json.dumps(evaluation.as_json()) if json_output else table_of(evaluation))
    if other is None and split == "val" and (note := note_of_difference(run, evaluation, sets)):
        typer.echo(f"note: {note}", err=True)


def evaluate_chats(
    target: str,
    which: "Which",
    layers: "Sequence[Layer]",
    wanted: tuple[str, str | None, int | None, str | None, str | None],
    *,
    json_output: bool,
) -> None:
    """Let a run answer chats, show what came of it, and keep it; `wanted` as `evaluate_answers.Wanted` has it."""
    from ml_playground.commands.answers_text import lines_of  # noqa: PLC0415 - torch takes seconds
    from ml_playground.commands.evaluate_answers import Wanted, evaluate_answers, keep  # noqa: PLC0415
    from ml_playground.sampling.runner import load_run  # noqa: PLC0415

    run = load_run(target, which=which, layers=layers, open_keys=FOR_ANSWERS)
    typer.echo(heading(run, f"{run.execution.device.type}, {run.precision}"), err=True)
    for note in run.notes:
        typer.echo(f"note: {note}", err=True)
    found = evaluate_answers(run, Wanted(*wanted), layers, FOR_ANSWERS)
    if sys.stderr.isatty():
        typer.echo("\r\x1b[K", nl=False, err=True)
    typer.echo(json_text(found.as_json()) if json_output else "\n".join(lines_of(found)))
    keep(run, found)


def only_with_profile(profile: bool, options: Mapping[str, object]) -> None:
    """Refuse what would have no effect.

    Raises:
        ConfigError: An option is given that compares answers, and answers are not asked for.
    """
    given = [name for name, value in options.items() if value is not None]
    if given and not profile:
        raise ConfigError(
            f"{' and '.join(given)} would have no effect without --profile, which lets a run answer its chats."
        )


def note_of_difference(run: "LoadedRun", found: "Evaluation", sets: Sequence[str]) -> str | None:
    """Why the loss is not the one that the run itself measured at this step; nothing where they agree to four decimals."""
    measured = (run.checkpoint.metrics or {}).get("loss")
    if measured is None or loss_text(measured) == loss_text(found.model.loss):
        return None
    batches, data = run.job.train.evaluation_batches, run.job.data
    read = (batches or 0) * getattr(data, "micro_batch_rows", 0) * getattr(data, "sequence_tokens", 0)
    reasons: list[str] = []
    if batches is not None and read < found.targets:
        reasons.append(f"on {plural(batches, 'batch', 'batches')} spread over the split (train.evaluation_batches)")
    if run.weights != (averaged := "ema" if "ema" in run.checkpoint.groups else "raw"):
        reasons.append(f"with the {'averaged' if averaged == 'ema' else 'raw'} weights")
    if changed := [text for text in sets if text.startswith("runtime.")]:
        reasons.append(f"without {' '.join(f'--set {text}' for text in changed)}")
    what = ", ".join(reasons) or "on another machine, or with other threads or versions"
    return f"the run itself measured {loss_text(measured)} at this step, {what}"


def show_progress(phase: "Phase", targets: int) -> None:
    """One line that grows, on a terminal only."""
    if sys.stderr.isatty():
        what = "counted for the baselines" if phase == "counting" else "evaluated"
        typer.echo(f"\r\x1b[K{plural(targets, 'token')} {what}", nl=False, err=True)


def table_of(evaluation: "Evaluation") -> str:
    """Model and baselines, one line each."""
    rows = [("model", evaluation.model), *evaluation.baselines.items()]
    head = f"{evaluation.split} split: {plural(evaluation.targets, 'token')}, {plural(evaluation.text_bytes, 'byte')} of text"
    lines = [f"{'':<10}{'loss':>10}{'perplexity':>14}{'bits/byte':>12}"]
    for name, row in rows:
        bits_per_byte = "-" if row.bits_per_byte is None else f"{row.bits_per_byte:.4f}"
        lines.append(f"{name:<10}{row.loss:>10.4f}{row.perplexity:>14,.2f}{bits_per_byte:>12}")
    if evaluation.unknown_targets:
        lines.append(
            f"note: {evaluation.unknown_targets:,} of {evaluation.targets:,} targets are unknown to the tokenizer; "
            "bits per byte would not count them"
        )
    return "\n".join([head, *lines])
