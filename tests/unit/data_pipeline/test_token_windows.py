"""Windows over a prepared data set: what batches hold, and what is said when the text is too short."""

import re
import sys
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ml_playground.core.error_handling import DataError
from ml_playground.data_pipeline.batches import NO_TARGET
from ml_playground.data_pipeline.sampling.epoch_order import MOST_TRAINING_BATCHES as FOUR
from ml_playground.data_pipeline.sampling.epoch_order import TOKENS_AT_ONCE, rows_without_gradient
from ml_playground.data_pipeline.sampling.token_windows import TokenWindowData, build
from ml_playground.data_pipeline.settings import TokenWindows
from ml_playground.data_pipeline.text_dataset import PreparedText
from tests.fakes.prepared_text import prepared_text

TEXT = "the quick brown fox jumps over the lazy dog, and the dog sleeps on. "
EIGHTEEN = "abcdefghijabcdefghvalval"
"""A quarter of it kept for validation, 18 bytes to train on."""


def data_over(folder: Path, text: str, *, prepare: dict[str, Any] | None = None, **settings: Any) -> TokenWindowData:
    """Batches of a text."""
    prepared = prepared_text(folder, text, **({"tokenizer": "byte"} | (prepare or {})))
    return build(TokenWindows.model_validate(settings), prepared.folder, 17)


def test_facts_name_vocabulary_and_length(tmp_path: Path) -> None:
    """What a model is built from."""
    data = data_over(tmp_path, TEXT, sequence_tokens=4)
    assert data.facts == {"vocab_size": 257, "sequence_tokens": 4}


def test_attachments_and_fingerprint_are_those_of_the_data_set(tmp_path: Path) -> None:
    """A checkpoint carries the tokenizer; a run goes on with the same data only."""
    prepared = prepared_text(tmp_path, TEXT)
    data = build(TokenWindows(sequence_tokens=4), prepared.folder, 1)
    assert data.attachments == {"tokenizer": prepared.folder / "tokenizer"}
    assert (data.attachments["tokenizer"] / "tokenizer.json").is_file()
    assert data.fingerprint == prepared.fingerprint


def test_batch_has_rows_and_length_of_the_settings_as_int64(tmp_path: Path) -> None:
    """(B, T) on the CPU."""
    batch = data_over(tmp_path, TEXT * 9, sequence_tokens=16, micro_batch_rows=3).train.batch_at(0)
    assert batch.ids.shape == batch.labels.shape == (3, 16)
    assert batch.ids.dtype == batch.labels.dtype == torch.int64


def test_sequential_batches_are_the_text_in_order(tmp_path: Path) -> None:
    """Row by row, then from the start again."""
    data = data_over(
        tmp_path, EIGHTEEN, prepare={"val_fraction": 0.25}, sequence_tokens=3, micro_batch_rows=2, order="sequential"
    )
    rows = torch.cat([data.train.batch_at(index).ids for index in range(4)]).tolist()
    assert [bytes(row).decode() for row in rows[:5]] == ["abc", "def", "ghi", "jab", "cde"]
    assert bytes(rows[5]) == b"fg\0"
    assert bytes(rows[6]) == b"abc"


@pytest.mark.parametrize("order", ["sequential", "random"])
def test_rows_at_say_where_the_rows_of_a_batch_lie_and_what_they_say(order: str, tmp_path: Path) -> None:
    """Each row's text is that of its ids and of the label that comes last, at the place that is named; also over an epoch's end."""
    data = data_over(tmp_path, TEXT * 9, sequence_tokens=16, micro_batch_rows=3, order=order)
    text = (TEXT * 9).encode()
    for index in (0, 1, 9, 11, 12):
        batch, rows = data.train.batch_at(index), data.rows_at(index)
        assert [row["position"] for row in rows] == [3 * index + place for place in range(3)]
        for row, ids in zip(rows, batch.ids.tolist(), strict=True):
            assert row["text"].encode() == text[row["first_token"] : row["first_token"] + row["tokens"]]
            assert bytes(ids).rstrip(b"\0").decode() == row["text"][: min(16, row["tokens"] - 1)]
            assert row["window"] == row["first_token"] // 16
            assert row["document"] == 0
    assert {row["epoch"] for row in data.rows_at(12)} <= {0, 1}


def test_last_window_is_padded_without_targets(tmp_path: Path) -> None:
    """18 training tokens: five windows of three targets, and one of two."""
    data = data_over(
        tmp_path, EIGHTEEN, prepare={"val_fraction": 0.25}, sequence_tokens=3, micro_batch_rows=6, order="sequential"
    )
    batch = data.train.batch_at(0)
    assert batch.labels[5].tolist() == [ord("g"), ord("h"), NO_TARGET]
    assert batch.ids[5].tolist() == [ord("f"), ord("g"), 0]
    assert int((batch.labels != NO_TARGET).sum()) == 17


def test_random_order_differs_between_epochs_and_seeds(tmp_path: Path) -> None:
    """Each epoch has a shuffle of its own."""
    folder = prepared_text(tmp_path, TEXT * 20).folder
    settings = TokenWindows(sequence_tokens=8, micro_batch_rows=8)
    first, second = build(settings, folder, 1), build(settings, folder, 2)
    epoch = round(first.micro_batches_per_epoch)
    assert not torch.equal(first.train.batch_at(0).ids, second.train.batch_at(0).ids)
    assert not torch.equal(first.train.batch_at(0).ids, first.train.batch_at(epoch).ids)


def test_micro_batches_per_epoch_is_windows_by_rows(tmp_path: Path) -> None:
    """It need not be whole."""
    data = data_over(tmp_path, EIGHTEEN, prepare={"val_fraction": 0.25}, sequence_tokens=3, micro_batch_rows=4)
    assert data.micro_batches_per_epoch == 6 / 4


def test_split_gives_every_target_once_in_order(tmp_path: Path) -> None:
    """The last batch has the rows that are left; the others are four of the training's."""
    data = data_over(tmp_path, TEXT * 10, sequence_tokens=2, micro_batch_rows=2)
    batches = list(data.split("val"))
    labels = torch.cat([batch.labels for batch in batches]).flatten()
    text = (TEXT * 10)[-68:].encode()
    assert bytes(labels[(labels != NO_TARGET) & (labels < 256)].tolist()) == text[1:]
    assert [len(batch.ids) for batch in batches] == [8, 8, 8, 8, 2]


@pytest.mark.parametrize(
    ("training_rows", "sequence_tokens", "rows"),
    [
        (12, 64, FOUR * 12),
        (1, 1024, FOUR),
        (2, 700, TOKENS_AT_ONCE // 1400 * 2),
        (16, 256, 16),
        (3, 1500, 3),
        (64, 1024, 64),
    ],
)
def test_rows_without_gradient_are_a_few_training_batches(training_rows: int, sequence_tokens: int, rows: int) -> None:
    """As many as fill the tokens, at most four; never fewer than training takes."""
    assert rows_without_gradient(training_rows, sequence_tokens) == rows


def test_split_capped_selects_the_same_windows_however_they_are_grouped(tmp_path: Path) -> None:
    """A validation loss does not depend on how many rows are looked at together."""
    few, many = (
        data_over(tmp_path, TEXT * 99, sequence_tokens=7, micro_batch_rows=rows).split("val", max_batches=limit)
        for rows, limit in ((2, 30), (60, 1))
    )
    few, many = list(few), list(many)
    assert [len(batch.ids) for batch in few] == [8] * 7 + [4]
    assert [len(batch.ids) for batch in many] == [60]
    assert torch.equal(torch.cat([batch.ids for batch in few]), many[0].ids)
    assert torch.equal(torch.cat([batch.labels for batch in few]), many[0].labels)


def test_reading_ahead_on_a_processor_changes_nothing(tmp_path: Path) -> None:
    """A batch is made faster than it is handed over: no thread, the same source."""
    data = data_over(tmp_path, TEXT, sequence_tokens=4)
    plain = data.train
    with data.reading_ahead(torch.device("cpu")):
        assert data.train is plain
        assert not any(thread.name.startswith("read-ahead") for thread in threading.enumerate())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_reading_ahead_for_cuda_pins_equal_batches_and_ends_with_the_block(tmp_path: Path) -> None:
    """The host goes on while the device fetches."""
    data = data_over(tmp_path, TEXT, sequence_tokens=4)
    plain = data.train
    with data.reading_ahead(torch.device("cuda")):
        batch = data.train.batch_at(5)
        assert batch.ids.is_pinned()
        assert torch.equal(batch.ids, plain.batch_at(5).ids)
    assert data.train is plain
    assert not any(thread.name.startswith("read-ahead") for thread in threading.enumerate())


def long_text_data(folder: Path, tokens: int) -> TokenWindowData:
    """Data whose training part is made that long; a file with holes takes no room."""
    prepared = prepared_text(folder, TEXT * 20, tokenizer="byte")
    path = prepared.folder / "train.tokens"
    with path.open("r+b") as stream:
        stream.truncate(2 * tokens)
    return TokenWindowData(
        TokenWindows(sequence_tokens=64, micro_batch_rows=8), PreparedText(prepared.folder, prepared.manifest), 3
    )


def peak_bytes(action: Callable[[], object]) -> int:
    """Most memory that Python and numpy held at once during an action, beyond what they held before."""
    tracemalloc.start()
    action()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("tokens", [4_000_000, 200_000_000])
def test_batch_takes_the_memory_of_a_few_batches_whatever_the_text_is_long(tokens: int, tmp_path: Path) -> None:
    """No copy of the map: neither for training nor for an evaluation, and none when the data are opened."""
    batch_bytes = 8 * 64 * 8 * 2
    opened: list[TokenWindowData] = []
    assert peak_bytes(lambda: opened.append(long_text_data(tmp_path, tokens))) < 1 << 22
    (data,) = opened
    # The first batch of a process has numpy load a megabyte of modules.
    data.train.batch_at(0)
    assert peak_bytes(lambda: data.train.batch_at(1000)) < 4 * batch_bytes
    assert peak_bytes(lambda: next(iter(data.split("train", max_batches=50)))) < FOUR * 4 * batch_bytes


@pytest.mark.skipif(sys.platform != "linux", reason="the pages of a map are listed in /proc")
def test_batches_bring_in_only_the_pages_of_their_windows(tmp_path: Path) -> None:
    """400 MB are mapped; a hundred batches of eight windows are looked at."""
    data = long_text_data(tmp_path, 200_000_000)
    for index in range(100):
        data.train.batch_at(index)
    resident = re.search(
        r"train\.tokens\n.*?^Rss:\s+(\d+) kB", Path("/proc/self/smaps").read_text(), re.DOTALL | re.MULTILINE
    )
    assert resident is not None
    # The kernel maps up to 64 kB around a page that is touched, if they are in memory already.
    assert 0 < int(resident[1]) <= 2 * 800 * 64


def test_split_with_max_batches_is_spread_evenly_over_the_whole_split(tmp_path: Path) -> None:
    """The beginning of a text alone stands for nothing but itself."""
    data = data_over(tmp_path, TEXT * 10, sequence_tokens=7, micro_batch_rows=2)
    whole = torch.cat([batch.ids for batch in data.split("val")])
    some = torch.cat([batch.ids for batch in data.split("val", max_batches=2)])
    assert torch.equal(some, whole[[0, len(whole) // 4, len(whole) // 2, 3 * len(whole) // 4]])


def test_split_with_more_max_batches_than_there_are_is_the_whole_split(tmp_path: Path) -> None:
    """Each window once."""
    data = data_over(tmp_path, TEXT * 10, sequence_tokens=7, micro_batch_rows=4)
    many, whole = (list(data.split("val", max_batches=limit)) for limit in (99, None))
    assert torch.equal(torch.cat([b.ids for b in many]), torch.cat([b.ids for b in whole]))


def test_split_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    """At once, not when the first batch is asked for."""
    with pytest.raises(DataError, match=r"has no split 'test' \(it has: train, val\)"):
        data_over(tmp_path, TEXT, sequence_tokens=4).split("test")


def test_split_test_is_there_when_it_was_prepared(tmp_path: Path) -> None:
    """All three."""
    data = data_over(tmp_path, TEXT * 3, prepare={"test_fraction": 0.2}, sequence_tokens=4)
    assert len(list(data.split("test"))) > 0


@pytest.mark.parametrize(
    ("prepare", "length", "message"),
    [
        (
            {},
            9,
            r"a window needs 10 tokens, but the split 'val' has 8 \(of train 61, val 8\); set data\.sequence_tokens to 7 or",
        ),
        ({}, 9, r"less, raise prepare\.val_fraction, or give the source more text"),
        ({"val_fraction": 0.9}, 9, r"the split 'train' has 6 .*to 5 or less, lower prepare\.val_fraction"),
        ({"test_fraction": 0.05}, 9, r"the split 'test' has \d .*raise prepare\.test_fraction"),
    ],
)
def test_build_text_shorter_than_a_window_gives_the_numbers(
    tmp_path: Path, prepare: dict[str, Any], length: int, message: str
) -> None:
    """With the largest length that fits."""
    with pytest.raises(DataError, match=message):
        data_over(tmp_path, TEXT, prepare=prepare, sequence_tokens=length)


def test_build_largest_length_that_fits_is_accepted(tmp_path: Path) -> None:
    """What the message says is true."""
    data = data_over(tmp_path, TEXT, sequence_tokens=7, micro_batch_rows=1)
    assert next(iter(data.split("val"))).ids.shape == (1, 7)


def test_build_split_of_one_token_says_that_nothing_fits(tmp_path: Path) -> None:
    """A window needs two tokens at least."""
    with pytest.raises(DataError, match=r"the split 'train' has 1 .*; no data\.sequence_tokens fits, lower"):
        data_over(tmp_path, "ab", prepare={"tokenizer": "char"}, sequence_tokens=4)


def test_build_over_a_damaged_data_set_names_the_file(tmp_path: Path) -> None:
    """Checked before the first batch."""
    prepared = prepared_text(tmp_path, TEXT)
    (prepared.folder / "train.tokens").write_bytes(b"xx")
    with pytest.raises(DataError, match=r"train\.tokens has 2 bytes"):
        build(TokenWindows(sequence_tokens=4), prepared.folder, 1)
