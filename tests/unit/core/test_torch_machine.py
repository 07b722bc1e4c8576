"""Devices as torch sees them."""

from types import SimpleNamespace

import pytest
import torch

from ml_playground.core.machine import has_native_bfloat16
from ml_playground.core.torch_machine import Device, available_devices, cuda_device, matrix_rate


def test_available_devices_end_with_the_cpu() -> None:
    """There is always one device, and it is the last choice."""
    assert available_devices()[-1].name == "cpu"
    assert available_devices()[-1].native_bf16 is has_native_bfloat16()


def test_matrix_rate_of_small_matrices_is_positive() -> None:
    """A rate is measured, not assumed."""
    assert matrix_rate(torch.device("cpu"), torch.float32, side=64) > 1e6


@pytest.mark.parametrize(("major", "native"), [(7, False), (8, True), (9, True)])
def test_cuda_device_from_ampere_on_multiplies_bfloat16(major: int, native: bool) -> None:
    """Older ones emulate it, slower than float32."""
    properties = SimpleNamespace(name="A GPU", major=major, minor=5, total_memory=1 << 34)
    assert cuda_device(1, properties) == Device("cuda:1", f"A GPU, capability {major}.5", 1 << 34, native)
