"""Linear layers for generation: one weight, packed once, multiplied with few rows many times.

N rows, I features in, O features out. A row of a product with few rows costs what it costs to read the matrix, so a
smaller type and an order that the processor reads in a line are what counts. One core, 384 x 1152, one row: torch's own
float32 131 us, packed 62; bfloat16 92 and 37; int8 21.
"""

from typing import Literal, Protocol, cast

import torch
from torch import Tensor
from torch.nn import functional

from ml_playground.core.error_handling import ConfigError

Precision = Literal["float32", "bfloat16", "int8"]
"""Of the weights in a product. `float32` leaves them in the type that they have."""

INT8_COLUMNS = 16
"""torch's int8 product reads this many columns at once and past the end of what is no multiple of it."""


class Linear(Protocol):
    """x (N, I) -> (N, O)."""

    def __call__(self, x: Tensor) -> Tensor:
        """The product, in the type of the weights' products; `x` may have another."""
        ...


class PlainLinear:
    """torch's own product: where nothing packs, and for types that are computed with and not stored."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight, self._bias, self._dtype = weight, bias, weight.dtype

    def __call__(self, x: Tensor) -> Tensor:
        """(N, I) -> (N, O)."""
        return functional.linear(x.to(self._dtype), self._weight, self._bias)


class OneDnnLinear:
    """A matrix in the blocks that oneDNN reads; its float32 is also twice as fast as MKL's on processors of AMD."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._dtype, self._bias = weight.dtype, bias
        # The operators behind torch.compile on the CPU: torch packs weights nowhere else without wrapping each tensor.
        # No number of rows is given: packed for one row the product takes 1.5 times longer.
        self._weight = cast(Tensor, torch.ops.mkldnn._reorder_linear_weight(weight))
        self._product = torch.ops.mkldnn._linear_pointwise.default

    def __call__(self, x: Tensor) -> Tensor:
        """(N, I) -> (N, O)."""
        return self._product(x.to(self._dtype), self._weight, self._bias, "none", [], "")


class Int8Linear:
    """Weights as 8-bit integers and one scale for each output; inputs and sums keep bfloat16 and float32."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        # The scale is rounded before the weights are divided by it, so that its rounding costs nothing.
        highest = weight.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny)
        self._scale = (highest / 127).to(torch.bfloat16)
        self._weight = (weight / self._scale.to(weight.dtype)[:, None]).round_().clamp_(-127, 127).to(torch.int8)
        self._bias = None if bias is None else bias.to(torch.bfloat16)

    def __call__(self, x: Tensor) -> Tensor:
        """(N, I) -> (N, O)."""
        product = torch.ops.aten._weight_int8pack_mm.default(
            x.to(torch.bfloat16).contiguous(), self._weight, self._scale
        )
        return product if self._bias is None else product.add_(self._bias)


def packed(weight: Tensor, bias: Tensor | None, precision: Precision) -> Linear:
    """The fastest product with `weight` (O, I) and `bias` (O,) at a precision, where the weight is.

    Raises:
        ConfigError: int8 anywhere but on a CPU.
    """
    weight, bias = weight.detach(), None if bias is None else bias.detach()
    on_cpu = weight.device.type == "cpu"
    if precision == "int8":
        if not on_cpu:
            raise ConfigError(
                f"sample.precision = 'int8' works on the CPU only, but the model is on {weight.device.type}; "
                "use 'bfloat16', or runtime.device = 'cpu'."
            )
        if weight.shape[1] % INT8_COLUMNS == 0:
            return Int8Linear(weight.float(), bias)
    if precision != "float32":
        weight, bias = weight.to(torch.bfloat16), None if bias is None else bias.to(torch.bfloat16)
    if on_cpu and torch.backends.mkldnn.is_available() and _packs(weight.dtype):
        return OneDnnLinear(weight, bias)
    return PlainLinear(weight, bias)


def _packs(dtype: torch.dtype) -> bool:
    """Whether oneDNN packs a type: bfloat16 only where the processor has AVX-512, and elsewhere it raises."""
    return dtype == torch.float32 or (
        dtype == torch.bfloat16 and cast(bool, torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )
