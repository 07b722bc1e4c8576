"""The engine `llama_cpp`: the same logits and the same text as the model itself."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ml_playground.configuration.sample_settings import SampleSettings
from ml_playground.core.error_handling import CheckpointError, ConfigError, DataError
from ml_playground.models.layers.packed_linear import Precision
from ml_playground.sampling.generate import generate
from tests.fakes.history_model import HistoryModel

pytest.importorskip("gguf", reason="the extra `export` is not installed: make setup")
pytest.importorskip("xllamacpp", reason="the extra `export` is not installed: make setup")

from ml_playground.export import llama_api
from ml_playground.export.llama_cpp import LlamaDecoder, build, prove
from ml_playground.export.parity import divergence
from tests.unit.export.test_gguf_file import GPT2, QWEN3, model_of

PROMPTS = [[1, 2, 3, 4, 5, 6, 7, 8, 9], [4], [11, 3, 11], list(range(20))]
VARIANTS = {"qwen3": QWEN3, "untied": QWEN3 | {"tied_head": False, "n_kv_head": 1}, "gpt2": GPT2}
# llama.cpp looks gelu up in a table of float16.
TOLERANCE = {"qwen3": 1e-4, "untied": 1e-4, "gpt2": 5e-2}


def rows_of(decoder: Any, **settings: Any) -> list[list[int]]:
    """All tokens of each row."""
    rows: list[list[int]] = [[] for _ in PROMPTS]
    for tokens in generate(decoder, PROMPTS, SampleSettings(max_new_tokens=30, **settings), seeds=range(len(PROMPTS))):
        for token in tokens:
            rows[token.row].append(token.id)
    return rows


@pytest.mark.parametrize("variant", VARIANTS)
def test_llama_cpp_gives_the_logits_of_the_model(variant: str, tmp_path: Path) -> None:
    """Every position of every row, in one pass."""
    model = model_of(**VARIANTS[variant])
    ids = torch.randint(23, (3, 16), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(ids)
    torch.testing.assert_close(build(model, "float32", tmp_path).logits(ids), expected, rtol=0, atol=TOLERANCE[variant])


@pytest.mark.parametrize("variant", ["qwen3", "untied"])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_llama_cpp_unquantised_writes_the_same_text(variant: str, temperature: float, tmp_path: Path) -> None:
    """Unequal prompts in one batch, over the end of the context, greedy and drawn: filters and seeds are ours."""
    model = model_of(**VARIANTS[variant])
    ours = rows_of(model.decoder("float32"), temperature=temperature, repetition_penalty=1.1)
    assert rows_of(build(model, "float32", tmp_path), temperature=temperature, repetition_penalty=1.1) == ours
    assert len({token for row in ours for token in row}) > 3


@pytest.mark.parametrize(("precision", "most"), [("float32", 1e-6), ("bfloat16", 5e-3), ("int8", 5e-3)])
def test_llama_cpp_quantised_predicts_nearly_the_same(precision: Precision, most: float, tmp_path: Path) -> None:
    """Nats between the distributions, at most."""
    model = model_of(**QWEN3)
    ids = torch.randint(23, (3, 16), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(ids)
    assert divergence(expected, build(model, precision, tmp_path).logits(ids)) < most


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_export_of_other_weights_is_refused(precision: Precision, tmp_path: Path) -> None:
    """What is shipped is what was trained: a file that predicts something else is never used."""
    trained, other = model_of(**QWEN3), model_of(**QWEN3)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(3.0)
    with pytest.raises(CheckpointError, match=rf"nats a token from those of the checkpoint, rounding to {precision}"):
        prove(build(other, precision, tmp_path), trained.decoder("float32"), precision)
    assert sorted(path.name for path in (tmp_path / precision).iterdir()) == ["model.gguf"]


def test_build_writes_a_file_once(tmp_path: Path) -> None:
    """Exporting costs seconds for a large model; each precision has a file of its own."""
    model = model_of(**QWEN3)
    build(model, "float32", tmp_path)
    file = tmp_path / "float32" / "model.gguf"
    before = file.stat().st_mtime_ns
    build(model, "float32", tmp_path)
    build(model, "int8", tmp_path)
    assert file.stat().st_mtime_ns == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["float32", "int8"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_build_in_a_folder_whose_name_is_no_text_is_loaded(tmp_path: Path) -> None:
    """A home below a folder of an old encoding serves as any other."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    assert build(model_of(**QWEN3), "float32", folder).logits(torch.zeros(1, 2, dtype=torch.int64)).shape == (1, 2, 23)


def test_build_of_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    """Nothing is written for it."""
    with pytest.raises(ConfigError, match=r"llama.cpp runs models of kind 'gpt' only, this one is a HistoryModel"):
        build(HistoryModel(9, 16), "float32", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_decoder_of_a_file_that_is_no_gguf_says_what_to_do(tmp_path: Path) -> None:
    """A file damaged on the disk can be written anew."""
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF" + bytes(20))
    with pytest.raises(CheckpointError, match=r"llama.cpp cannot load .*model.gguf; delete it, and it is written anew"):
        LlamaDecoder(file, model_of(**QWEN3).settings)


def test_state_refuses_what_does_not_fit(tmp_path: Path) -> None:
    """As the decoder of torch does."""
    decoder = build(model_of(**QWEN3), "float32", tmp_path)
    with pytest.raises(DataError, match=r"at most block_size = 16 tokens, but 17 were asked for"):
        decoder.new_state(1, 17)
    with pytest.raises(DataError, match=r"made for 2 rows of 4 positions and has seen 0; 5 more of 2 rows do not fit"):
        decoder.step(torch.zeros(2, 5, dtype=torch.int64), decoder.new_state(2, 4))


def test_prompts_longer_than_a_batch_are_read_in_parts(tmp_path: Path) -> None:
    """The memory for a prompt is bounded; the logits are those of one pass."""
    model = model_of(**QWEN3, block_size=2 * llama_api.TOKENS_AT_ONCE)
    decoder = build(model, "float32", tmp_path)
    ids = torch.randint(23, (2, llama_api.TOKENS_AT_ONCE + 30), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model(ids)[:, -1]
    found = decoder.step(ids, decoder.new_state(2, ids.shape[1]))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_parameters_lie_where_they_are_looked_for() -> None:
    """Another build could lay them out otherwise, and would be refused; a shifted field is noticed."""
    params = llama_api._opened().llama_context_default_params()
    assert params.is_as_expected()
    params.type_v = 8
    assert not params.is_as_expected()
