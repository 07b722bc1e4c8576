"""Folders for the transformers library: what is in them, and that no wrong one is ever kept."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from ml_playground.commands.export_run import TrainedModel
from ml_playground.core.error_handling import CheckpointError, ConfigError
from ml_playground.core.values import ModelContext
from ml_playground.export.hugging_face import Exportable, export_folder, refuse_place
from ml_playground.export.model_folder import refuse_unknown, write_generation, write_model
from ml_playground.export.parity import Probe
from ml_playground.models.core.gpt import build
from ml_playground.models.core.hf_causal_lm import build as build_network
from ml_playground.models.recurrent.settings import MinGru
from ml_playground.models.settings import Gpt
from ml_playground.models.weights.shards import files_for
from tests.fakes.hugging_face_folders import MODELS, VOCAB, saved, settings_of

PROBE = Probe("row 0", [1, 5, 2, 7, 3, 3, 8], 4)
FACTS = ModelContext({"vocab_size": 40, "sequence_tokens": 24})
QWEN3 = Gpt(
    n_layer=2, n_head=2, n_embd=16, position="rotary", norm="rms_norm", feed_forward="swiglu", qk_norm=True, bias=False
)


def gpt(seed: int, settings: Gpt = QWEN3) -> torch.nn.Module:
    """A model with weights that matter."""
    torch.manual_seed(seed)
    model = build(settings, FACTS).eval()
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape) / 2
    return model


def exportable(seed: int, trained_seed: int | None = None) -> Exportable:
    """A model, and the one that it is compared with."""
    model = gpt(seed)
    trained = model if trained_seed is None else gpt(trained_seed)
    return Exportable("gpt", model, TrainedModel(trained, frozenset({39})), None)


def test_export_folder_other_model_than_trained_leaves_nothing(tmp_path: Path) -> None:
    """A folder that is not the checkpoint has no name, and no half of it stays; what lay there before stands."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "before").touch()
    with pytest.raises(CheckpointError, match=r"is not the model that was trained: logits differ by .*It was not kept"):
        export_folder(exportable(0, 1), tmp_path / "out", probes=[PROBE], compared="x", card=lambda _: "card")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "before"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_export_folder_reports_what_it_compared(tmp_path: Path, dtype: str) -> None:
    """Numbers stand in parity.json; only a rounded folder has a price of rounding."""
    report = export_folder(
        exportable(0), tmp_path / "out", probes=[PROBE], compared="a row", card=lambda one: one.compared, dtype=dtype,  # pyright: ignore[reportArgumentType]
    )  # fmt: skip
    record = json.loads((tmp_path / "out" / "parity.json").read_text(encoding="utf-8"))
    assert record == json.loads(json.dumps(report.as_json()))
    assert (record["agree"], record["tokens"], record["stop_ids"]) == (True, 0, [39])
    assert (record["rounding"] is None) == (dtype == "float32")
    assert (tmp_path / "out" / "README.md").read_text(encoding="utf-8") == "a row"
    assert json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))["dtype"] == dtype
    assert {str(one.dtype) for one in load_file(tmp_path / "out" / "model.safetensors").values()} == {f"torch.{dtype}"}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_write_model_of_the_library_gives_equal_logits_in_many_files(kind: str, dtype: str, tmp_path: Path) -> None:
    """Rounding the weights is all that a type does; files are cut where asked."""
    saved(kind, tmp_path / "base")
    model = build_network(settings_of(tmp_path / "base"), ModelContext({"vocab_size": VOCAB})).eval()
    write_model("hf_causal_lm", model, tmp_path / "out", dtype=dtype, largest_file_bytes=9_000)  # pyright: ignore[reportArgumentType]
    assert (tmp_path / "out" / "model.safetensors.index.json").is_file()
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out", local_files_only=True)
    assert str(again.dtype) == f"torch.{dtype}"
    ids = torch.arange(20)[None]
    with torch.no_grad():
        torch.testing.assert_close(again.float()(ids).logits, model(ids), rtol=1e-4, atol=1e-4)


def test_write_model_of_ours_in_many_files_gives_equal_logits(tmp_path: Path) -> None:
    """The index names every tensor."""
    model = gpt(0)
    write_model("gpt", model, tmp_path, largest_file_bytes=2_000)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True)
    ids = torch.arange(20)[None]
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, model(ids), rtol=1e-4, atol=1e-4)


@given(st.lists(st.integers(0, 50), max_size=12), st.integers(1, 60))
def test_files_for_every_tensor_has_one_file_none_too_large(sizes: list[int], most: int) -> None:
    """In their order; only a tensor that is larger by itself makes a larger file, which it has alone."""
    by_name = {str(number): size for number, size in enumerate(sizes)}
    parts = files_for(by_name, most)
    assert [name for part in parts for name in part] == list(by_name)
    assert all(sum(by_name[name] for name in part) <= most or len(part) == 1 for part in parts if part)
    assert len(parts) == 1 or all(parts)


@pytest.mark.parametrize(
    ("stops", "pad", "expected"),
    [
        ([], None, {}),
        ([3], None, {"eos_token_id": 3, "pad_token_id": 3}),
        ([5, 3], 9, {"eos_token_id": [3, 5], "pad_token_id": 9}),
    ],
)  # fmt: skip
def test_write_generation_names_the_ends(
    tmp_path: Path, stops: list[int], pad: int | None, expected: dict[str, object]
) -> None:
    """`generate` of the library stops where ours does, and draws no id without a text."""
    write_generation(tmp_path, stops, bos=None, pad=pad, unknown=range(7, 9))
    record = json.loads((tmp_path / "generation_config.json").read_text(encoding="utf-8"))
    assert record == {"_from_model_config": False, "suppress_tokens": [7, 8], **expected}


def test_refuse_unknown_names_what_can_be_exported() -> None:
    """Before anything is written."""
    with pytest.raises(ConfigError, match=r"'min_gru': no class of the transformers library .*hf_causal_lm.*Qwen3"):
        refuse_unknown(MinGru())
    with pytest.raises(ConfigError, match=r"bigram_rows = 64 \(it has 0\)"):
        refuse_unknown(Gpt(bigram_rows=64))
    refuse_unknown(Gpt())


def test_refuse_place_takes_nothing_but_an_export_and_only_by_force(tmp_path: Path) -> None:
    """A folder of something else is never replaced."""
    refuse_place(tmp_path / "new", force=False)
    refuse_place(tmp_path, force=False)
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(ConfigError, match="holds something else than an export"):
        refuse_place(tmp_path, force=True)
    with pytest.raises(ConfigError, match="holds something else than an export"):
        refuse_place(tmp_path / "thesis.txt", force=True)
    (tmp_path / "parity.json").touch()
    with pytest.raises(ConfigError, match="replace it with --force"):
        refuse_place(tmp_path, force=False)
    refuse_place(tmp_path, force=True)
