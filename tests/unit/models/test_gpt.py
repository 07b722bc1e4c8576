"""The transformer: its laws, and that every setting has its effect."""

import math
from typing import Any

import pytest
import torch

from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.core.values import ModelContext
from ml_playground.models.core.gpt import GptModel, build
from ml_playground.models.settings import Gpt

VOCAB, LENGTH, ROWS = 31, 12, 3
MODERN: dict[str, Any] = {"position": "rotary", "norm": "rms_norm", "bias": False, "norm_eps": 1e-6}
VARIANTS: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "without_bias": {"bias": False, "feed_forward": "gelu_tanh"},
    "llama": MODERN | {"feed_forward": "swiglu", "n_kv_head": 2, "tied_head": False},
    "qwen3": MODERN | {"feed_forward": "swiglu", "n_kv_head": 1, "qk_norm": True, "head_dim": 6},
    "speedrun": MODERN | {"feed_forward": "relu2", "qk_norm": True},
    "rotary_layer_norm": {"position": "rotary", "qk_norm": True},
    "bigrams": MODERN | {"feed_forward": "relu2", "bigram_rows": (VOCAB + 1) * VOCAB},
    "hashed_bigrams": {"bigram_rows": 100},
    "window": {"attention_window": 4},
    "window_of_shared_keys": MODERN
    | {"n_kv_head": 2, "attention_window": 5, "full_attention_every": 2, "qk_norm": True},
    "experts": {"n_expert": 4},
    "gated_experts": MODERN | {"feed_forward": "swiglu", "n_expert": 5, "n_expert_used": 3, "tied_head": False},
    "one_expert_of_three": {"feed_forward": "relu2", "n_expert": 3, "n_expert_used": 1, "attention_window": 3},
}
DENSE = [name for name, options in VARIANTS.items() if "n_expert" not in options]
"""Where rounding changes a number it may change who works on a token, and so the result by more than rounding."""


def settings_of(**options: Any) -> Gpt:
    """Two blocks, sixteen wide."""
    return Gpt.model_validate({"n_layer": 2, "n_head": 4, "n_embd": 16} | options)


def model_of(
    *, attention: str = "math", recompute: bool = False, vocab: int = VOCAB, seed: int = 0, **options: Any
) -> GptModel:
    """A small model with weights from a fixed seed, in evaluation mode."""
    torch.manual_seed(seed)
    facts = {"vocab_size": vocab, "sequence_tokens": LENGTH}
    context = ModelContext(facts, attention=attention, activation_checkpointing=recompute)  # type: ignore[arg-type]
    return build(settings_of(**options), context).eval()


def roughened(model: GptModel) -> GptModel:
    """The same model with weights so large that no part of it is negligible."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) * 0.2)
    return model


def some_ids(rows: int = ROWS, length: int = LENGTH, vocab: int = VOCAB) -> torch.Tensor:
    """Random ids from a fixed seed."""
    return torch.randint(vocab, (rows, length), generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("variant", VARIANTS)
def test_forward_gives_logits_of_head_over_hidden(variant: str) -> None:
    """The loss may apply the head in parts, so calling the model must mean exactly head(hidden)."""
    model = model_of(**VARIANTS[variant])
    logits = model(some_ids())
    assert logits.shape == (ROWS, LENGTH, VOCAB)
    torch.testing.assert_close(logits, model.head(model.hidden(some_ids())), rtol=0, atol=0)


@pytest.mark.parametrize("attention", ["math", "fused"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_when_a_later_token_changes_stay(variant: str, attention: str) -> None:
    """Causality: what comes later never shows in what came before."""
    model = roughened(model_of(attention=attention, **VARIANTS[variant]))
    ids = some_ids()
    other = ids.clone()
    other[:, 7] = (other[:, 7] + 1) % VOCAB
    before, after = model(ids), model(other)
    torch.testing.assert_close(after[:, :7], before[:, :7])
    assert not torch.allclose(after[:, 7:], before[:, 7:])


@pytest.mark.parametrize("variant", VARIANTS)
def test_first_loss_is_near_log_of_vocabulary(variant: str) -> None:
    """A model that knows nothing spreads its bets evenly."""
    model = model_of(vocab=200, **VARIANTS[variant])
    ids = some_ids(8, LENGTH, 200)
    loss = torch.nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(200), abs=0.1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_math_and_fused_attention_give_equal_logits_and_gradients(variant: str) -> None:
    """Which kernel computes attention is a matter of speed alone."""
    gradients = []
    for attention in ("math", "fused"):
        model = roughened(model_of(attention=attention, **VARIANTS[variant]).double())
        model(some_ids()).square().mean().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("attention", ["math", "fused"])
def test_dropout_in_training_changes_logits_and_in_evaluation_does_not(attention: str) -> None:
    """Dropout belongs to training, and a seed decides it."""
    model = roughened(model_of(attention=attention, dropout=0.3))
    calm = model(some_ids())
    torch.testing.assert_close(calm, roughened(model_of(attention=attention))(some_ids()))
    model.train()
    drawn = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        drawn.append(model(some_ids()))
    torch.testing.assert_close(drawn[0], drawn[1], rtol=0, atol=0)
    assert not torch.allclose(drawn[0], calm)
    assert not torch.allclose(drawn[0], drawn[2])


@pytest.mark.parametrize("attention", ["math", "fused"])
def test_dropout_reaches_the_attention_weights(attention: str) -> None:
    """With all attention weights dropped, tokens no longer see each other."""
    model = roughened(model_of(attention=attention)).train()
    for block in model.blocks:
        block.attention.dropout = 0.999999  # type: ignore[union-attr]
    torch.manual_seed(0)
    ids = some_ids()
    other = ids.clone()
    other[:, 0] = (other[:, 0] + 1) % VOCAB
    first = model(ids)
    torch.manual_seed(0)
    torch.testing.assert_close(model(other)[:, 1:], first[:, 1:])


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("variant", ["gpt2", "speedrun", "window", "gated_experts"])
def test_activation_checkpointing_gives_equal_gradients(variant: str, dropout: float) -> None:
    """Recomputing a block, with the same dropout, must change nothing but memory."""
    gradients = []
    for recompute in (False, True):
        model = roughened(model_of(recompute=recompute, dropout=dropout, **VARIANTS[variant])).train()
        torch.manual_seed(5)
        model(some_ids()).square().mean().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1])


def test_activation_checkpointing_keeps_fewer_tensors_for_the_way_back() -> None:
    """The setting has its effect: only the inputs of blocks are kept."""

    def kept(*, recompute: bool) -> int:
        sizes: list[int] = []

        def count(tensor: torch.Tensor) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        model = model_of(recompute=recompute).train()
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            model(some_ids())
        return sum(sizes)

    assert kept(recompute=True) < kept(recompute=False) / 2


@pytest.mark.parametrize("variant", DENSE)
def test_bfloat16_autocast_stays_close_to_float32(variant: str) -> None:
    """Products in bfloat16 cost precision, not meaning; every parameter still gets a float32 gradient."""
    model = roughened(model_of(**VARIANTS[variant]))
    exact = model(some_ids())
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(some_ids())
    assert rough.dtype == torch.bfloat16
    similarity = torch.nn.functional.cosine_similarity(rough.float(), exact, dim=-1)
    assert similarity.min() > 0.99
    rough.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_in_bfloat16_still_work(variant: str) -> None:
    """Sampling may cast the whole model; the tables of rotary positions must not lose their precision."""
    model = roughened(model_of(**VARIANTS[variant])).bfloat16()
    assert model(some_ids()).dtype == torch.bfloat16
    if model.rotary is not None:
        assert model.rotary.cos.dtype == torch.float32


OPTIONS: dict[str, dict[str, Any]] = {
    "n_layer": {"n_layer": 3},
    "n_kv_head": {"n_kv_head": 2},
    "n_inner": {"n_inner": 48},
    "head_dim": {"head_dim": 8},
    "position": {"position": "rotary"},
    "norm": {"norm": "rms_norm"},
    "norm_eps": {"norm_eps": 0.1},
    "gelu_tanh": {"feed_forward": "gelu_tanh"},
    "swiglu": {"feed_forward": "swiglu"},
    "relu2": {"feed_forward": "relu2"},
    "qk_norm": {"qk_norm": True},
    "bias": {"bias": False},
    "tied_head": {"tied_head": False},
    "zero_init": {"zero_init": True},
    "bigram_rows": {"bigram_rows": 100},
    "attention_window": {"attention_window": 4},
    "full_attention_every": {"attention_window": 4, "full_attention_every": 2},
    "n_expert": {"n_expert": 4},
}


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_changes_the_function(option: str) -> None:
    """No setting is decoration. Weights are large, so that a small difference shows."""
    # Biases start at zero, so their absence shows only once all parameters have moved.
    changed = model_of(**OPTIONS[option])
    plain = model_of()
    if option != "zero_init":
        changed, plain = roughened(changed), roughened(plain)
    assert not torch.allclose(changed(some_ids()), plain(some_ids()), rtol=0, atol=1e-5)


def test_full_attention_every_second_block_differs_from_windows_everywhere() -> None:
    """Some blocks see all, and a token beyond the window is heard through them."""
    everywhere, mixed = (
        roughened(model_of(attention_window=2, full_attention_every=every, n_layer=2)) for every in (None, 2)
    )
    ids, other = some_ids(1), some_ids(1)
    other[:, 0] = (other[:, 0] + 1) % VOCAB
    # Two windows of 2 reach 2 tokens back.
    torch.testing.assert_close(everywhere(other)[:, 3:], everywhere(ids)[:, 3:])
    assert not torch.allclose(mixed(other)[:, -1], mixed(ids)[:, -1])


def test_n_expert_used_with_equal_weights_changes_the_function() -> None:
    """How many work on a token is heard."""
    one, two = (roughened(model_of(n_expert=4, n_expert_used=used)) for used in (1, 2))
    assert not torch.allclose(one(some_ids()), two(some_ids()), atol=1e-4)


@pytest.mark.parametrize(
    ("options", "heard"),
    [
        ({"attention_dropout": 0.5}, "attention"),
        ({"residual_dropout": 0.5}, "residual"),
        ({"dropout": 0.5, "attention_dropout": 0.0, "residual_dropout": 0.0}, "embedding"),
    ],
)
def test_each_dropout_is_drawn_where_it_says(options: dict[str, Any], heard: str) -> None:
    """Of three places only the one that was asked for draws."""
    model = model_of(**options).train()
    block = model.blocks[0]
    assert (block.attention.dropout > 0, block.dropout > 0) == (heard == "attention", heard == "residual")  # type: ignore[union-attr,operator]
    torch.manual_seed(3)
    drawn = roughened(model)(some_ids())
    assert not torch.allclose(drawn, model.eval()(some_ids()))


def test_rope_theta_changes_the_function() -> None:
    """The base of the wavelengths is heard where positions are rotary."""
    models = [roughened(model_of(position="rotary", rope_theta=theta)) for theta in (10000.0, 100.0)]
    assert not torch.allclose(models[0](some_ids()), models[1](some_ids()), atol=1e-4)


def test_n_head_with_equal_weights_changes_the_function() -> None:
    """The same matrices split into other heads are another model."""
    one, two = (roughened(model_of(n_head=heads)) for heads in (4, 2))
    two.load_state_dict(one.state_dict())
    assert not torch.allclose(one(some_ids()), two(some_ids()), atol=1e-4)


def test_zero_init_makes_every_block_the_identity() -> None:
    """The logits then come from the embeddings alone."""
    model = model_of(zero_init=True)
    ids = some_ids()
    assert model.position_embedding is not None
    x = model.token_embedding(ids) + model.position_embedding.weight[:LENGTH]
    torch.testing.assert_close(model(ids), model.head(model.final_norm(x)))


def test_random_weights_have_the_spread_of_gpt2() -> None:
    """0.02 everywhere but for what is added to the residual stream; biases zero, gains one."""
    model = model_of(n_embd=256, n_layer=8, vocab=500)
    spreads = {name: parameter.std().item() for name, parameter in model.named_parameters() if parameter.dim() > 1}
    for name, spread in spreads.items():
        residual = name.endswith(("projection.weight", "down.weight"))
        assert spread == pytest.approx(0.02 / 4 if residual else 0.02, rel=0.05), name
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            assert torch.all(parameter == (0 if name.endswith("bias") else 1)), name


def test_tied_head_is_one_parameter() -> None:
    """Stored once, so that a checkpoint cannot hold two versions of it."""
    assert "output.weight" not in model_of().state_dict()
    assert "output.weight" in model_of(tied_head=False).state_dict()


@pytest.mark.parametrize("variant", VARIANTS)
def test_hidden_matrices_are_all_matrices_but_tables_and_head(variant: str) -> None:
    """What Muon may orthogonalise: neither lookups nor the output layer nor vectors."""
    model = model_of(**VARIANTS[variant])
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    chosen = {names[id(parameter)] for parameter in model.hidden_matrices()}
    ends = ("qkv.weight", "projection.weight", "gate.weight", "up.weight", "down.weight")
    assert chosen == {name for name in names.values() if name.endswith(ends)}


def test_too_many_ids_raises_data_error() -> None:
    """Positions beyond block_size do not exist."""
    with pytest.raises(DataError, match=r"at most block_size = 12 tokens, got rows of 13; shorten them, or train"):
        model_of()(some_ids(1, LENGTH + 1))


def test_build_vocabulary_other_than_the_data_raises() -> None:
    """A stated vocabulary is there to be checked."""
    with pytest.raises(ConfigError, match=r"model.vocab_size = 99, but the data were prepared with a vocabulary of 31"):
        model_of(vocab_size=99)
    assert model_of(vocab_size=VOCAB).vocab_size == VOCAB


def test_build_block_size_shorter_than_sequences_raises() -> None:
    """The data's rows must fit into the model."""
    with pytest.raises(
        ConfigError, match=r"block_size = 8 is shorter than data.sequence_tokens = 12; use block_size >= 12"
    ):
        model_of(block_size=8)


def test_build_longer_block_size_reads_more() -> None:
    """Room for longer contexts than those trained on."""
    model = model_of(block_size=20)
    assert model.max_context == 20
    assert model(some_ids(1, 20)).shape == (1, 20, VOCAB)
    assert (model.settings.block_size, model.settings.vocab_size) == (20, VOCAB)


@pytest.mark.parametrize("variant", ["gpt2", "qwen3"])
def test_crop_block_size_keeps_what_fits(variant: str) -> None:
    """A cropped model gives the same logits for shorter rows, and refuses longer ones."""
    model = model_of(**VARIANTS[variant])
    before = model(some_ids(2, 5))
    model.crop_block_size(5)
    torch.testing.assert_close(model(some_ids(2, 5)), before)
    assert (model.max_context, model.settings.block_size) == (5, 5)
    with pytest.raises(DataError, match="block_size = 5"):
        model(some_ids(2, 6))
    with pytest.raises(ConfigError, match=r"block_size = 6 is longer than the 5 positions that the model has"):
        model.crop_block_size(6)


@pytest.mark.parametrize("window", [12, 40])
def test_build_window_that_hides_nothing_raises(window: int) -> None:
    """A setting without effect is refused where the context is known."""
    with pytest.raises(
        ConfigError, match=rf"attention_window = {window} has no effect on 12 tokens of context; use less"
    ):
        model_of(attention_window=window)


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("variant", ["gpt2", "qwen3", "speedrun", "window"])
def test_compiled_model_without_graph_breaks_gives_equal_gradients(variant: str) -> None:
    """`fullgraph` refuses any break; the numbers stay the same up to rounding."""
    gradients = []
    for compiled in (False, True):
        model = roughened(model_of(**VARIANTS[variant]))
        hidden = torch.compile(model.hidden, dynamic=False, fullgraph=True) if compiled else model.hidden
        model.head(hidden(some_ids())).square().mean().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compiled_model_with_experts_is_compiled_once_whoever_works_on_which_token() -> None:
    """The experts themselves stay outside of the compiled code, which knows nothing of how tokens fall on them."""
    gradients, graphs = [], []
    for compiled in (False, True):
        model = roughened(model_of(n_expert=4, n_layer=1))
        hidden = torch.compile(model.hidden, dynamic=False) if compiled else model.hidden
        for shift in range(3):
            model.head(hidden((some_ids() + shift) % VOCAB)).square().mean().backward()
            graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"] if compiled else 0)
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)
    assert graphs[3] == graphs[5] > 0
