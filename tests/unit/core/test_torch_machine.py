"""Devices as torch sees them."""

import torch

from ml_playground.core.machine import has_native_bfloat16
from ml_playground.core.torch_machine import available_devices, matrix_rate


def test_available_devices_end_with_the_cpu() -> None:
    """There is always one device, and it is the last choice."""
    assert available_devices()[-1].name == "cpu"
    assert available_devices()[-1].native_bf16 is has_native_bfloat16()


def test_matrix_rate_of_small_matrices_is_positive() -> None:
    """A rate is measured, not assumed."""
    assert matrix_rate(torch.device("cpu"), torch.float32, side=64) > 1e6
