"""`mlp chat`: talk with a model that was trained on chats."""

import os
import shlex
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ml_playground.commands.chat_talk import Talk, tell
from ml_playground.commands.sample import checkpoint_named, heading
from ml_playground.commands.sample_chat import local_day, prompter_of
from ml_playground.commands.sample_options import (
    OPTIONS,
    Checkpoint,
    Engine,
    MaxNewTokens,
    MinP,
    NoRepeatNgram,
    Precision,
    Processors,
    RecordedSets,
    RepetitionPenalty,
    Seed,
    Stop,
    Target,
    Temperature,
    TopK,
    TopP,
    Weights,
    unfelt,
)
from ml_playground.core.error_handling import ConfigError
from ml_playground.sampling.recorded import sampling_layers

if TYPE_CHECKING:
    from ml_playground.sampling.chat import ChatPrompter
    from ml_playground.sampling.runner import LoadedRun

System = Annotated[
    str | None, typer.Option("--system", metavar="TEXT", help="In the place of the run's system prompt; '' for none.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for each answer instead of text.")]
NOT_HERE = ("num_samples", "num_beams", "length_penalty")
"""A turn has one answer, and it is drawn."""


def chat(
    target: Target,
    system: System = None,
    max_new_tokens: MaxNewTokens = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    min_p: MinP = None,
    repetition_penalty: RepetitionPenalty = None,
    no_repeat_ngram: NoRepeatNgram = None,
    stop: Stop = None,
    seed: Seed = None,
    checkpoint: Checkpoint = "best",
    weights: Weights = None,
    precision: Precision = None,
    engine: Engine = None,
    processors: Processors = None,
    sets: RecordedSets = None,
    json_output: Json = False,
) -> None:
    """Talk with a model that was trained on chats; what it answers appears as it is drawn.

    The run's own template, system prompt, profile and processors are used, and the settings that it recorded, but for the
    options given here. Each line is a turn; /help lists commands such as /system, /undo, /retry and /save. Ctrl-C ends an answer,
    twice leaves; so does Ctrl-D. Answers go to stdout, everything else to stderr; piped lines are answered one after the other.
    """
    given = locals()
    options: dict[str, tuple[str, Any]] = {
        key: (f"--{key.replace('_', '-')}", given[key]) for key in OPTIONS if key not in NOT_HERE
    }
    options |= {"stop": ("--stop", stop or None)}
    layers = sampling_layers(sets or (), options, os.environ)
    which = checkpoint_named(checkpoint)
    from ml_playground.sampling.runner import load_run  # noqa: PLC0415 - torch takes seconds; refusals come first

    run = load_run(target, which=which, layers=layers)
    prompter = prompter_of(run, local_day())
    if prompter is None:
        raise ConfigError(_no_chats(run))
    run = replace(run, notes=[*run.notes, *unfelt(layers, run.job.sample.model_copy(update={"num_beams": 1}))])
    _talk_of(run, prompter, system, json_output=json_output).run()


def _talk_of(run: "LoadedRun", prompter: "ChatPrompter", system: str | None, *, json_output: bool) -> Talk:
    """Ready to begin, with what there is to say first."""
    from ml_playground.sampling.conversation import Conversation  # noqa: PLC0415 - templates need jinja2

    conversation = Conversation(run.decoder(), prompter, run.job.sample, system=system)
    name = "llama.cpp" if run.job.sample.engine == "llama_cpp" else run.execution.device.type
    tell(heading(run, f"{name}, {run.precision}"))
    for note in run.notes:
        tell(f"note: {note}")
    if run.job.sample.num_beams > 1:
        tell(
            "note: sample.num_beams has no say in a chat: answers are drawn, at temperature 0 the likeliest token each"
        )
    return Talk(conversation, sys.stdin, as_json=json_output)


def _no_chats(run: "LoadedRun") -> str:
    """Why nobody can chat with it, and what to do."""
    if run.checkpoint.groups:
        name = run.run.id if run.run else run.checkpoint.reference
        why = f"{name} was trained on plain text: it carries no chat.json that says how turns are written, so nobody can chat with it."
    else:
        name = shlex.quote(run.checkpoint.reference)
        why = _no_chats_elsewhere(run)
    return f"{why} Let it go on from a text: mlp sample {name} --prompt 'Once upon a time'. To train on chats: docs/chats.md."


def _no_chats_elsewhere(run: "LoadedRun") -> str:
    folder = run.checkpoint.reference
    if getattr(run.tokenizer, "chat_template", None) is None:
        return (
            f"{folder} is a model from elsewhere with neither a chat template nor the chat.json that says what ends an answer, "
            "so nobody can chat with it."
        )
    return (
        f"{folder} is a model from elsewhere: it has a chat template, but no chat.json that says what ends an answer, and that is not "
        "guessed here. A folder of a run of yours gets one when it is written anew (mlp merge, mlp export); to any other model it "
        "comes by training on chats, with prepare.chat.template = 'auto', which takes this very template."
    )
