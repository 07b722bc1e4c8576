"""Folders from strangers: what is missing, damaged or hostile is refused in one sentence, and nothing in them is run."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertLMHeadModel,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    MambaConfig,
    PreTrainedModel,
)

from ml_playground.configuration.loading import load
from ml_playground.core.error_handling import CheckpointError, ConfigError
from ml_playground.core.values import ModelContext
from ml_playground.models.core.hf_causal_lm import build
from ml_playground.models.hugging_face.folder import (
    CONFIG,
    files_sha256,
    is_model_folder,
    read_config,
    same_file,
    weight_files,
)
from tests.fakes.hugging_face_folders import VOCAB, saved, settings_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A GPT-2 as it was saved."""
    saved("gpt2", tmp_path / "model")
    return tmp_path / "model"


def with_config(folder: Path, **changes: Any) -> Path:
    """Other values in config.json; None takes a key away."""
    path = folder / CONFIG
    table = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in table.items() if value is not None}))
    return folder


def built(folder: Path) -> Any:
    """As a training begins with it."""
    return build(settings_of(folder), ModelContext({"vocab_size": VOCAB, "sequence_tokens": 8}))


def only_pickle(folder: Path) -> None:
    """Weights as they were saved for years."""
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def code_of_its_own(folder: Path) -> None:
    """A type that only the folder's own Python file knows, which leaves a mark when it is run."""
    (folder / "modeling.py").write_text(f"open({str(folder / 'it_ran')!r}, 'w')\n")
    with_config(folder, model_type="ours", auto_map={"AutoConfig": "modeling.C", "AutoModelForCausalLM": "modeling.M"})


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (lambda folder: folder.rename(folder.with_name("away")), "is no folder; name one with a config.json"),
    "no config": (lambda folder: (folder / CONFIG).unlink(), "holds no config.json"),
    "an adapter": (
        lambda folder: (folder / CONFIG).rename(folder / "adapter_config.json"),
        "holds an adapter .*, not a model",
    ),
    "no json": (lambda folder: (folder / CONFIG).write_text("{"), "is not the JSON that it should be"),
    "a list": (
        lambda folder: (folder / CONFIG).write_text("[]"),
        "is not the JSON that it should be: it holds no JSON object",
    ),
    "a pipe": (lambda folder: ((folder / CONFIG).unlink(), os.mkfifo(folder / CONFIG)), "it is a pipe or a device"),
    "huge text": (lambda folder: (folder / CONFIG).write_text(" " * (1 << 20)), "it holds 1048576 bytes, at most"),
    "deep": (lambda folder: (folder / CONFIG).write_text('{"a":' * 5000 + "1" + "}" * 5000), "nested"),
    "no type": (lambda folder: with_config(folder, model_type=None), "it names no model_type"),
    "type of another type": (lambda folder: with_config(folder, model_type=["gpt2"]), r"its model_type is \['gpt2'\]"),
    "encoder": (lambda folder: with_config(folder, is_encoder_decoder=True), "encodes and decodes"),
    "quantised": (
        lambda folder: with_config(folder, quantization_config={"quant_method": "gptq"}),
        "its weights are quantised",
    ),
    "layers without end": (lambda folder: with_config(folder, n_layer=10**9), "n_layer = 1000000000 is more than 4096"),
    "experts without end": (
        lambda folder: with_config(folder, text_config={"moe_num_experts": 10**7}),
        "text_config.moe_num_experts = 10000000 is more than 4096",
    ),
    "digits without end": (lambda folder: with_config(folder, vocab_size=10**300), "vocab_size = 1(0+) is more than"),
    "a list without end": (
        lambda folder: with_config(folder, layer_types=["a"] * 5000),
        "layer_types lists 5000 values",
    ),
    "infinite": (lambda folder: with_config(folder, rope_theta=float("inf")), "a number that is infinite or none"),
    "only a pickle": (only_pickle, "only as a pickle .pytorch_model.bin., which can run code and is never opened"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "holds neither model.safetensors nor"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_folder_that_is_no_model_is_refused_when_the_settings_are_read(what: str, folder: Path) -> None:
    """So that `mlp config check` says it, before anything starts."""
    spoil, message = BROKEN[what]
    spoil(folder)
    with pytest.raises(ValidationError, match=message) as error:
        settings_of(folder)
    assert [fault["loc"] for fault in error.value.errors()] == [("path",)]


def test_base_that_is_away_may_have_moved(tmp_path: Path) -> None:
    """An adapter needs it ever after, so whoever has moved it is told how to say where; whoever trains all weights is not."""
    hint = r"is no folder; .*; if the base has moved, --set model\.path=FOLDER"
    with pytest.raises(ValidationError, match=hint):
        settings_of(tmp_path / "gone", adapter={"kind": "lora"})
    with pytest.raises(ValidationError, match="is no folder") as error:
        settings_of(tmp_path / "gone")
    assert "moved" not in str(error.value)


UNBUILDABLE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "code of its own": (code_of_its_own, "model_type = 'ours' is not known to transformers .*never run"),
    "misspelt": (lambda folder: with_config(folder, model_type="gpt22"), "did you mean 'gpt2'"),
    "no causal model": (
        lambda folder: BertConfig(is_decoder=False).save_pretrained(folder) or with_config(folder, model_type="vit"),
        "a model of type 'vit' is no causal language model",
    ),
    "keeps a state": (lambda folder: MambaConfig(num_hidden_layers=1).save_pretrained(folder), "use a transformer"),
    "text for a number": (lambda folder: with_config(folder, n_embd="wide"), "cannot build the model of"),
    "heads that do not divide": (lambda folder: with_config(folder, n_head=3), "cannot build the model of"),
    "no width": (lambda folder: with_config(folder, n_embd=0, n_inner=0), "cannot build the model of"),
    "activation of nobody": (
        lambda folder: with_config(folder, activation_function="sing"),
        "cannot build the model of",
    ),
    "more than any memory": (
        lambda folder: with_config(folder, vocab_size=1 << 32),
        "knows|parameters, but its files hold",
    ),
    "dimensions beyond all": (
        lambda folder: with_config(folder, vocab_size=1 << 32, n_embd=1 << 32),
        "cannot build the model of|parameters, but its files hold",
    ),
}


@pytest.mark.parametrize("what", UNBUILDABLE)
def test_config_that_the_library_cannot_follow_is_refused(what: str, folder: Path) -> None:
    """In one line that names the folder, without memory, and without running anything."""
    spoil, message = UNBUILDABLE[what]
    spoil(folder)
    with pytest.raises((ConfigError, CheckpointError), match=message) as caught:
        built(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (folder / "it_ran").exists()


SIZES: dict[str, Any] = {
    "vocab_size": VOCAB, "max_position_embeddings": 32, "hidden_size": 16, "intermediate_size": 24,
    "num_hidden_layers": 1, "num_attention_heads": 2,
}  # fmt: skip
SEES_AHEAD: dict[str, Callable[[], PreTrainedModel]] = {
    "encoder": lambda: BertLMHeadModel(BertConfig(**SIZES)),
    "decoder that was turned": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(**SIZES, head_dim=8, num_key_value_heads=1, use_bidirectional_attention=True)
    ),
}


@pytest.mark.parametrize("what", SEES_AHEAD)
def test_model_that_sees_what_is_to_come_is_refused(what: str, tmp_path: Path) -> None:
    """Its loss would fall to nothing, for it reads the answers; weights as small as an untrained model's are enough to tell."""
    torch.manual_seed(0)
    SEES_AHEAD[what]().save_pretrained(tmp_path / "model")
    message = r"model\.path = .*model: its \w+ reads tokens that are still to come, .*name a causal"
    with pytest.raises(ConfigError, match=message):
        built(tmp_path / "model")


def test_family_that_can_look_ahead_is_taken_where_it_does_not(tmp_path: Path) -> None:
    """It is tried out, not guessed from names."""
    config = Gemma3TextConfig(**SIZES, head_dim=8, num_key_value_heads=1)
    Gemma3ForCausalLM(config).save_pretrained(tmp_path / "model")
    assert built(tmp_path / "model").vocab_size == VOCAB


def test_causal_model_whose_head_does_more_is_refused(tmp_path: Path) -> None:
    """BERT as a decoder has a layer before its output layer that no loss of ours would apply."""
    BertLMHeadModel(BertConfig(**SIZES, is_decoder=True)).save_pretrained(tmp_path / "model")
    with pytest.raises(ConfigError, match="BertLMHeadModel makes its logits in a way that is not known here"):
        built(tmp_path / "model")


def test_code_beside_a_known_model_is_not_run(folder: Path) -> None:
    """Many published folders carry code that the library has learnt since; its own is used."""
    (folder / "modeling.py").write_text(f"open({str(folder / 'it_ran')!r}, 'w')\n")
    expected = built(folder)(torch.tensor([[1, 2]]))
    with_config(
        folder, auto_map={"AutoModelForCausalLM": "modeling.M"}, _attn_implementation="someone/kernel", use_cache=False
    )
    assert torch.equal(built(folder)(torch.tensor([[1, 2]])), expected)
    assert not (folder / "it_ran").exists()


def index_of(folder: Path, weight_map: Any) -> Path:
    """An index in place of the one file."""
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        (
            {"a": "../model-1.safetensors"},
            "names '../model-1.safetensors', which is no safetensors file of its own folder",
        ),
        ({"a": "/etc/passwd"}, "names '/etc/passwd'"),
        ({"a": "pytorch_model.bin"}, "names 'pytorch_model.bin'"),
        ({"a": 3}, "has no weight_map"),
        ({}, "has no weight_map"),
        ([], "has no weight_map"),
        ({"a": "model-1.safetensors", "b": "model-2.safetensors"}, "lacks model-2.safetensors, which"),
    ],
)
def test_index_that_leads_elsewhere_is_refused(folder: Path, weight_map: Any, message: str) -> None:
    """Only safetensors files of the folder itself are read."""
    with pytest.raises(ConfigError, match=message):
        weight_files(index_of(folder, weight_map))


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\xff" * 64])
def test_damaged_tensors_are_refused(folder: Path, content: bytes) -> None:
    """Half a download names its file."""
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="model.safetensors cannot be read as tensors"):
        built(folder)


def test_tensors_that_belong_to_another_model_are_named(folder: Path) -> None:
    """What would be left out in silence."""
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"transformer.extra.weight": torch.zeros(3)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="transformer.extra.weight is unknown to the model"):
        built(folder)


def test_hash_changes_with_every_file_of_the_model_and_with_no_other(folder: Path) -> None:
    """Settings, tensors and tokenizer are the base; a README is not."""
    first = files_sha256(folder)
    (folder / "README.md").write_text("a model")
    assert files_sha256(folder) == first
    hashes = {first}
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content + b" ")
        hashes.add(files_sha256(folder))
        (folder / name).write_bytes(content)
    assert len(hashes) == 4


def test_settings_that_were_recorded_do_not_look_for_the_folder(folder: Path) -> None:
    """A run's job is read where its base never was."""
    settings = settings_of(folder)
    assert settings.config == read_config(folder)
    folder.rename(folder.with_name("away"))
    assert type(settings).model_validate_json(settings.model_dump_json()) == settings


def test_folders_are_told_from_all_else(folder: Path, tmp_path: Path) -> None:
    """A run and a checkpoint have a config.json too."""
    assert is_model_folder(folder)
    (tmp_path / CONFIG).write_text('{"model": {"kind": "gpt"}}')
    assert not is_model_folder(tmp_path)
    assert not is_model_folder(tmp_path / "missing")
    assert not is_model_folder(folder / CONFIG)


def test_same_file_compares_content(folder: Path, tmp_path: Path) -> None:
    """A copy is the same; one that cannot be read is not."""
    copy = tmp_path / "copy.json"
    copy.write_bytes((folder / "tokenizer.json").read_bytes())
    assert same_file(copy, folder / "tokenizer.json")
    assert not same_file(copy, folder / CONFIG)
    assert not same_file(copy, tmp_path / "missing")


def with_tokenizer(folder: Path, tmp_path: Path, tokenizer: dict[str, str]) -> str | None:
    """What is wrong with a job over some text, in one line; None where nothing is."""
    (tmp_path / "text.txt").write_text("a text")
    job = tmp_path / "job"
    job.mkdir()
    source = f'{{ kind = "text_file", path = "{tmp_path / "text.txt"}" }}'
    rest = ", ".join(f'{name} = "{value}"' for name, value in tokenizer.items())
    model = f'{{ kind = "hf_causal_lm", path = "{folder}" }}'
    (job / "config.toml").write_text(f"model = {model}\n[prepare]\nsource = {source}\ntokenizer = {{ {rest} }}\n")
    try:
        load(str(job))
    except ConfigError as error:
        return str(error)
    return None


@pytest.mark.parametrize("kind", ["char", "byte", "word", "ngram", "byte_bpe"])
def test_tokenizer_that_is_learnt_here_is_refused(kind: str, folder: Path, tmp_path: Path) -> None:
    """Its ids mean other texts; the message says what to write instead."""
    problem = with_tokenizer(folder, tmp_path, {"kind": kind})
    assert problem is not None
    assert f"prepare.tokenizer.kind = '{kind}' gives ids of its own" in problem
    assert f'{{ kind = "hugging_face", path = "{folder}" }}' in problem


def test_tokenizer_of_another_folder_is_refused_and_a_copy_is_not(folder: Path, tmp_path: Path) -> None:
    """What counts is what is in the file."""
    other = saved("llama", tmp_path / "other") and tmp_path / "other"
    problem = with_tokenizer(folder, tmp_path, {"kind": "hugging_face", "path": str(other)})
    assert problem is not None
    assert f"prepare.tokenizer.path = {other} holds another tokenizer than model.path = {folder}" in problem
    (other / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    (tmp_path / "job" / "config.toml").unlink()
    (tmp_path / "job").rmdir()
    assert with_tokenizer(folder, tmp_path, {"kind": "hugging_face", "path": str(other)}) is None


def test_tokenizer_that_only_its_user_knows_is_left_to_them(folder: Path, tmp_path: Path) -> None:
    """GPT-2's ids are tiktoken's too; and a folder without a tokenizer disagrees with none."""
    assert with_tokenizer(folder, tmp_path, {"kind": "tiktoken_bpe"}) is None
    (tmp_path / "job" / "config.toml").unlink()
    (tmp_path / "job").rmdir()
    (folder / "tokenizer.json").unlink()
    assert with_tokenizer(folder, tmp_path, {"kind": "char"}) is None
