"""Packed products: those of the matrix that was packed, as exactly as its type allows."""

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.core.error_handling import ConfigError
from ml_playground.models.layers.packed_linear import OneDnnLinear, PlainLinear, Precision, packed

TOLERANCE: dict[Precision, float] = {"float32": 1e-5, "bfloat16": 2e-2, "int8": 3e-2}
"""Of the largest output: rounding of float32, of bfloat16, and of bfloat16 and eight bits."""


@given(
    rows=st.integers(1, 20),
    columns=st.integers(1, 70),
    outputs=st.integers(1, 70),
    biased=st.booleans(),
    precision=st.sampled_from(sorted(TOLERANCE)),
    seed=st.integers(0, 99),
)
def test_packed_product_equals_the_plain_one(
    rows: int, columns: int, outputs: int, biased: bool, precision: Precision, seed: int
) -> None:
    """Any shape, also those that a kernel cannot take; a whole process once ended in one of them."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, columns, generator=generator)
    bias = torch.randn(outputs, generator=generator) if biased else None
    x = torch.randn(rows, columns, generator=generator)
    expected = torch.nn.functional.linear(x, weight, bias)
    product = packed(weight, bias, precision)(x)
    # What rounds is each term of a sum; where they cancel, the sum itself says little.
    scale = (x.abs() @ weight.abs().T).max() + 1
    assert float((product.float() - expected).abs().max()) <= TOLERANCE[precision] * float(scale)


def test_packed_int8_of_a_row_of_zeros_is_zero() -> None:
    """No scale fits it, and none may be NaN."""
    weight = torch.cat([torch.zeros(1, 32), torch.ones(1, 32)])
    assert packed(weight, None, "int8")(torch.ones(1, 32)).tolist() == [[0.0, 32.0]]


def test_packed_int8_uses_a_byte_a_weight() -> None:
    """That is what it is for: as many bytes are read as there are weights."""
    linear = packed(torch.randn(64, 48), None, "int8")
    held = [value for value in vars(linear).values() if isinstance(value, torch.Tensor)]
    assert sum(tensor.nbytes for tensor in held) == 64 * 48 + 64 * 2


def test_packed_int8_elsewhere_than_on_a_cpu_is_refused() -> None:
    """The message says what works."""
    with pytest.raises(
        ConfigError,
        match=r"sample.precision = 'int8' works on the CPU only, but the model is on meta; use 'bfloat16', or runtime.device",
    ):
        packed(torch.empty(2, 2, device="meta"), None, "int8")


def test_packed_float64_stays_exact() -> None:
    """Laws are tested in float64, so nothing may be narrowed on the way."""
    weight, x = torch.randn(5, 7, dtype=torch.float64), torch.randn(3, 7, dtype=torch.float64)
    linear = packed(weight, None, "float32")
    assert isinstance(linear, PlainLinear)
    torch.testing.assert_close(linear(x), x @ weight.T, rtol=0, atol=1e-14)


def test_packed_on_a_cpu_is_laid_out_anew() -> None:
    """The reason for packing: torch's own product takes twice as long."""
    assert isinstance(packed(torch.randn(4, 4), None, "float32"), OneDnnLinear)


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_packed_on_a_processor_without_avx512_is_torchs_own_product(precision: str) -> None:
    """Packing bfloat16 raises there, and int8 falls back to it where the columns are no multiple of 16."""
    code = (
        "import sys, torch\n"
        "from ml_playground.models.layers.packed_linear import packed\n"
        "print(packed(torch.ones(3, 7), None, sys.argv[1])(torch.ones(1, 7)).tolist())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, precision],
        env=os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[[7.0, 7.0, 7.0]]\n", "")
