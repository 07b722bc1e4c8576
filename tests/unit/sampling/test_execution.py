"""Where a model is run: as recorded where that is possible, else said."""

import os

import pytest
import torch

from ml_playground.configuration.models import RuntimeSettings
from ml_playground.configuration.sample_settings import SampleSettings
from ml_playground.core.torch_machine import KERNELS_KEPT, devices_here
from ml_playground.sampling.execution import choose_execution, choose_precision


def test_choose_execution_recorded_cpu_float32_is_taken() -> None:
    """Nothing to replace, nothing to say."""
    execution = choose_execution(RuntimeSettings(device="cpu", dtype="float32"))
    assert (execution.device, execution.dtype, list(execution.notes)) == (torch.device("cpu"), torch.float32, [])


def test_choose_execution_bounds_the_shapes_that_kernels_are_kept_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts of ever new lengths would fill the memory of a server."""
    for name in KERNELS_KEPT:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    choose_execution(RuntimeSettings(device="cpu", dtype="float32"))
    assert {name: int(os.environ[name]) for name in KERNELS_KEPT} == KERNELS_KEPT


def test_choose_execution_device_that_is_not_here_falls_back_and_says_so() -> None:
    """A run from another machine can be sampled; at most one of cuda and mps is ever there."""
    missing = "mps" if "cuda" in devices_here() else "cuda"
    execution = choose_execution(RuntimeSettings(device=missing, dtype="float32"))
    assert execution.device.type == devices_here()[0]
    assert list(execution.notes) == [f"runtime.device = '{missing}' is not on this machine; using {devices_here()[0]}"]


def test_choose_execution_auto_takes_the_first_device() -> None:
    """What a job without a recorded choice would train on."""
    execution = choose_execution(RuntimeSettings())
    assert execution.device.type == devices_here()[0]
    assert execution.notes == []


def test_choose_execution_bfloat16_only_where_the_hardware_has_it() -> None:
    """Emulated bfloat16 is slower and less precise than float32, so it is replaced."""
    execution = choose_execution(RuntimeSettings(device="cpu", dtype="bfloat16"), native_bfloat16=lambda device: False)
    assert execution.dtype is torch.float32
    assert list(execution.notes) == ["this machine's cpu does not multiply bfloat16 itself; using float32"]
    execution = choose_execution(RuntimeSettings(device="cpu", dtype="bfloat16"), native_bfloat16=lambda device: True)
    assert (execution.dtype, list(execution.notes)) == (torch.bfloat16, [])


def test_choose_execution_automatic_dtype_without_hardware_is_float32_in_silence() -> None:
    """Nobody asked for bfloat16, so there is nothing to say."""
    execution = choose_execution(RuntimeSettings(device="cpu"), native_bfloat16=lambda device: False)
    assert (execution.dtype, list(execution.notes)) == (torch.float32, [])


def test_choose_execution_automatic_attention_is_fused_on_cuda_only() -> None:
    """As a training decides it; what is recorded or asked for is taken."""
    expected = "fused" if devices_here()[0] == "cuda" else "math"
    assert choose_execution(RuntimeSettings()).attention == expected
    assert choose_execution(RuntimeSettings(device="cpu")).attention == "math"
    assert choose_execution(RuntimeSettings(device="cpu", attention="fused")).attention == "fused"


def test_choose_precision_auto_is_float32() -> None:
    """Only in float32 a seed means one text in every batch."""
    chosen = choose_precision(SampleSettings(), torch.device("cpu"), native_bfloat16=lambda device: True)
    assert (chosen.precision, list(chosen.notes)) == ("float32", [])


def test_choose_precision_bfloat16_only_where_the_hardware_has_it() -> None:
    """Torch would emulate it; llama.cpp reads half as much and multiplies in float32."""
    asked = SampleSettings(precision="bfloat16")
    chosen = choose_precision(asked, torch.device("cpu"), native_bfloat16=lambda device: False)
    assert chosen.precision == "float32"
    assert list(chosen.notes) == ["this machine's cpu does not multiply bfloat16 itself; drawing in float32"]
    assert choose_precision(asked, torch.device("cpu"), native_bfloat16=lambda device: True).precision == "bfloat16"
    other = SampleSettings(precision="bfloat16", engine="llama_cpp")
    assert choose_precision(other, torch.device("cpu"), native_bfloat16=lambda device: False).precision == "bfloat16"
