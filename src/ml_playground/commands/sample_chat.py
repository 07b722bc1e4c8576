"""What `mlp sample` asks a model: texts to go on from, or of a run trained on chats a user's turns."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from ml_playground.commands.sample_texts import Text
from ml_playground.core.chat_facts import has_chat_facts
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.humanise import plural
from ml_playground.core.registry import load_object
from ml_playground.core.values import Message

if TYPE_CHECKING:
    from ml_playground.sampling.chat import ChatPrompter, HeldOutQuestion
    from ml_playground.sampling.runner import LoadedRun
    from ml_playground.sampling.texts import Steering

LOAD_PROMPTER = "ml_playground.sampling.chat:load_prompter"
SHOWN_HELD_OUT = 3
"""Held-out questions that are asked where nobody has another."""


@dataclass(frozen=True, slots=True)
class Way:
    """How prompts of a run trained on chats are meant."""

    system: str | None = None
    """In the place of the run's system prompt; empty: none."""
    raw: bool = False
    """As they are, with nothing around them."""


AS_TEXT = Way()


@dataclass(frozen=True, slots=True)
class Question:
    """What the model reads, and how it is shown."""

    prompt: str
    """As its user wrote it."""
    ids: Sequence[int]
    lead: str
    """Shown before what is drawn."""
    notes: Sequence[str] = ()
    wanted: str | None = None
    """The answer of the data, of a held-out question."""

    def texts(self, samples: int) -> list[Text]:
        """Its continuations, still empty."""
        return [Text(self.prompt, sample, lead=self.lead, wanted=self.wanted) for sample in range(samples)]


@dataclass(frozen=True, slots=True)
class Asked:
    """All questions of a command, and what answers are steered with."""

    questions: Sequence[Question]
    steering: "Steering | None" = None
    """None: as of plain text."""
    notes: Sequence[str] = ()


def prompter_of(run: "LoadedRun", today: date | None = None) -> "ChatPrompter | None":
    """What belongs to the chats of a run; None where it was trained on plain text.

    Args:
        run: Loaded.
        today: The day that system prompts name; none: that of preparing.

    Raises:
        ConfigError: jinja2 is not installed, or the profile cannot be built.
        DataError: The template or chat.json is damaged.
    """
    folder = chat_folder_of(run)
    if folder is None:
        return None
    return load_object(LOAD_PROMPTER)(folder, run.tokenizer, max_context=run.model.max_context, today=today)


def chat_folder_of(run: "LoadedRun") -> Path | None:
    """Where chat.json and its template lie: in a checkpoint with its tokenizer, in an exported model folder beside the weights."""
    folder = run.checkpoint.path / "tokenizer" if run.checkpoint.groups else run.checkpoint.path
    return folder if has_chat_facts(folder) else None


def asked_of(run: "LoadedRun", way: Way) -> Asked:
    """The prompts of a loaded run's job, as its model reads them.

    Raises:
        ConfigError: A prompt cannot be read, or the way does not fit the run.
        DataError: The run's template or profile is damaged, or refuses a prompt.
    """
    prompter = prompter_of(run, local_day())
    if prompter is None:
        return _of_text(run, way)
    from ml_playground.sampling.answers import steering_of  # noqa: PLC0415 - templates need jinja2

    steering = steering_of(prompter, run.job.sample)
    if way.raw:
        if way.system is not None:
            raise ConfigError(
                "--raw takes a prompt as it is, and --system would put something before it; leave one out."
            )
        return Asked([_raw(prompter, text) for text in run.job.sample.prompts], steering)
    if not any(prompt.strip() for prompt in run.job.sample.prompts) and (
        examples := prompter.held_out[:SHOWN_HELD_OUT]
    ):
        note = (
            f"no prompt is set: {plural(len(examples), 'held-out question')} of the data; ask another one with --prompt"
        )
        return Asked([_held_out(prompter, run, way, example) for example in examples], steering, [note])
    note = "prompts are a user's turns, for the run was trained on chats; --raw takes them as they are"
    questions = [_turn(prompter, run, way, prompt, index) for index, prompt in enumerate(run.job.sample.prompts)]
    return Asked(questions, steering, [note])


def local_day() -> date:
    """Today, where the machine stands."""
    return Deps().clock.now().astimezone().date()


def refuse_ways_of_chats(name: str, way: Way) -> None:
    """What a run of plain text can do nothing with.

    Raises:
        ConfigError: It is asked for.
    """
    given = [option for option, is_set in (("--system", way.system is not None), ("--raw", way.raw)) if is_set]
    if given:
        raise ConfigError(
            f"{' and '.join(given)}: for runs trained on chats, and {name} was trained on plain text, which has no turns; "
            "leave it out, and write into --prompt how the text is to begin."
        )


def _of_text(run: "LoadedRun", way: Way) -> Asked:
    refuse_ways_of_chats(run.run.id if run.run else run.checkpoint.reference, way)
    from ml_playground.sampling.prompts import encode_prompt  # noqa: PLC0415 - torch takes seconds

    prompts = [encode_prompt(text, run.tokenizer, run.model.max_context) for text in run.job.sample.prompts]
    questions = [Question(prompt.text, prompt.ids, prompt.text, prompt.notes) for prompt in prompts]
    notes = ["sample.processors = false changes nothing, for the run has no profile"] * (not run.job.sample.processors)
    return Asked(questions, None, notes)


def _raw(prompter: "ChatPrompter", prompt: str) -> Question:
    from ml_playground.sampling.prompts import prompt_text  # noqa: PLC0415 - as above

    text = prompt_text(prompt)
    raw = prompter.raw(text)
    return Question(text, raw.ids, text, raw.notes)


def _turn(prompter: "ChatPrompter", run: "LoadedRun", way: Way, prompt: str, index: int) -> Question:
    from ml_playground.sampling.chat import Turn, shown  # noqa: PLC0415 - templates need jinja2
    from ml_playground.sampling.prompts import prompt_text  # noqa: PLC0415 - as above

    text = prompt_text(prompt)
    messages = prompter.dressed([Message("user", text)], index=index, system=way.system)
    asked = prompter.prompt([Turn(message) for message in messages], room=run.job.sample.max_new_tokens)
    return Question(text, asked.ids, shown([Message("user", text)]), [*prompter.unknown(text), *asked.notes])


def _held_out(prompter: "ChatPrompter", run: "LoadedRun", way: Way, example: "HeldOutQuestion") -> Question:
    from ml_playground.sampling.chat import Turn, shown  # noqa: PLC0415 - templates need jinja2

    messages = example.messages if way.system is None else prompter.dressed(example.messages, system=way.system)
    turns = [Turn(message) for message in messages]
    asked = prompter.prompt(turns, facts=example.facts, room=run.job.sample.max_new_tokens)
    return Question(messages[-1].content, asked.ids, shown(messages), asked.notes, wanted=example.wanted)
