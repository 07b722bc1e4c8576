"""What each kind of data says of an epoch is what counting one epoch of its batches finds."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_playground.configuration import families
from ml_playground.configuration.base import Component
from ml_playground.core.registry import load_object
from ml_playground.core.values import Fates
from ml_playground.data_pipeline.batches import NO_TARGET, TokenBatch
from ml_playground.data_pipeline.sampling.fates import window_fates
from ml_playground.data_pipeline.sampling.token_windows import TrainingBatches, Windows
from ml_playground.data_pipeline.settings import ImageBatches, TokenWindows
from tests.fakes.image_files import drawn, prepared_images
from tests.fakes.prepared_text import prepared_text

windows = st.builds(
    TokenWindows,
    sequence_tokens=st.integers(1, 40),
    micro_batch_rows=st.integers(1, 7),
    order=st.sampled_from(["random", "sequential"]),
)
pictures = st.builds(ImageBatches, micro_batch_rows=st.integers(1, 7), order=st.sampled_from(["random", "sequential"]))
SETTINGS: Mapping[str, st.SearchStrategy[Component]] = {"token_windows": windows, "image_batches": pictures}
OF_CHATS = {"padded_examples", "packed_examples", "preference_pairs"}
"""Under the same law in test_examples_laws and test_pairs_laws."""


def test_every_kind_of_data_is_under_the_law() -> None:
    """A new kind says where tokens go, and is counted here."""
    assert (
        set(SETTINGS) | OF_CHATS
        == {kind for kind, row in families.DATA.shipped.items() if row.fates}
        == set(families.DATA.shipped)
    )


def rows_of(batches: Iterable[TokenBatch], rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and labels of the first rows."""
    held = list(batches)
    return torch.cat([batch.ids for batch in held])[:rows], torch.cat([batch.labels for batch in held])[:rows]


@given(tokens=st.integers(2, 700), asked=windows, seed=st.integers(0, 2**32))
def test_fates_of_windows_are_those_of_each_token_of_an_epoch(tokens: int, asked: TokenWindows, seed: int) -> None:
    """Each token is followed through one epoch: as a target how often, and which never; padding is what stands for none."""
    # A shorter text is refused when the data are opened.
    asked = asked.model_copy(update={"sequence_tokens": min(asked.sequence_tokens, tokens - 1)})
    cut = Windows(np.arange(tokens, dtype=np.uint16), asked.sequence_tokens)
    source = TrainingBatches(cut, asked, seed)
    count = -(-len(cut) // asked.micro_batch_rows)
    ids, labels = rows_of((source.batch_at(index) for index in range(count)), len(cut))
    targets = Counter(labels[labels != NO_TARGET].tolist())
    fates = window_fates(tokens, asked)
    assert set(targets.values()) == {1}
    assert fates == Fates(
        tokens=tokens,
        trained=len(targets),
        masked=len(set(ids.flatten().tolist()) - set(targets)),
        dropped=len(set(range(tokens)) - set(ids.flatten().tolist()) - set(targets)),
        padding=int((labels == NO_TARGET).sum()),
        batches=len(cut) / asked.micro_batch_rows,
    )
    assert fates.accounted == tokens


@given(count=st.integers(4, 40), asked=pictures)
@settings(max_examples=12, deadline=None)
def test_fates_of_prepared_images_are_what_their_batches_hold(
    count: int, asked: ImageBatches, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each image is a target once; nothing is masked, cut off, left out or padded."""
    prepared = prepared_images(tmp_path_factory.mktemp("fates"), *drawn(count), val_fraction=0.3)
    built: Any = load_object(families.DATA["image_batches"].build)(asked, prepared.folder, 7)
    fates: Mapping[str, Fates] = load_object(families.DATA["image_batches"].fates)(asked, prepared.folder)
    assert fates["train"].batches == built.micro_batches_per_epoch
    rows = round(built.micro_batches_per_epoch * asked.micro_batch_rows)
    labels = [
        int(label)
        for index in range(-(-rows // asked.micro_batch_rows))
        for label in built.train.batch_at(index).labels
    ]
    held = {"train": labels[:rows], "val": [int(label) for batch in built.split("val") for label in batch.labels]}
    for split, found in held.items():
        images = prepared.manifest.sizes[split]
        assert fates[split] == Fates(tokens=images, trained=len(found), batches=images / asked.micro_batch_rows)
        assert Counter(found) == Counter(prepared.labels(split).tolist())


@pytest.mark.parametrize("kind", sorted(SETTINGS.keys() - {"image_batches"}))
@given(data=st.data())
@settings(max_examples=12, deadline=None)
def test_fates_of_a_prepared_text_are_what_its_batches_hold(
    kind: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of the whole way: prepared on disk, cut by the real builder, every split counted over one epoch."""
    asked: Any = data.draw(SETTINGS[kind])
    characters = data.draw(st.integers(4 * (asked.sequence_tokens + 2), 1000))
    prepared = prepared_text(
        tmp_path_factory.mktemp("fates"), "ab c" * 250 + "d" * characters, tokenizer="byte", val_fraction=0.3
    )
    built: Any = load_object(families.DATA[kind].build)(asked, prepared.folder, 7)
    fates: Mapping[str, Fates] = load_object(families.DATA[kind].fates)(asked, prepared.folder)
    rows = round(built.micro_batches_per_epoch * asked.micro_batch_rows)
    assert fates["train"].batches == built.micro_batches_per_epoch
    epoch = (built.train.batch_at(index) for index in range(-(-rows // asked.micro_batch_rows)))
    for split, batches in (("train", epoch), ("val", built.split("val"))):
        _, labels = rows_of(batches, rows if split == "train" else 10**9)
        assert fates[split].tokens == len(prepared.tokens(split)) == fates[split].accounted
        assert fates[split].trained == int((labels != NO_TARGET).sum())
        assert fates[split].padding == int((labels == NO_TARGET).sum())
