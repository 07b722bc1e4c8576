"""Options of `mlp sample` and of what else loads a trained model: one wording for each."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from ml_playground.commands.options import complete_experiment
from ml_playground.configuration.origins import Layer
from ml_playground.configuration.sample_settings import SampleSettings

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
        "--num-beams",
        help="Search for the likeliest texts instead of drawing, at temperature 0; one a prompt, or --num-samples.",
    ),
]
LengthPenalty = Annotated[
    float | None,
    typer.Option("--length-penalty", help="Of a beam search; above 0 longer texts gain, below shorter ones."),
]
Processors = Annotated[
    bool | None,
    typer.Option(
        "--processors/--no-processors",
        help="Steer answers as the profile of a run trained on chats does.",
        show_default="as the run recorded",
    ),
]
System = Annotated[
    str | None,
    typer.Option(
        "--system", metavar="TEXT", help="Of a run trained on chats: in the place of its system prompt; '' for none."
    ),
]
Raw = Annotated[
    bool, typer.Option("--raw", help="Of a run trained on chats: take prompts as they are, not as a user's turns.")
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
    *("num_beams", "length_penalty", "seed", "weights", "precision", "engine", "processors"),
)
"""Keys of `[sample]` that have an option of their own name."""

OF_DRAWING = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}
"""Keys of `[sample]` that choose among tokens to draw from, and where each of them is off."""


def unfelt(layers: Sequence[Layer], settings: SampleSettings) -> Iterator[str]:
    """A note for each option that was typed and has no effect, for nothing is drawn; what a run recorded is not mentioned."""
    if settings.temperature > 0:
        return
    why = "beams are not drawn" if settings.num_beams > 1 else "at temperature 0 the likeliest token is taken"
    for key, off in OF_DRAWING.items():
        typed = [layer.name for layer in layers if layer.name.startswith("--") and key in layer.table.get("sample", {})]
        value = getattr(settings, key)
        if typed and value != off:
            name = f"--set sample.{key}" if typed[-1] == "--set" else typed[-1]
            yield f"{name} {value:g} has no effect: {why}"
