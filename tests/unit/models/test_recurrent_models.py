"""The recurrent models: laws that every one of them keeps, and that every setting has its effect."""

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from ml_playground.configuration import families
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.registry import load_object
from ml_playground.core.values import ModelContext, TokenMemory
from ml_playground.data_pipeline.batches import NO_TARGET, TokenBatch
from ml_playground.models.recurrent.settings import CharRnn, MinGru
from ml_playground.objectives.next_token import NextTokenObjective
from ml_playground.objectives.settings import NextToken

VOCAB, LENGTH, ROWS = 31, 12, 3
SIZES: dict[str, dict[str, Any]] = {
    "char_rnn": {"n_layer": 2, "n_hidden": 16},
    "min_gru": {"n_layer": 2, "n_embd": 16},
}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn": ("char_rnn", {"cell": "rnn"}),
    "gru": ("char_rnn", {"cell": "gru", "tied_head": False, "n_embd": 12}),
    "lstm": ("char_rnn", {}),
    "min_gru": ("min_gru", {}),
    "without_convolution": ("min_gru", {"conv_tokens": 0, "n_hidden": 16, "tied_head": False, "feed_forward": "gelu"}),
    "swiglu": ("min_gru", {"feed_forward": "swiglu", "n_inner": 20}),
}


def settings_of(kind: str, **options: Any) -> CharRnn | MinGru:
    """Two layers, sixteen wide."""
    return load_object(families.MODELS[kind].settings).model_validate(SIZES[kind] | options)


def model_of(
    variant: str, *, recompute: bool = False, vocab: int = VOCAB, length: int = LENGTH, seed: int = 0, **more: Any
) -> Any:
    """A small model with weights from a fixed seed, in evaluation mode."""
    kind, options = VARIANTS[variant]
    torch.manual_seed(seed)
    context = ModelContext({"vocab_size": vocab, "sequence_tokens": length}, activation_checkpointing=recompute)
    return load_object(families.MODELS[kind].build)(settings_of(kind, **options | more), context).eval()


def roughened(model: Any) -> Any:
    """The same model with weights so large that no part of it is negligible."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) * 0.2)
    return model


def some_ids(rows: int = ROWS, length: int = LENGTH, vocab: int = VOCAB) -> torch.Tensor:
    """Random ids from a fixed seed."""
    return torch.randint(vocab, (rows, length), generator=torch.Generator().manual_seed(7))


def gradients_of(model: Any) -> dict[str, torch.Tensor]:
    """Gradient of each parameter by name."""
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_forward_gives_logits_of_head_over_hidden(variant: str) -> None:
    """The loss may apply the head in parts, so calling the model must mean exactly head(hidden)."""
    model = model_of(variant)
    logits = model(some_ids())
    assert logits.shape == (ROWS, LENGTH, VOCAB)
    torch.testing.assert_close(logits, model.head(model.hidden(some_ids())), rtol=0, atol=0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_when_a_later_token_changes_stay(variant: str) -> None:
    """Causality: what comes later never shows in what came before; and what came before shows in all that comes later."""
    model = roughened(model_of(variant)).double()
    ids = some_ids()
    other = ids.clone()
    other[:, 7] = (other[:, 7] + 1) % VOCAB
    before, after = model(ids), model(other)
    torch.testing.assert_close(after[:, :7], before[:, :7], rtol=0, atol=1e-12)
    assert bool(((after - before)[:, 7:].abs().amax(-1) > 1e-9).all())


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_do_not_know_of_each_other(variant: str) -> None:
    """A state that went from row to row would leak one text into another."""
    model = roughened(model_of(variant)).double()
    together = model(some_ids())
    for row in range(ROWS):
        torch.testing.assert_close(model(some_ids()[row : row + 1])[0], together[row], rtol=0, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_first_loss_is_near_log_of_vocabulary(variant: str) -> None:
    """A model that knows nothing spreads its bets evenly."""
    model = model_of(variant, vocab=200)
    ids = some_ids(8, LENGTH, 200)
    loss = functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(200), abs=0.1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_batch_is_learnt_by_heart(variant: str) -> None:
    """The whole way forth and back works, through every parameter."""
    model = model_of(variant).train()
    ids = some_ids(2, 7)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(200):
        loss = functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    assert all(float(gradient.abs().sum()) > 0 for gradient in gradients_of(model).values())


@pytest.mark.parametrize("variant", VARIANTS)
def test_batch_in_parts_gives_equal_gradients(variant: str) -> None:
    """Accumulation must not change the maths, even when rows have unequally many targets."""
    model, objective = roughened(model_of(variant).double()), NextTokenObjective(NextToken())
    ids = some_ids(4)
    labels = ids.roll(-1, dims=1)
    labels[0, 3:] = NO_TARGET
    found = []
    for rows in (4, 1):
        model.zero_grad()
        for part, targets in zip(ids.split(rows), labels.split(rows), strict=True):
            objective.loss_sum(model, TokenBatch(part, targets)).backward()
        found.append({name: gradient.clone() for name, gradient in gradients_of(model).items()})
    torch.testing.assert_close(found[1], found[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_dropout_in_training_changes_logits_and_in_evaluation_does_not(variant: str) -> None:
    """Dropout belongs to training, and a seed decides it."""
    model = roughened(model_of(variant, dropout=0.3))
    calm = model(some_ids())
    torch.testing.assert_close(calm, roughened(model_of(variant))(some_ids()))
    model.train()
    drawn = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        drawn.append(model(some_ids()))
    torch.testing.assert_close(drawn[0], drawn[1], rtol=0, atol=0)
    assert not torch.allclose(drawn[0], calm)
    assert not torch.allclose(drawn[0], drawn[2])


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("variant", VARIANTS)
def test_activation_checkpointing_gives_equal_gradients(variant: str, dropout: float) -> None:
    """Recomputing a layer, with the same dropout, must change nothing but memory."""
    found = []
    for recompute in (False, True):
        model = roughened(model_of(variant, recompute=recompute, dropout=dropout)).train()
        torch.manual_seed(5)
        model(some_ids()).square().mean().backward()
        found.append(gradients_of(model))
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("variant", ["lstm", "min_gru"])
def test_activation_checkpointing_keeps_fewer_tensors_for_the_way_back(variant: str) -> None:
    """The setting has its effect: only the inputs of layers are kept."""

    def kept(*, recompute: bool) -> int:
        sizes: list[int] = []

        def count(tensor: torch.Tensor) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        model = model_of(variant, recompute=recompute, n_layer=4).train()
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            model(some_ids(16, 64))
        return sum(sizes)

    assert kept(recompute=True) < kept(recompute=False) / 2


@pytest.mark.parametrize("variant", VARIANTS)
def test_bfloat16_autocast_stays_close_to_float32(variant: str) -> None:
    """Products in bfloat16 cost precision, not meaning; every parameter still gets a float32 gradient."""
    model = roughened(model_of(variant))
    exact = model(some_ids())
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(some_ids())
    similarity = functional.cosine_similarity(rough.float(), exact, dim=-1)
    assert similarity.min() > 0.99
    rough.float().square().mean().backward()
    assert all(gradient.dtype == torch.float32 for gradient in gradients_of(model).values())


OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("lstm", {"cell": "rnn"}),
    ("lstm", {"cell": "gru"}),
    ("lstm", {"n_layer": 3}),
    ("lstm", {"n_embd": 12, "tied_head": False}),
    ("lstm", {"tied_head": False}),
    ("lstm", {"forget_bias": -2.0}),
    ("min_gru", {"n_layer": 3}),
    ("min_gru", {"n_hidden": 20}),
    ("min_gru", {"n_inner": 48}),
    ("min_gru", {"feed_forward": "gelu"}),
    ("min_gru", {"conv_tokens": 2}),
    ("min_gru", {"conv_tokens": 0}),
    ("min_gru", {"tied_head": False}),
]


@pytest.mark.parametrize(("variant", "options"), OPTIONS, ids=lambda value: value if isinstance(value, str) else None)
def test_each_option_changes_the_function(variant: str, options: dict[str, Any]) -> None:
    """No setting is decoration. Weights are large, so that a small difference shows."""
    changed, plain = roughened(model_of(variant, **options)), roughened(model_of(variant))
    assert not torch.allclose(changed(some_ids()), plain(some_ids()), rtol=0, atol=1e-5)


def test_stated_vocabulary_must_be_that_of_the_data() -> None:
    """It is there to be checked."""
    with pytest.raises(ConfigError, match=r"model.vocab_size = 99, but the data were prepared with a vocabulary of 31"):
        model_of("lstm", vocab_size=99)
    assert model_of("min_gru", vocab_size=VOCAB).vocab_size == VOCAB


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"cell": "gru", "forget_bias": 2.0},
            r"forget_bias = 2 has no effect with cell = 'gru', which has no forget gate; remove it or use cell = 'lstm'",
        ),
        (
            {"n_embd": 8},
            r"n_embd = 8 and n_hidden = 384 differ, so the embeddings cannot be the output layer; use tied_head = false",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(options: dict[str, Any], message: str) -> None:
    """Each message says what was given and what would do."""
    with pytest.raises(ValidationError, match=message):
        CharRnn(**options)


def test_resolved_widths_follow_from_what_is_stated() -> None:
    """What is left out has the usual size; what is stated counts."""
    assert (CharRnn().embedding_width, CharRnn().first_forget_bias) == (384, 1.0)
    assert CharRnn(n_embd=8, tied_head=False).embedding_width == 8
    assert (MinGru().state_width, MinGru().inner_width) == (576, 1536)
    assert (MinGru(n_hidden=5).state_width, MinGru(n_inner=7).inner_width) == (5, 7)


def test_lstm_begins_with_open_forget_gates_and_orthogonal_recurrence() -> None:
    """What the literature found: gradients neither vanish nor explode at the start."""
    layer = model_of("lstm").layers[1]
    gates = layer.bias_ih_l0.view(4, 16)
    assert torch.equal(gates[1], torch.ones(16))
    assert not gates[[0, 2, 3]].any()
    assert not layer.bias_hh_l0.any()
    for gate in layer.weight_hh_l0.double().chunk(4):
        torch.testing.assert_close(gate @ gate.T, torch.eye(16).double(), rtol=0, atol=1e-5)


def test_min_gru_begins_with_memories_of_every_length() -> None:
    """A gate of z keeps its state for about 1 / z tokens: from two to as many as a sequence has."""
    model = model_of("min_gru", n_hidden=400, length=256)
    kept = 1 / torch.sigmoid(model.blocks[0].recurrence.gate.bias.detach())
    assert kept.min() >= 2 - 1e-4
    assert kept.max() <= 256
    assert float((kept < 128).float().mean()) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("variant", VARIANTS)
def test_hidden_matrices_are_all_matrices_but_tables_head_and_taps(variant: str) -> None:
    """What Muon may orthogonalise: what maps hidden states to hidden states."""
    model = model_of(variant)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    chosen = {names[id(parameter)] for parameter in model.hidden_matrices()}
    matrices = {name for name, parameter in model.named_parameters() if parameter.ndim > 1}
    left = {name.rpartition(".")[0].rpartition(".")[2] for name in matrices - chosen}
    assert left <= {"token_embedding", "output", "convolution"}
    assert chosen


@pytest.mark.parametrize("variant", VARIANTS)
def test_cost_by_formula_equals_the_model(variant: str) -> None:
    """Plans are made from the cost alone, so its numbers are the model's own."""
    kind, options = VARIANTS[variant]
    model = model_of(variant)
    cost = load_object(families.MODELS[kind].cost)(
        settings_of(kind, **options), {"vocab_size": VOCAB, "sequence_tokens": LENGTH}
    )
    matrices = sum(parameter.numel() for parameter in model.hidden_matrices())
    head = model.token_embedding if model.output is None else model.output
    assert cost.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert cost.matrix_parameters == matrices
    if cost.matrix_sides:
        assert sorted(cost.matrix_sides) == sorted(tuple(matrix.shape) for matrix in model.hidden_matrices())
    assert cost.flops_per_token == 6 * (matrices + head.weight.numel())
    assert (cost.vocab_size, cost.sequence_tokens) == (VOCAB, LENGTH)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_memory_of_a_token_grows_with_the_model_and_not_with_the_text(variant: str, dtype: str) -> None:
    """Recomputation spares what deep models keep; the length of a row costs nothing for each of its tokens."""
    kind, options = VARIANTS[variant]

    def taken(*, recompute: bool = False, length: int = LENGTH, **more: Any) -> TokenMemory:
        context = ModelContext({"vocab_size": VOCAB, "sequence_tokens": length}, activation_checkpointing=recompute)
        return load_object(families.MODELS[kind].memory)(settings_of(kind, **options | more), context, dtype)

    shallow, deep = taken(), taken(n_layer=40)
    assert shallow.activations < taken(n_layer=4).activations < deep.activations
    assert taken(recompute=True, n_layer=40).activations < 0.8 * deep.activations
    assert taken(length=4 * LENGTH) == shallow


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_min_gru_without_graph_breaks_gives_equal_gradients() -> None:
    """Compiled code takes the scan by doubling; `fullgraph` refuses any break."""
    found = []
    for compiled in (False, True):
        model = roughened(model_of("min_gru", n_layer=1))
        hidden = torch.compile(model.hidden, dynamic=False, fullgraph=True) if compiled else model.hidden
        model.head(hidden(some_ids())).square().mean().backward()
        found.append(gradients_of(model))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)
