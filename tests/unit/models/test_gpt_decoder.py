"""The decoder at each precision, and what a step of it costs in operations and memory."""

import pytest
import torch

from ml_playground.configuration.sample_settings import SampleSettings
from ml_playground.models.layers.packed_linear import Precision
from ml_playground.sampling.generate import generate
from tests.fakes.counted_operations import Operations
from tests.unit.models.test_gpt import LENGTH, VARIANTS, model_of, roughened, some_ids

DIVERGENCE: dict[Precision, float] = {"float32": 1e-6, "bfloat16": 2e-3, "int8": 1e-2}
"""Nats between the distributions of model and decoder, at most."""


@pytest.mark.parametrize("precision", DIVERGENCE)
@pytest.mark.parametrize("variant", VARIANTS)
def test_decoder_at_each_precision_predicts_what_the_model_predicts(variant: str, precision: Precision) -> None:
    """A lower precision may cost this much and no more."""
    model = model_of(**VARIANTS[variant])
    ids = some_ids()
    with torch.no_grad():
        expected = model(ids).log_softmax(-1)
        found = model.decoder(precision).logits(ids).float().log_softmax(-1)
    assert float((expected.exp() * (expected - found)).sum(-1).mean()) < DIVERGENCE[precision]


@pytest.mark.parametrize("precision", DIVERGENCE)
def test_decoder_steps_equal_its_logits(precision: Precision) -> None:
    """Cached and uncached agree at every precision, prompt and single tokens alike."""
    decoder = roughened(model_of(**VARIANTS["qwen3"])).decoder(precision)
    ids = some_ids()
    state = decoder.new_state(ids.shape[0], LENGTH)
    parts = [decoder.step(part, state) for part in torch.split(ids, [5, 1, 1, LENGTH - 7], dim=1)]
    expected = decoder.logits(ids)[:, [4, 5, 6, LENGTH - 1]]
    torch.testing.assert_close(torch.stack(parts, dim=1).float(), expected.float(), rtol=0.05, atol=0.05)


def test_decoder_is_a_snapshot_of_packed_weights() -> None:
    """What is learnt later is another decoder's."""
    model = model_of()
    decoder = model.decoder("float32")
    before = decoder.logits(some_ids())
    with torch.no_grad():
        for block in model.blocks:
            for parameter in block.parameters():
                parameter.mul_(3)
    assert not torch.allclose(model.decoder("float32").logits(some_ids()), before)


def test_decoder_step_never_waits_for_the_device_and_makes_few_operations() -> None:
    """The guard of a token's price: operations a block, none that reads a number, none that copies the cache."""
    model = model_of(**VARIANTS["gpt2"])
    decoder = model.decoder("float32")
    state = decoder.new_state(2, LENGTH)
    decoder.step(some_ids(2, 3), state)
    ids = some_ids(2, 1)
    with torch.inference_mode(), Operations() as operations:
        decoder.step(ids, state)
    counts = operations.counts
    assert not {"_local_scalar_dense", "item", "nonzero", "is_nonzero"} & set(counts)
    assert counts["_linear_pointwise"] == 4 * len(model.blocks) + 1
    assert counts["copy_"] == len(model.blocks)
    views = {"to", "view", "slice", "transpose", "reshape", "split", "narrow", "select", "detach"}
    working = sum(count for name, count in counts.items() if name not in views)
    assert working == 11 * len(model.blocks) + 6


def test_generating_reads_each_step_from_the_device_once() -> None:
    """Filters, draw and cache never wait for a number; the ids of a step come over together."""
    decoder = model_of(**VARIANTS["qwen3"]).decoder("float32")
    settings = SampleSettings(max_new_tokens=6, temperature=0.7, top_k=9, top_p=0.9, min_p=0.01, repetition_penalty=1.2)
    steps = generate(decoder, [[1, 2], [3, 4]], settings, seeds=[0, 1])
    next(steps)
    with Operations() as operations:
        assert len(list(steps)) == 5
    waits = {"_local_scalar_dense", "item", "nonzero", "is_nonzero", "equal", "cpu", "unique"}
    assert not waits & set(operations.counts)
    assert operations.counts["embedding"] == 5
    assert operations.counts["searchsorted"] == 5
