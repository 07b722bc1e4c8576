"""What a model is asked: prepared chats up to their last answer, and that answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml_playground.configuration.fingerprint import existing_data
from ml_playground.configuration.models import JobConfig
from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.core.registry import load_object
from ml_playground.core.seeding import seed_for
from ml_playground.core.values import Message
from ml_playground.data_pipeline.chats.chat_dataset import PreparedChats, open_chats
from ml_playground.evaluation.same_tokens import mean_the_same
from ml_playground.sampling.preview import LOAD_TOKENIZER
from ml_playground.sampling.runner import LoadedRun

COMPARED_CHATS = 100
"""Chats that two tokenizers are to cut alike."""


@dataclass(frozen=True, slots=True)
class Question:
    """A prepared chat."""

    row: int
    """Which one of the split, whose tokens and weights lie there."""
    id: str
    """Its place in the source."""
    messages: tuple[Message, ...]
    """Up to the last answer."""
    wanted: str
    """That answer."""
    facts: Mapping[str, Any]
    """What the row says of itself: level, domain."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The questions of a split."""

    questions: Sequence[Question]
    of: int
    """How many there were to choose from."""
    unanswered: int
    """Chats whose last message is none of the assistant: there is nothing to compare with."""


def chats_of(run: LoadedRun, other: JobConfig | None) -> PreparedChats:
    """The prepared chats of a run, or those of another job.

    Raises:
        ConfigError: There are no chats.
        DataError: They are not prepared, are others than the run's, or of another tokenizer.
    """
    job = run.job if other is None else other
    if job.prepare.source.modality != "chats":
        raise ConfigError(
            f"--profile compares answers, and the data of {job.name!r} are no chats (prepare.source.kind = "
            f"{job.prepare.source.kind_name!r}). Without --profile the loss on them is measured; --data EXPERIMENT names chats."
        )
    if job.data.pairs:
        raise ConfigError(
            f"--profile compares an answer with the one that was wanted, and the data of {job.name!r} are pairs of two answers. Without "
            "--profile it is counted how many pairs are told apart; --data EXPERIMENT names chats."
        )
    chats = open_chats(existing_data(job))
    trained_on = run.checkpoint.data_fingerprint
    if other is None and chats.fingerprint != trained_on:
        raise DataError(
            f"{run.checkpoint.reference} was trained on other chats (fingerprint {trained_on[:12]}) than now lie in "
            f"{chats.folder} ({chats.fingerprint[:12]}); prepare the former ones again, or name these: --data EXPERIMENT"
        )
    held = chats.rows("val")
    some = (held.ids(row).tolist() for row in range(min(len(held), COMPARED_CHATS)))
    if not mean_the_same(load_object(LOAD_TOKENIZER)(chats.tokenizer_folder), run.tokenizer, some):
        raise DataError(
            f"The chats of {job.name!r} were prepared with another tokenizer than that of {run.checkpoint.reference}, so that the ids "
            "mean other texts. Prepare them with the model's own tokenizer."
        )
    return chats


def asked_of(chats: PreparedChats, split: str, limit: int | None, seed: int) -> Asked:
    """The questions of a split, in its order; with a limit so many of them, drawn by the seed.

    Raises:
        DataError: There is no such split, or no question in it.
    """
    found: list[Question] = []
    rows = 0
    for row, chat in enumerate(chats.chats(split)):
        # Of a pair the first row holds the better answer.
        if chats.manifest.pairs and row % 2:
            continue
        rows += 1
        *before, last = chat.messages
        if before and last.role == "assistant":
            found.append(Question(row, chat.id, tuple(before), last.content, chat.facts))
    if not found:
        raise DataError(f"No chat of the {split} split of {chats.folder} ends with an answer; there is nothing to ask.")
    chosen = found
    if limit is not None and limit < len(found):
        places = np.random.default_rng(seed_for(seed, "questions")).permutation(len(found))[:limit]
        chosen = [found[place] for place in sorted(map(int, places))]
    return Asked(chosen, len(found), rows - len(found))
