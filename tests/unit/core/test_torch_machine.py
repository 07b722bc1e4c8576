"""Devices as torch sees them."""

from types import SimpleNamespace

import pytest
import torch

from ml_playground.core.machine import has_native_bfloat16
from ml_playground.core.torch_machine import (
    Device,
    available_devices,
    cuda_device,
    devices_here,
    matrix_rate,
    multiplies_bfloat16,
)


def test_available_devices_end_with_the_cpu() -> None:
    """There is always one device, and it is the last choice."""
    assert available_devices()[-1].name == "cpu"
    assert available_devices()[-1].native_bf16 is has_native_bfloat16()


def test_matrix_rate_of_small_matrices_is_positive() -> None:
    """A rate is measured, not assumed."""
    assert matrix_rate(torch.device("cpu"), torch.float32, side=64) > 1e6


def test_cuda_device_is_described_by_name_capability_and_memory() -> None:
    """What `mlp doctor` shows of it."""
    properties = SimpleNamespace(name="A GPU", major=8, minor=5, total_memory=1 << 34)
    native = multiplies_bfloat16("cuda")
    assert cuda_device(1, properties) == Device("cuda:1", "A GPU, capability 8.5", 1 << 34, native)


def test_devices_here_end_with_the_cpu_and_agree_with_the_list() -> None:
    """One order for training, sampling and the doctor."""
    kinds = dict.fromkeys(device.name.partition(":")[0] for device in available_devices())
    assert devices_here() == list(kinds)
    assert devices_here()[-1] == "cpu"


def test_multiplies_bfloat16_asks_the_processor_and_never_trusts_mps() -> None:
    """The CPU's flags decide; of Apple's GPUs nothing is known."""
    assert multiplies_bfloat16("cpu") is has_native_bfloat16()
    assert not multiplies_bfloat16("mps")


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without CUDA")
def test_multiplies_bfloat16_cuda_that_is_not_there_does_not() -> None:
    """No error either: the question may come before the device."""
    assert not multiplies_bfloat16("cuda")
