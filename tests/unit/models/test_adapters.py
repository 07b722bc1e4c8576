"""Low-rank adapters: the library's own loss and gradients, what is frozen and how it is held, and one matrix from two."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from pydantic import ValidationError
from torch import Tensor

from ml_playground.core.error_handling import ConfigError
from ml_playground.core.values import ModelContext
from ml_playground.data_pipeline.batches import NO_TARGET, TokenBatch
from ml_playground.models.adapters.four_bits import obstacle
from ml_playground.models.adapters.layers import adapted_layers
from ml_playground.models.adapters.merging import merge_adapter
from ml_playground.models.core.hf_causal_lm import HfCausalLmModel, build
from ml_playground.models.core.hf_causal_lm_decoder import HfDecoder
from ml_playground.models.core.hf_causal_lm_loading import cost
from ml_playground.objectives.next_token import NextTokenObjective
from ml_playground.objectives.settings import NextToken
from ml_playground.training.ema import AveragedWeights
from ml_playground.training.weights import weights_of
from tests.fakes.hugging_face_folders import MODELS, VOCAB, saved, settings_of

LENGTH = 12
FACTS = {"vocab_size": VOCAB, "sequence_tokens": LENGTH}
FORMS: dict[str, dict[str, Any]] = {"lora": {}, "rslora": {"rslora": True}, "dora": {"dora": True}}


def some_ids(rows: int = 3) -> Tensor:
    """Random ids from a fixed seed."""
    return torch.randint(VOCAB, (rows, LENGTH), generator=torch.Generator().manual_seed(7))


def a_batch() -> TokenBatch:
    """Rows with some positions that are no target; the last of each is none."""
    ids = some_ids()
    labels = ids.roll(-1, dims=1)
    labels[0, :5] = NO_TARGET
    labels[:, -1] = NO_TARGET
    return TokenBatch(ids, labels)


def with_adapter(folder: Path, context: dict[str, Any] | None = None, **adapter: Any) -> HfCausalLmModel:
    """The model of a folder with an adapter whose numbers are all of some size, in training mode."""
    settings = settings_of(folder, adapter={"kind": "lora", "r": 4, "alpha": 6.0, **adapter})
    torch.manual_seed(1)
    model = build(settings, ModelContext(FACTS, **(context or {})))
    with torch.no_grad():
        for parameter in trained(model).values():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.train()


def trained(model: torch.nn.Module) -> dict[str, Tensor]:
    """What has a gradient."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def loss_of(model: HfCausalLmModel) -> Tensor:
    """Mean over the targets of `a_batch`."""
    batch = a_batch()
    return NextTokenObjective(NextToken()).loss_sum(model, batch) / (batch.labels != NO_TARGET).sum()


# peft reads an old name of transformers.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize(
    ("kind", "form"), [*((kind, "lora") for kind in MODELS), ("gpt2", "dora"), ("llama", "dora"), ("qwen3", "rslora")]
)
def test_loss_and_gradients_are_those_of_peft_on_the_librarys_model(kind: str, form: str, tmp_path: Path) -> None:
    """Through our states and our head, as through peft's wrapper around the library's forward and loss."""
    network = saved(kind, tmp_path)
    config = LoraConfig(
        r=4, lora_alpha=6, target_modules="all-linear", task_type="CAUSAL_LM", fan_in_fan_out=kind == "gpt2",
        use_dora=form == "dora", use_rslora=form == "rslora",
    )  # fmt: skip
    theirs = get_peft_model(network, config).train()
    ours = with_adapter(tmp_path, **FORMS[form])
    with torch.no_grad():
        for wanted, parameter in zip(trained(theirs).values(), trained(ours).values(), strict=True):
            wanted.copy_(parameter)
    labels = a_batch().labels
    # The library shifts labels itself.
    shifted = torch.cat([torch.full((3, 1), NO_TARGET), labels[:, :-1]], dim=1)
    expected, loss = theirs(input_ids=some_ids(), labels=shifted).loss, loss_of(ours)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    loss.backward()
    expected.backward()
    prefix = "base_model.model."
    wanted = {name.removeprefix(prefix): parameter.grad for name, parameter in trained(theirs).items()}
    found = {name.removeprefix("network."): parameter.grad for name, parameter in trained(ours).items()}
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["gpt2", "qwen3"])
def test_model_begins_as_its_base_and_only_the_adapter_is_trained_and_kept(
    kind: str, form: str, tmp_path: Path
) -> None:
    """Nothing is changed by what was not learned yet; frozen weights are in no checkpoint and in no mean of weights."""
    saved(kind, tmp_path)
    settings = settings_of(tmp_path, adapter={"kind": "lora", "r": 3, **FORMS[form]})
    model = build(settings, ModelContext(FACTS)).eval()
    base = build(settings_of(tmp_path), ModelContext(FACTS)).eval()
    torch.testing.assert_close(model(some_ids()), base(some_ids()), rtol=0, atol=1e-5)
    names = set(trained(model))
    assert all(".lora_" in name for name in names)
    assert weights_of(model).keys() == names
    assert AveragedWeights(model, 0.9).state_tensors().keys() == names
    priced = cost(settings, FACTS)
    assert priced.parameters == sum(parameter.numel() for parameter in trained(model).values())
    assert priced.flops_per_token < cost(settings_of(tmp_path), FACTS).flops_per_token


def test_rslora_scales_by_the_root_of_the_rank_and_dora_normalises(tmp_path: Path) -> None:
    """Each of them has its effect: the same numbers come to another matrix."""
    saved("llama", tmp_path)
    plain, rooted, lengths = (adapted_layers(with_adapter(tmp_path, **FORMS[form])) for form in FORMS)
    name = "network.model.layers.0.self_attn.q_proj"
    torch.testing.assert_close(rooted[name].get_delta_weight("default"), 2 * plain[name].get_delta_weight("default"))
    with torch.no_grad():
        merge = with_adapter(tmp_path, dora=True)
        merge_adapter(merge)
        rows = merge.network.get_submodule(name.removeprefix("network.")).weight.norm(dim=1)
    torch.testing.assert_close(rows, lengths[name].lora_magnitude_vector["default"].weight.detach())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", MODELS)
def test_merged_model_and_decoder_compute_what_the_adapter_does(kind: str, form: str, tmp_path: Path) -> None:
    """One matrix in the place of three products: in the decoder that draws, and in a model that is shipped."""
    saved(kind, tmp_path)
    model = with_adapter(tmp_path, **FORMS[form]).eval()
    expected = model(some_ids()).detach()
    torch.testing.assert_close(model.decoder("float32").logits(some_ids()), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model(some_ids()).detach(), expected, rtol=0, atol=0)
    merge_adapter(model)
    assert adapted_layers(model) == {}
    torch.testing.assert_close(model(some_ids()).detach(), expected, rtol=1e-5, atol=1e-5)
    base = build(settings_of(tmp_path), ModelContext(FACTS))
    assert model.state_dict().keys() == base.state_dict().keys()


@pytest.mark.parametrize("kind", MODELS)
def test_frozen_matrices_are_cast_once_to_the_numbers_that_autocast_makes(kind: str, tmp_path: Path) -> None:
    """Held in bfloat16 they take half the memory, and loss and gradients keep every bit; what is trained stays float32."""
    saved(kind, tmp_path)
    found: list[tuple[Tensor, list[Tensor | None]]] = []
    for dtype in ("float32", "bfloat16"):
        model = with_adapter(tmp_path, {"compute_dtype": dtype})
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(model)
        loss.backward()
        found.append((loss.detach(), [parameter.grad for parameter in trained(model).values()]))
    assert torch.equal(found[0][0], found[1][0])
    for once, each in zip(found[1][1], found[0][1], strict=True):
        assert once is not None
        assert each is not None
        assert torch.equal(once, each)
    held = [parameter for parameter in model.parameters() if parameter.dtype is torch.bfloat16]
    assert sum(map(torch.numel, held)) >= cost(settings_of(tmp_path), FACTS).matrix_parameters
    assert {parameter.dtype for parameter in trained(model).values()} == {torch.float32}


def test_texts_are_drawn_from_a_model_whose_base_is_held_in_bfloat16(tmp_path: Path) -> None:
    """A preview while training: outside of autocast, packed or not, near to what float32 draws."""
    saved("qwen3", tmp_path)
    exact = with_adapter(tmp_path).eval().decoder("float32").logits(some_ids())
    held = with_adapter(tmp_path, {"compute_dtype": "bfloat16"}).eval()
    torch.testing.assert_close(held.decoder("float32").logits(some_ids()), exact, rtol=0, atol=0.1)
    unpacked = HfDecoder(held, "float32", packed_bytes=0)
    assert unpacked.logits(some_ids()).dtype is torch.float32
    torch.testing.assert_close(unpacked.logits(some_ids()), exact, rtol=0, atol=0.3)


@pytest.mark.parametrize("kind", ["gpt2", "qwen3"])
def test_gradients_reach_the_adapter_through_recomputed_layers(kind: str, tmp_path: Path) -> None:
    """Nothing below the first adapter asks for gradients, and recomputation must not take that for leave to skip it."""
    saved(kind, tmp_path)
    found: list[list[Tensor | None]] = []
    for recompute in (False, True):
        model = with_adapter(tmp_path, {"activation_checkpointing": recompute}, dropout=0.3)
        torch.manual_seed(5)
        loss_of(model).backward()
        found.append([parameter.grad for parameter in trained(model).values()])
    assert None not in found[1]
    torch.testing.assert_close(found[1], found[0])


def test_targets_are_the_named_matrices_alone(tmp_path: Path) -> None:
    """By the last part of their names, or by whole ones."""
    saved("llama", tmp_path)
    model = with_adapter(tmp_path, targets=["q_proj", "model.layers.1.mlp.up_proj"])
    assert list(adapted_layers(model.network)) == [
        "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj", "model.layers.1.mlp.up_proj",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("q_prj", r"names 'q_prj', and no matrix of LlamaForCausalLM is called so; did you mean 'q_proj'\? \(there are: q_"),
        ("lm_head", r"names 'lm_head', and no matrix .* is called so \(there are: q_proj, k_proj, .*; or \"all-linear\"\)"),
        ("embed_tokens", "names 'embed_tokens', and no matrix"),
    ],
)  # fmt: skip
def test_target_that_is_not_there_is_refused_with_those_that_are(target: str, message: str, tmp_path: Path) -> None:
    """Tables and output layers are none: they may be one tensor."""
    saved("llama", tmp_path)
    with pytest.raises(ConfigError, match=message):
        with_adapter(tmp_path, targets=["v_proj", target])


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ({"kind": "lora", "targets": ["v_proj", "q_proj", "v_proj"]}, "targets names v_proj more than once"),
        ({"kind": "lora", "targets": []}, "at least 1 item"),
        ({"kind": "lora", "dropout": 1.0}, "less than 1"),
        ({"kind": "lra"}, r"unknown kind 'lra'; did you mean 'lora'\?"),
    ],
)
def test_settings_that_mean_nothing_are_refused(adapter: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Before anything is built."""
    saved("gpt2", tmp_path)
    with pytest.raises(ValidationError, match=message):
        settings_of(tmp_path, adapter=adapter)


def test_four_bits_are_refused_where_they_do_not_work(tmp_path: Path) -> None:
    """Says what is missing, and what to do instead; this machine has one of both obstacles at least."""
    assert obstacle(cuda=True, library=True) is None
    without_cuda, without_library = obstacle(cuda=False, library=True), obstacle(cuda=True, library=False)
    assert without_cuda is not None
    assert without_library is not None
    assert "works on CUDA only" in without_cuda
    assert 'leave model.adapter.quantise at "none"' in without_cuda
    assert "pip install bitsandbytes" in without_library
    saved("llama", tmp_path)
    with pytest.raises(ConfigError, match=r'quantise = "nf4" \(QLoRA\) (works on CUDA only|needs the package)'):
        with_adapter(tmp_path, quantise="nf4")


def test_merging_beside_four_bits_is_refused(tmp_path: Path) -> None:
    """A matrix of whole numbers, as four bits are stored, is not taken for the numbers that it stands for."""
    saved("llama", tmp_path)
    model = with_adapter(tmp_path)
    layer = next(iter(adapted_layers(model).values())).get_base_layer()
    layer.weight = torch.nn.Parameter(layer.weight.detach().to(torch.uint8), requires_grad=False)
    with pytest.raises(ConfigError, match="trained beside matrices in four bits"):
        merge_adapter(model)


def test_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    """Whoever loads it: the same shapes would fit, and write nonsense."""
    saved("llama", tmp_path)
    settings = settings_of(tmp_path, adapter={"kind": "lora"})
    saved("llama", tmp_path, seed=1)
    message = (
        r"one of another base: it was trained beside files with the sha256 [0-9a-f]{12}, .* --set model.path=FOLDER"
    )
    with pytest.raises(ConfigError, match=message):
        build(settings, ModelContext(FACTS, load_pretrained=False))
    with pytest.raises(ConfigError, match=r"gone is no folder.* bring it back, or say where the same files lie now"):
        build(settings.model_copy(update={"path": tmp_path / "gone"}), ModelContext(FACTS, load_pretrained=False))
