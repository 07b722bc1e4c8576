"""Counts by formula against the real model."""

import subprocess
import sys
import tomllib

import pytest

from ml_playground.configuration.families import MODELS
from ml_playground.configuration.loading import PRESETS
from ml_playground.core.registry import load_object
from ml_playground.core.values import ModelContext
from ml_playground.models.settings import Gpt
from ml_playground.models.utils.counting import (
    cost,
    flops_per_token,
    parameter_counts,
    qkv_width,
    up_matrices,
    utilisation,
)
from ml_playground.models.utils.memory import QUERIES_AT_ONCE, gpt
from tests.unit.models.test_gpt import LENGTH, VARIANTS, VOCAB, model_of, settings_of


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("variant", VARIANTS)
def test_parameter_counts_by_formula_equal_the_model(variant: str, tied: bool) -> None:
    """The formula can be asked before a model is built."""
    options = VARIANTS[variant] | {"tied_head": tied}
    sizes = {name: parameter.numel() for name, parameter in model_of(**options).named_parameters()}
    counts = parameter_counts(settings_of(**options), vocab_size=VOCAB, block_size=LENGTH)
    assert counts.total == sum(sizes.values())
    assert counts.embedding == sum(
        size for name, size in sizes.items() if "embedding" in name or name == "output.weight"
    )


def test_parameter_counts_of_gpt2_small_are_the_published_ones() -> None:
    """124 million, as the Hugging Face checkpoint has."""
    settings = Gpt(n_layer=12, n_head=12, n_embd=768)
    assert parameter_counts(settings, vocab_size=50257, block_size=1024).total == 124_439_808


@pytest.mark.parametrize("variant", VARIANTS)
def test_flops_are_six_for_each_weight_of_a_matrix_and_attention(variant: str) -> None:
    """Every matrix but the lookups, the head even where it is tied."""
    options = VARIANTS[variant]
    settings, model = settings_of(**options), model_of(**options)
    share = settings.n_expert_used / settings.n_expert if settings.n_expert else 1
    matrices = sum(
        p.numel() * (share if ".experts." in name else 1)
        for name, p in model.named_parameters()
        if p.dim() == 2 and name.startswith("blocks")
    )
    flops = flops_per_token(settings, vocab_size=VOCAB, sequence_tokens=LENGTH)
    keys = sum(settings.window_of(block) or LENGTH for block in range(settings.n_layer))
    attention = 12 * keys * settings.n_head * settings.head_width
    assert flops == pytest.approx(6 * (matrices + VOCAB * settings.n_embd) + attention, rel=1e-12)


def test_utilisation_is_the_share_of_the_peak() -> None:
    """100 tokens/s of 2 GFLOP each are 200 GFLOP/s."""
    assert utilisation(100.0, 2e9, 845e9) == pytest.approx(200 / 845)


@pytest.mark.parametrize("variant", VARIANTS)
def test_cost_equals_what_the_built_model_has(variant: str) -> None:
    """Plans are made from the cost alone, so its numbers are the model's own."""
    settings, model = settings_of(**VARIANTS[variant]), model_of(**VARIANTS[variant])
    found = cost(settings, {"vocab_size": VOCAB, "sequence_tokens": LENGTH})
    hidden = {id(matrix) for matrix in model.hidden_matrices()}
    named = [(name, p) for name, p in model.named_parameters() if name.startswith("blocks.0.") and id(p) in hidden]
    block = [p for name, p in named if ".experts." not in name or ".experts.0." in name]
    assert found.parameters == sum(p.numel() for p in model.parameters())
    assert found.matrix_parameters == sum(p.numel() for p in model.hidden_matrices())
    assert sorted(found.matrix_sides) == sorted(tuple(p.shape) for p in model.hidden_matrices())
    # What leaves a block's matrices for each token: q, k, v; attention's and the feed-forward's outputs; the inner layer.
    inner = up_matrices(settings) * settings.inner_width
    assert qkv_width(settings) + 2 * settings.n_embd + inner == sum(p.shape[0] for p in block)
    assert (found.vocab_size, found.sequence_tokens) == (VOCAB, LENGTH)


def test_cost_longer_context_than_the_data_has_more_positions() -> None:
    """`block_size` may exceed the sequences: the table of positions is that long."""
    facts = {"vocab_size": VOCAB, "sequence_tokens": LENGTH}
    short, long = (cost(settings_of(block_size=size), facts) for size in (None, 3 * LENGTH))
    assert long.parameters - short.parameters == 2 * LENGTH * settings_of().n_embd
    assert long.flops_per_token == short.flops_per_token


@pytest.mark.parametrize("variant", VARIANTS)
def test_active_parameters_are_those_of_a_model_without_idle_experts(variant: str) -> None:
    """With k of E experts a token meets as many weights as if there were k; the router alone knows of all."""
    options = VARIANTS[variant]
    found = cost(settings_of(**options), {"vocab_size": VOCAB, "sequence_tokens": LENGTH})
    if "n_expert" not in options:
        assert found.active_parameters is None
        return
    used = settings_of(**options).n_expert_used
    fewer = sum(p.numel() for p in model_of(**options | {"n_expert": used}).parameters())
    routers = 2 * 16 * (options["n_expert"] - used)
    assert found.active_parameters == fewer + routers


@pytest.mark.parametrize("attention", ["math", "fused"])
def test_memory_window_spares_weights_of_attention_and_experts_cost_their_copies(attention: str) -> None:
    """Beyond the queries that go together a window is what is kept; an expert's tokens go there and come back."""
    context = ModelContext({"vocab_size": VOCAB, "sequence_tokens": 4096}, attention=attention)  # type: ignore[arg-type]
    plain, window, mixed, experts = (
        gpt(settings_of(**options), context, "bfloat16").activations
        for options in (
            {}, {"attention_window": 256}, {"attention_window": 256, "full_attention_every": 2}, {"n_expert": 4},
        )
    )  # fmt: skip
    spared = 2 * 4 * (4096 - 512) if attention == "math" else 0
    assert plain - mixed == spared
    assert plain - window == 2 * spared
    assert experts > plain


def test_memory_computes_as_many_queries_at_once_as_attention() -> None:
    """One module needs torch and the other must not; the number must be one."""
    assert load_object("ml_playground.models.layers.attention:QUERIES_AT_ONCE") == QUERIES_AT_ONCE


@pytest.mark.parametrize(
    ("preset", "millions"),
    [
        ("1m", 1.02), ("10m", 10.7), ("95m", 92.3), ("gpt2", 85.8), ("gpt2_medium", 303.4), ("gpt2_large", 709.7),
        ("gpt2_xl", 1477.2),
    ],
)  # fmt: skip
def test_preset_has_as_many_weights_as_its_name_says(preset: str, millions: float) -> None:
    """Beside the embeddings of tokens, at 256 tokens of context where the preset does not say."""
    table = tomllib.loads((PRESETS / "model" / f"{preset}.toml").read_text(encoding="utf-8"))
    settings = Gpt.model_validate(table["model"])
    counts = parameter_counts(settings, vocab_size=1, block_size=settings.block_size or 256)
    assert (counts.total - settings.n_embd) / 1e6 == pytest.approx(millions, rel=0.01)


def test_every_model_has_a_cost_that_needs_no_torch() -> None:
    """The planner and the decision to compile meet every model by this table; `transformers` builds its own to count them."""
    assert all(row.cost for row in MODELS.shipped.values())
    ours = [row for kind, row in MODELS.shipped.items() if kind != "hf_causal_lm"]
    costs = [row.cost for row in ours]
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from ml_playground.core.registry import load_object\n"
        f"for path in {sorted([*costs, *(row.memory for row in ours if row.memory)])!r}: load_object(path)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=600)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(callable(load_object(path)) for path in costs)
