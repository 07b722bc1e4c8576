"""Rows that hold several documents: each is read as if it were alone, whatever the attention, the positions or the device do."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ml_playground.core.error_handling import DataError
from ml_playground.core.values import ModelContext
from ml_playground.models.core.gpt import GptModel, build
from ml_playground.models.layers.attention import causal_mask
from ml_playground.models.layers.documents import lengths_of, within_documents
from ml_playground.models.protocols import Layout
from ml_playground.models.settings import Gpt

VOCAB, LENGTH = 31, 12
PACKED = ((5, 7), (4, 1, 7))
"""Tokens of each document of each row."""
VARIANTS: dict[str, dict[str, Any]] = {
    "learned": {},
    "rotary": {"position": "rotary", "n_kv_head": 2, "qk_norm": True, "norm": "rms_norm", "bias": False},
    "bigrams": {"position": "rotary", "bigram_rows": 2000},
    "window": {"position": "rotary", "attention_window": 3, "full_attention_every": 2},
    "learned_window": {"attention_window": 4, "n_kv_head": 1},
    "experts": {"n_expert": 4},
}


def layout_of(rows: tuple[tuple[int, ...], ...]) -> Layout:
    """The layout of rows whose documents are so long."""
    positions = [torch.cat([torch.arange(size) for size in sizes]) for sizes in rows]
    documents = [torch.cat([torch.full((size,), number) for number, size in enumerate(sizes)]) for sizes in rows]
    return Layout(torch.stack(positions), torch.stack(documents))


def model_of(*, attention: str = "math", recompute: bool = False, **options: Any) -> GptModel:
    """Two blocks in float64, with weights so large that no part is negligible."""
    torch.manual_seed(0)
    context = ModelContext(
        {"vocab_size": VOCAB, "sequence_tokens": LENGTH},
        attention=attention,  # type: ignore[arg-type]
        activation_checkpointing=recompute,
    )
    model = build(Gpt.model_validate({"n_layer": 2, "n_head": 4, "n_embd": 16} | options), context).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def some_ids() -> Tensor:
    """Two rows of random ids."""
    return torch.randint(VOCAB, (2, LENGTH), generator=torch.Generator().manual_seed(7))


def alone(model: GptModel, ids: Tensor) -> Tensor:
    """(B, T, C): every document of PACKED in a batch of its own, put where it came from."""
    pieces = [model.hidden(part[None])[0] for row, sizes in zip(ids, PACKED, strict=True) for part in row.split(sizes)]
    return torch.cat(pieces).view(*ids.shape, -1)


def gradients(model: GptModel, hidden: Tensor) -> dict[str, Tensor | None]:
    """Of a loss that every state has its own part in."""
    model.zero_grad(set_to_none=True)
    (model.head(hidden).log_softmax(-1).square().mean()).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("attention", ["math", "fused"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_packed_documents_give_the_states_and_gradients_of_each_alone(
    variant: str, attention: str, recompute: bool
) -> None:
    """No token sees another document, and positions begin again; the previous token of a pair counts as none, too."""
    model = model_of(attention=attention, recompute=recompute, **VARIANTS[variant]).train()
    ids = some_ids()
    packed, apart = model.hidden(ids, layout_of(PACKED)), alone(model, ids)
    torch.testing.assert_close(packed, apart, rtol=0, atol=1e-10)
    torch.testing.assert_close(gradients(model, packed), gradients(model, apart), rtol=0, atol=1e-10)
    assert not torch.allclose(packed, model.hidden(ids))


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("attention", ["math", "fused"])
@pytest.mark.parametrize("variant", ["rotary", "window"])
def test_compiled_model_masks_documents_to_the_same_numbers(variant: str, attention: str) -> None:
    """Where attention cannot go from document to document, a mask keeps them apart: on GPUs, and in graphs."""
    model = model_of(attention=attention, **VARIANTS[variant])
    ids, layout = some_ids(), layout_of(PACKED)
    graph = torch.compile(model.hidden, backend="eager", fullgraph=True)
    masked = graph(ids, layout)
    torch.testing.assert_close(masked, model.hidden(ids, layout), rtol=0, atol=1e-10)
    torch.testing.assert_close(gradients(model, masked), gradients(model, alone(model, ids)), rtol=0, atol=1e-10)


def test_many_documents_of_one_row_may_be_longer_together_than_the_context() -> None:
    """What bounds a document is its own length."""
    model = model_of()
    ids = some_ids().view(1, -1)
    layout = layout_of(((*PACKED[0], *PACKED[1]),))
    torch.testing.assert_close(model.hidden(ids, layout), alone(model, ids.view(2, -1)).view(1, 2 * LENGTH, -1))
    with pytest.raises(DataError, match="reads at most block_size = 12 tokens, got rows of 13"):
        model.hidden(ids, layout_of(((13, 11),)))


@given(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1, max_size=3))
@settings(max_examples=50, deadline=None)
def test_lengths_and_masks_say_the_same_of_all_layouts(sizes: list[list[int]]) -> None:
    """What each token may see is the same by both ways, for rows of any make."""
    longest = max(map(sum, sizes))
    rows = tuple((*row, *[1] * (longest - sum(row))) for row in sizes)
    documents = layout_of(rows).documents
    lengths = lengths_of(documents)
    assert lengths == tuple(size for row in rows for size in row)
    seen = within_documents(causal_mask(longest, dtype=torch.float32, device=documents.device), documents)[:, 0] == 0
    for row, mask in zip(rows, seen, strict=True):
        assert torch.equal(mask, torch.block_diag(*[torch.ones(size, size).tril() for size in row]).bool())
