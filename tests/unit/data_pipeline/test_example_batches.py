"""Batches over chats on disk: what the engine asks of data, and what is refused before a run begins."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from ml_playground.configuration import families
from ml_playground.core.error_handling import DataError
from ml_playground.core.registry import load_object
from ml_playground.core.values import Fates
from ml_playground.data_pipeline.batches import NO_TARGET
from ml_playground.data_pipeline.chats.chat_dataset import PreparedChats
from ml_playground.data_pipeline.sampling.example_batches import ChatData, build_packed, build_padded
from ml_playground.data_pipeline.settings import PackedExamples, PaddedExamples
from ml_playground.tokenization.loading import load_tokenizer
from ml_playground.training.protocols import KnowsItsLargest, TellsRows
from tests.fakes.prepared_chats import prepared_chats

KINDS = {"padded_examples": (PaddedExamples, build_padded), "packed_examples": (PackedExamples, build_packed)}


@pytest.fixture
def prepared(tmp_path: Path) -> PreparedChats:
    """Twelve chats, nine of them to train on."""
    return prepared_chats(tmp_path)


def data_of(prepared: PreparedChats, kind: str, **settings: Any) -> ChatData:
    """Batches of two rows of 80 tokens, if nothing else is said."""
    kinds: Any = KINDS[kind]
    return kinds[1](kinds[0](**{"sequence_tokens": 80, "micro_batch_rows": 2} | settings), prepared.folder, 7)


@pytest.mark.parametrize("kind", KINDS)
def test_build_says_what_the_engine_asks(prepared: PreparedChats, kind: str) -> None:
    """Facts for the model, what a checkpoint carries, and whose data they are."""
    data = data_of(prepared, kind)
    assert data.facts == {"vocab_size": prepared.manifest.vocab_size, "sequence_tokens": 80}
    assert data.attachments == {"tokenizer": prepared.tokenizer_folder}
    assert data.fingerprint == prepared.fingerprint
    with data.reading_ahead(torch.device("cpu")):
        assert torch.equal(data.train.batch_at(3).ids, data_of(prepared, kind).train.batch_at(3).ids)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("truncation", ["drop", "left", "right", "split"])
def test_fates_of_prepared_chats_are_what_their_batches_hold(
    prepared: PreparedChats, kind: str, truncation: str
) -> None:
    """Of the whole way: prepared on disk, cut by the real builder, every split counted over one epoch."""
    settings = {"sequence_tokens": 40, "truncation": truncation, "order": "sequential"}
    data = data_of(prepared, kind, **settings)
    asked: Any = KINDS[kind][0](**{"micro_batch_rows": 2} | settings)
    fates: Mapping[str, Fates] = load_object(families.DATA[kind].fates)(asked, prepared.folder)
    rows = round(2 * data.micro_batches_per_epoch)
    epoch = [data.train.batch_at(index) for index in range(-(-rows // 2))]
    labels = [row for batch in epoch for row in batch.labels][:rows]
    held = {"train": sum(int((row != NO_TARGET).sum()) for row in labels)}
    held["val"] = sum(int((batch.labels != NO_TARGET).sum()) for batch in data.split("val"))
    for split, trained in held.items():
        assert fates[split].trained == trained
        assert fates[split].tokens == fates[split].accounted == prepared.manifest.sizes[split]
    assert fates["train"].batches == data.micro_batches_per_epoch
    assert (fates["train"].truncated > 0) == (truncation in ("left", "right"))


@pytest.mark.parametrize("kind", KINDS)
def test_largest_micro_batch_needs_as_much_as_any(prepared: PreparedChats, kind: str) -> None:
    """The flight check tries the one with the longest rows, and of these the one with the most targets."""
    data = data_of(prepared, kind)
    assert isinstance(data, KnowsItsLargest)

    def need(index: int) -> tuple[int, int]:
        labels = data.train.batch_at(index).labels
        return labels.shape[1], int((labels != NO_TARGET).sum())

    batches = range(-(-round(2 * data.micro_batches_per_epoch) // 2))
    assert need(data.largest_micro_batch) == max(map(need, batches))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_at_names_the_chats_of_each_row(prepared: PreparedChats, kind: str) -> None:
    """A person finds the lines of the source behind a bad step; over an epoch every chat is named once."""
    data = data_of(prepared, kind)
    assert isinstance(data, TellsRows)
    rows = round(2 * data.micro_batches_per_epoch)
    told = [row for index in range(-(-rows // 2)) for row in data.rows_at(index)][:rows]
    assert [row["position"] for row in told] == list(range(rows))
    assert {row["epoch"] for row in told} == {0}
    names = Counter(name for row in told for name in row["chats"])
    assert names == Counter(f"chats.jsonl:{line}" for line in range(1, 10))
    assert sum(row["targets"] for row in told) == prepared.manifest.ledger.splits["train"].trained
    first = data.train.batch_at(0)
    decode = load_tokenizer(prepared.tokenizer_folder).decode
    assert decode(first.ids[0, :5].tolist()) == told[0]["text"][:5]


@pytest.mark.parametrize("kind", KINDS)
def test_build_chats_too_long_are_named_with_what_would_hold_them(prepared: PreparedChats, kind: str) -> None:
    """As it comes nothing is cut in silence: lines, lengths, and every way out."""
    with pytest.raises(DataError) as caught:
        data_of(prepared, kind, sequence_tokens=40)
    text = str(caught.value)
    assert "data.sequence_tokens = 40 is too short for some of the chats (2 of 9 in train, 1 of 3 in val)" in text
    assert "chats.jsonl:4 (60 tokens)" in text
    assert "--set data.sequence_tokens=59" in text
    assert "--set data.truncation=split makes several rows of them" in text
    data_of(prepared, kind, sequence_tokens=59)


@pytest.mark.parametrize("kind", KINDS)
def test_build_with_nothing_left_says_what_became_of_it(prepared: PreparedChats, kind: str) -> None:
    """A policy that leaves no target is refused."""
    with pytest.raises(
        DataError, match="No chat of the split 'train' .* has a target in the 4 tokens that a row holds"
    ):
        data_of(prepared, kind, sequence_tokens=3, truncation="right")


@pytest.mark.parametrize("kind", KINDS)
def test_split_that_is_not_there_is_refused(prepared: PreparedChats, kind: str) -> None:
    """By its name, at once."""
    with pytest.raises(DataError, match="has no split 'test'"):
        data_of(prepared, kind).split("test")


def test_file_written_into_while_it_is_trained_on_ends_the_run(tmp_path: Path) -> None:
    """Weights are looked after as tokens are."""
    prepared = prepared_chats(tmp_path)
    data = data_of(prepared, "padded_examples")
    data.train.batch_at(0)
    with (prepared.folder / "train.weights").open("r+b") as stream:
        stream.write(b"\x01")
    with pytest.raises(DataError, match=r"train\.weights was written into while it was trained on"):
        data.train.batch_at(1)
