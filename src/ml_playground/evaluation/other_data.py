"""A trained model over data that it was not trained on, and one from elsewhere over any."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from ml_playground.configuration import families
from ml_playground.configuration.fingerprint import existing_data
from ml_playground.configuration.models import JobConfig
from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.core.registry import load_object
from ml_playground.core.tokenizer_protocol import Tokenizer
from ml_playground.evaluation.same_tokens import mean_the_same
from ml_playground.sampling.preview import LOAD_TOKENIZER
from ml_playground.sampling.runner import LoadedRun

COMPARED_BATCHES = 4
"""Training batches' worth of text that two tokenizers are to cut alike: some ten thousand tokens."""


def over_data_of(run: LoadedRun, job: JobConfig) -> LoadedRun:
    """The same model with the prepared data of another job; rows that are too long for it become shorter, which is noted.

    Raises:
        ConfigError: They are images.
        DataError: They are not prepared, or of another tokenizer.
    """
    if job.prepare.source.modality == "images":
        name = run.run.id if run.run else run.checkpoint.reference
        raise ConfigError(
            f"{job.name} holds images, {name} reads text: --data takes an experiment whose source is text; to see how well "
            f"a classifier does: mlp evaluate {job.name}"
        )
    settings, notes = job.data, list(run.notes)
    wanted, most = getattr(settings, "sequence_tokens", None), run.model.max_context
    if wanted is not None and most is not None and most < wanted:
        settings = settings.model_copy(update={"sequence_tokens": most})
        notes.append(
            f"the model reads {most} tokens at once, so they are evaluated in rows of that length and not of {wanted}"
        )
    data: Any = load_object(families.DATA[settings.kind_name].build)(settings, existing_data(job), job.seed)
    tokenizer: Tokenizer = load_object(LOAD_TOKENIZER)(data.attachments["tokenizer"])
    if not mean_the_same(tokenizer, run.tokenizer, _some_rows(data)):
        raise DataError(
            f"The data of {job.name!r} were prepared with another tokenizer ({tokenizer.vocab_size} ids, fingerprint "
            f"{tokenizer.fingerprint[:12]}) than that of {run.checkpoint.reference} ({run.tokenizer.vocab_size} ids, "
            f"{run.tokenizer.fingerprint[:12]}): the ids mean other texts. Prepare the text with the model's own tokenizer."
        )
    return replace(
        run,
        job=run.job.model_copy(update={"prepare": job.prepare, "data": settings, "seed": job.seed}),
        checkpoint=replace(run.checkpoint, data_fingerprint=data.fingerprint),
        notes=notes,
    )


def _some_rows(data: Any) -> Iterator[Sequence[int]]:
    """Ids of the validation part, spread over all of it."""
    for batch in data.split("val", max_batches=COMPARED_BATCHES):
        yield from getattr(batch, "tokens", batch).ids.tolist()
