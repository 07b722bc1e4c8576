"""`mlp evaluate --profile`: answers of a model to its chats, scored as the run's profile scores them, with intervals; kept in the run."""

import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from ml_playground.commands.answers_text import Found
from ml_playground.commands.config import job_of_data
from ml_playground.commands.sample_chat import chat_folder_of
from ml_playground.core.atomic import write_file
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.humanise import json_text
from ml_playground.evaluation.answer_loss import RowLosses, losses_of
from ml_playground.evaluation.answers import Compared, Given, answered, answers_to, compared, worst
from ml_playground.evaluation.base import base_of, has_base
from ml_playground.evaluation.forgetting import forgetting_of
from ml_playground.evaluation.questions import Asked, asked_of, chats_of
from ml_playground.sampling.chat import ChatPrompter, load_prompter
from ml_playground.sampling.runner import LoadedRun, load_run

if TYPE_CHECKING:
    from ml_playground.configuration.origins import Layer
    from ml_playground.data_pipeline.chats.chat_dataset import PreparedChats

BASE = "base"


class Wanted(NamedTuple):
    """What was typed."""

    split: str
    data: str | None
    limit: int | None
    against: str | None
    also: str | None


def evaluate_answers(run: LoadedRun, wanted: Wanted, layers: "Sequence[Layer]", open_keys: Sequence[str]) -> Found:
    """Ask, score, compare.

    Raises:
        ConfigError: There are no chats, no base, or nothing to compare with.
        DataError: The data are not prepared, or of another tokenizer.
    """
    other = None if wanted.data is None else job_of_data(wanted.data)
    also = None if wanted.also is None else job_of_data(wanted.also)
    chats = chats_of(run, other)
    asked = asked_of(chats, wanted.split, wanted.limit, run.job.seed)
    if wanted.limit is not None and wanted.limit < 1:
        raise ConfigError(
            f"--limit {wanted.limit} asks nothing; give the number of questions, or leave it out for all."
        )
    if also is not None and wanted.against is None and not has_base(run):
        raise ConfigError(
            f"--also compares with what the model was before, and {run.job.name!r} began with random weights; "
            "name the run to compare with: --against RUN"
        )
    there = None
    if wanted.against is not None or also is not None:
        there = _other_model(run, wanted.against or BASE, layers, open_keys)
    given, losses = _asked(run, _prompter(run, chats), chats, asked, wanted.split, run.job.name)
    against = None
    if there is not None and wanted.against is not None:
        against = _against(wanted.against, there, run, chats, asked, wanted.split, given, losses)
    forgetting = None
    if there is not None and also is not None:
        forgetting = forgetting_of(there, run, also, "val", _counter("tokens of other data read"))
    return Found(
        checkpoint=run.checkpoint.reference,
        step=run.checkpoint.progress.step,
        weights=run.weights,
        data=(run.job if other is None else other).name,
        split=wanted.split,
        asked=asked,
        answered=answered(given, losses, run.job.seed),
        against=against,
        forgetting=forgetting,
        mistakes=worst(given),
    )


def keep(run: LoadedRun, found: Found) -> None:
    """Write `evaluations/answers/<split>.json` of the run, if it is one.

    Raises:
        StorageError: It could not be written.
    """
    if run.run is not None:
        place = run.run.evaluations / "answers" / f"{found.split}.json"
        write_file(place, json.dumps(json.loads(json_text(found.as_json())), indent=1, ensure_ascii=False) + "\n")
        typer.echo(f"saved: {place}", err=True)


def _prompter(run: LoadedRun, chats: "PreparedChats") -> ChatPrompter:
    """Questions are asked as the data say, on the day of preparing."""
    tokenizer: Any = run.tokenizer
    return load_prompter(chats.tokenizer_folder, tokenizer, max_context=run.model.max_context)


def _asked(
    run: LoadedRun, prompter: ChatPrompter, chats: "PreparedChats", asked: Asked, split: str, name: str
) -> tuple[list[Given], RowLosses]:
    given = answers_to(run, prompter, asked.questions, progress=_counter(f"questions answered by {name}"))
    numbers = [question.row for question in asked.questions]
    return given, losses_of(run, chats.rows(split), numbers, _counter(f"rows read by {name}"))


def _other_model(run: LoadedRun, target: str, layers: "Sequence[Layer]", open_keys: Sequence[str]) -> LoadedRun:
    return base_of(run) if target == BASE else load_run(target, layers=layers, open_keys=open_keys)


def _against(
    name: str,
    there: LoadedRun,
    run: LoadedRun,
    chats: "PreparedChats",
    asked: Asked,
    split: str,
    given: Sequence[Given],
    losses: RowLosses,
) -> Compared:
    """The other model on the same questions; with a tokenizer of its own it is asked by its own template, and reads no rows of ours."""
    seed = run.job.seed
    if there.tokenizer.fingerprint == run.tokenizer.fingerprint:
        theirs, others = _asked(there, _prompter(there, chats), chats, asked, split, name)
        return compared(name, given, theirs, losses, others, seed)
    folder = chat_folder_of(there)
    if folder is None:
        raise ConfigError(
            f"{name} has another tokenizer than {run.job.name!r} and was not trained on chats, so nobody knows how to ask it; "
            "name a run that was trained on chats."
        )
    tokenizer: Any = there.tokenizer
    prompter = load_prompter(folder, tokenizer, max_context=there.model.max_context)
    theirs = answers_to(there, prompter, asked.questions, progress=_counter(f"questions answered by {name}"))
    return compared(name, given, theirs, losses, None, seed)


def _counter(what: str) -> Callable[[int], None]:
    """One line that grows, on a terminal only."""

    def show(done: int) -> None:
        if sys.stderr.isatty():
            typer.echo(f"\r\x1b[K{done:,} {what}", nl=False, err=True)

    return show
