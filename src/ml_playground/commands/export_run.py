"""A loaded run as `mlp export` needs it: the model as it is run, rows to compare, and what the card says of it."""

import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ml_playground.commands.sample_chat import chat_folder_of
from ml_playground.configuration import families
from ml_playground.configuration.fingerprint import existing_data, prepared_folder
from ml_playground.configuration.sample_settings import SampleSettings
from ml_playground.core.chat_facts import NAME, TEMPLATE_NAME, json_of, read_chat_facts
from ml_playground.core.error_handling import DataError
from ml_playground.core.humanise import plural
from ml_playground.core.registry import load_object
from ml_playground.core.values import ChatExample
from ml_playground.export.card import Origin, card_of
from ml_playground.export.hugging_face import Exportable, Report, export_folder
from ml_playground.export.model_folder import Dtype
from ml_playground.export.parity import Ids, Probe
from ml_playground.models.protocols import Decoder
from ml_playground.models.weights.shards import LARGEST_FILE_BYTES
from ml_playground.sampling.generate import generate
from ml_playground.sampling.runner import LoadedRun
from ml_playground.sampling.texts import stop_ids

ROWS = 8
"""Rows that are compared."""
ROW_CHARACTERS = 1200
"""Of a row of text: more than the tokens whose logits are compared."""
PROMPT_TOKENS = 16
"""Of a row of text, after which a greedy text begins."""
MOST_CHATS = 100
"""That are looked at for rows to compare."""
ANY_TEXT = (
    "The quick brown fox jumps over the lazy dog, 1234567890 times; it's \"done\".\n\n    return {'a': [1, 2.5]}  # so\n",
    "Fünf Wörter über Größe: naïve café, 你好, привет, \N{HORSE}\N{ZERO WIDTH JOINER}\N{SNOWFLAKE} <s> </s>\t\r\n end",
)
"""Where there are no data: signs of every sort."""


class Rows(NamedTuple):
    """What is compared, and where it comes from."""

    probes: Sequence[Probe]
    source: str


class TrainedModel:
    """The model of a run, in float32, as drawing has it."""

    def __init__(self, model: Any, stops: frozenset[int]) -> None:
        self._model = model
        self._stops = stops

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end a text."""
        return self._stops

    @property
    def max_context(self) -> int | None:
        """Tokens that it reads at once; none: any number."""
        return self._model.max_context

    # A decoder is a snapshot: it is made for the first text, when the weights are those of the folder already.
    @cached_property
    def _decoder(self) -> Decoder:
        return self._model.decoder("float32")

    def logits(self, ids: Ids) -> Tensor:
        """(T, V)."""
        with torch.inference_mode():
            return self._model(torch.tensor([list(ids)]))[0].float()

    def greedy(self, prompt: Ids, new_tokens: int) -> Ids:
        """What `mlp sample` draws at temperature 0, as ids."""
        settings = SampleSettings(temperature=0.0, max_new_tokens=new_tokens, num_samples=1)
        steps = generate(self._decoder, [list(prompt)], settings, seeds=[0], stop_ids=self._stops)
        return [token.id for tokens in steps for token in tokens]


@contextmanager
def exportable(run: LoadedRun, *, with_tokenizer: bool) -> Generator[Exportable]:
    """The model of a run with its tokenizer's folder."""
    with tempfile.TemporaryDirectory() as written:
        folder = run.checkpoint.path / "tokenizer"
        if not folder.is_dir():
            # A model from elsewhere, whose folder is no checkpoint.
            folder = Path(written)
            run.tokenizer.save(folder)
            if (chats := chat_folder_of(run)) is not None:
                from ml_playground.core.chat_template import ChatTemplate  # noqa: PLC0415 - jinja2 is needed for chats alone

                (folder / NAME).write_bytes(read_chat_facts(chats).text.encode())
                (folder / TEMPLATE_NAME).write_bytes(ChatTemplate.load(chats).text.encode())
        specials = run.tokenizer.specials
        yield Exportable(
            kind=run.job.model.kind_name,
            model=run.model,
            trained=TrainedModel(run.model, stops_of(run)),
            tokenizer=folder if with_tokenizer else None,
            bos=specials.bos,
            pad=specials.pad,
            adapted=getattr(run.job.model, "adapter", None) is not None,
            unknown=range(run.tokenizer.vocab_size, run.model.vocab_size),
        )


def written(
    run: LoadedRun,
    place: Path,
    typed: str,
    *,
    dtype: Dtype,
    progress: Callable[[str], None],
    with_tokenizer: bool = True,
    largest_file_bytes: int = LARGEST_FILE_BYTES,
    sources: Mapping[str, str] | None = None,
) -> Report:
    """Write the folder of a run and compare it; `typed` is the command for its card, the rest and the errors are `export_folder`'s."""
    rows = rows_of(run)
    with exportable(run, with_tokenizer=with_tokenizer) as what:
        return export_folder(
            what,
            place,
            probes=rows.probes,
            compared=rows.source,
            card=lambda report: card_of(origin_of(run, typed, what), report),
            dtype=dtype,
            largest_file_bytes=largest_file_bytes,
            sources=sources,
            progress=progress,
        )


def sources_of(run: LoadedRun) -> Mapping[str, Path]:
    """The folders that a run is read from, by what they are."""
    base: Path | None = getattr(run.job.model, "path", None)
    return {
        ("the checkpoint" if run.checkpoint.groups else "the model"): run.checkpoint.path,
        **({} if run.run is None else {"the run's checkpoints": run.run.checkpoints}),
        **({} if base is None else {"the base that the model was trained from": base}),
        "the prepared data": prepared_folder(run.job.prepare),
    }


def stops_of(run: LoadedRun) -> frozenset[int]:
    """Ids that end what the run writes."""
    folder = chat_folder_of(run)
    if folder is None:
        return frozenset(stop_ids(run.tokenizer))
    return frozenset(read_chat_facts(folder, vocab_size=run.tokenizer.vocab_size).stop_ids)


def rows_of(run: LoadedRun) -> Rows:
    """Rows that both sides read: chats of a run that was trained on such, else text."""
    folder = chat_folder_of(run)
    probes = [] if folder is None else list(islice(_chat_rows(run, folder), ROWS))
    return Rows(probes, f"{plural(len(probes), 'held-out chat')} of the run") if probes else _rows_of_text(run)


def _chat_rows(run: LoadedRun, folder: Path) -> Iterator[Probe]:
    """Held-out chats up to their last answer, and with it."""
    from ml_playground.core.chat_encoding import ChatEncoder  # noqa: PLC0415 - jinja2 is needed for chats alone
    from ml_playground.core.chat_template import ChatTemplate  # noqa: PLC0415

    template, encoder = ChatTemplate.load(folder), ChatEncoder(run.tokenizer)
    for example in islice(_held_out(folder), MOST_CHATS):
        tools = example.facts.get("tools")
        before, whole = example.messages[:-1], template.rendered(example.messages, tools=tools)
        prompt = template.rendered(before, add_generation_prompt=True, tools=tools)
        # What a message says in the words of a special token is text here; that library takes it for the token.
        if whole.literal or not before:
            continue
        ids, row = encoder.ids(prompt), encoder.ids(whole)
        if len(row) <= (run.model.max_context or len(row)) and row[: len(ids)] == ids:
            yield Probe(example.id, row, len(ids), messages=list(map(json_of, before)), tools=tools)


def _held_out(folder: Path) -> Iterable[ChatExample]:
    return [chat.example for chat in read_chat_facts(folder).held_out]


def _rows_of_text(run: LoadedRun) -> Rows:
    """Of the validation text, where it is prepared here; else of a text that holds signs of every sort."""
    try:
        text = next(iter(load_object(families.SPLIT_TEXT)(existing_data(run.job), "val")), "")
        source = "the run's validation text"
    except DataError:
        text, source = "", "a text made up for it, for there is no validation text here"
    size = max(1, min(ROW_CHARACTERS, -(-len(text) // ROWS)))
    pieces = [text[first : first + size] for first in range(0, len(text), size)]
    probes: list[Probe] = []
    for number, piece in enumerate((pieces or ANY_TEXT)[:ROWS]):
        if ids := run.tokenizer.encode(piece):
            probes.append(Probe(f"row {number}", ids, min(PROMPT_TOKENS, len(ids)), piece))
    return Rows(probes, f"{plural(len(probes), 'row')} of {source}")


def origin_of(run: LoadedRun, typed: str, what: Exportable) -> Origin:
    """What the card says of a run."""
    job, profile, progress = run.job, run.job.prepare.profile, run.checkpoint.progress
    base: Path | None = getattr(job.model, "path", None)
    stated = job.model.model_dump(exclude_defaults=True, exclude={"kind", "path", "config", "files_sha256", "weights"})
    details = ", ".join(f"{name} = {value}" for name, value in stated.items() if isinstance(value, int | float | str))
    fingerprint = run.checkpoint.data_fingerprint[:12]
    evaluated = "ema" if "ema" in run.checkpoint.groups else "raw"
    return Origin(
        name=job.name,
        run=run.run.id if run.run else "",
        model=f"{job.model.kind_name}{f' ({details})' if details else ''}",
        parameters=sum(parameter.numel() for parameter in run.model.parameters()),
        data=f"{job.prepare.source.kind_name} (fingerprint {fingerprint})" if fingerprint else "",
        tokenizer=f"{job.prepare.tokenizer.kind_name}, {run.tokenizer.vocab_size:,} ids"
        if job.prepare.tokenizer
        else "",
        step=progress.step,
        max_steps=progress.max_steps,
        targets=round(progress.targets),
        weights=run.weights,
        loss=(run.checkpoint.metrics or {}).get("loss") if run.weights == evaluated else None,
        base=base.name if base is not None else None,
        typed=typed,
        with_tokenizer=what.tokenizer is not None,
        chat=chat_folder_of(run) is not None,
        profile=None if profile is None or profile.kind_name == "none" else profile.kind_name,
    )
