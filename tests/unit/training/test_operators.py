"""Sorting what the profiler recorded: everything lands once, and the sum is the step."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.training.operators import (
    BACKWARD,
    DATA_MARK,
    MODULE_MARK,
    OPTIMIZER_MARK,
    PYTHON,
    READING_MARK,
    STEP_MARK,
    Operation,
    by_part,
    by_work,
    work_of,
)

ATTENTION, NORM = f"{MODULE_MARK}Attention", f"{MODULE_MARK}RmsNorm"

# One step as the profiler would record it, each operation a second long.
STEP = (
    Operation("aten::index", 0, 1, (DATA_MARK,)),
    Operation(STEP_MARK, 1, 0.5, ()),
    Operation("aten::mul", 2, 1, (NORM, STEP_MARK), sequence=4),
    Operation("aten::addmm", 3, 1, ("aten::linear", ATTENTION, STEP_MARK), sequence=5),
    Operation("aten::copy_", 4, 1, (ATTENTION, STEP_MARK), sequence=6),
    Operation(f"{BACKWARD}: AddmmBackward0", 5, 0.5, (STEP_MARK,), sequence=5),
    Operation("aten::mm", 5, 1, (f"{BACKWARD}: AddmmBackward0", STEP_MARK), sequence=5),
    Operation(f"{BACKWARD}: MulBackward0", 6, 0.5, (STEP_MARK,), sequence=4),
    Operation("aten::mul", 6, 1, (f"{BACKWARD}: MulBackward0", STEP_MARK), sequence=4),
    Operation("aten::linalg_vector_norm", 7, 1, (STEP_MARK,)),
    Operation(OPTIMIZER_MARK, 8, 0.5, (STEP_MARK,)),
    Operation("aten::_fused_adamw_", 8, 1, (OPTIMIZER_MARK, STEP_MARK)),
    Operation("aten::lerp_", 9, 1, (STEP_MARK,)),
    Operation("aten::stack", 10, 1, (READING_MARK,)),
)


def test_parts_of_a_step_are_told_by_where_an_operation_stands() -> None:
    """Between the way back and the optimizer lies the clipping; what follows the optimizer belongs to it."""
    parts = by_part(STEP, steps=1, step_s=15.0)
    assert dict(parts) == {
        "data": 1,
        "forward": 3,
        "backward": 2,
        "gradients": 1,
        "optimizer": 2,
        "reading": 1,
        PYTHON: 5,
    }


def test_work_of_small_operations_is_that_of_their_module_both_ways() -> None:
    """A multiplication in a norm is normalisation, and so is its gradient; a matrix product stays one wherever it stands."""
    work = by_work(STEP, steps=1, step_s=10.0)
    assert dict(work) == {
        "normalisation": 2,
        "matrix products": 2,
        "attention": 1,
        "embedding": 1,
        "copies": 1,
        "gradients": 1,
        "optimizer": 2,
        PYTHON: 0,
    }


names = st.sampled_from(
    ["aten::mm", "aten::mul", STEP_MARK, DATA_MARK, f"{BACKWARD}: X", OPTIMIZER_MARK, "aten::bmm", ATTENTION]
)
operations = st.builds(
    Operation,
    names,
    st.floats(0, 100),
    st.floats(0, 10),
    st.lists(names, max_size=3).map(tuple),
    st.integers(-1, 5),
)


@given(st.lists(operations, max_size=12), st.integers(1, 4), st.floats(1e-6, 1e3))
def test_shares_are_never_negative_and_add_up_to_the_step(found: list[Operation], steps: int, step_s: float) -> None:
    """Whatever was recorded, nothing is counted twice and nothing is lost."""
    for shares in (by_part(found, steps=steps, step_s=step_s), by_work(found, steps=steps, step_s=step_s)):
        assert all(seconds >= 0 for seconds in shares.values())
        assert math.isclose(sum(shares.values()), step_s, rel_tol=1e-9)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aten::mm", "matrix products"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "attention"),
        ("aten::_softmax_backward_data", "attention"),
        ("aten::_log_softmax", "loss"),
        ("aten::native_layer_norm_backward", "normalisation"),
        ("aten::gelu_backward", "activation"),
        ("aten::embedding_dense_backward", "embedding"),
        ("aten::_to_copy", "copies"),
        ("aten::add", "element by element"),
        ("## Call CompiledFxGraph fx ##", "compiled kernels"),
        ("mlp.step", None),
        (f"{BACKWARD}: MulBackward0", None),
    ],
)
def test_work_of_a_name(name: str, kind: str | None) -> None:
    """Names of torch that a reader knows under a plain word; those that only stand around others do no work."""
    assert work_of(name) == kind
