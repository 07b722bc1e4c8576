"""Devices as torch sees them, and their measured rates."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.core.machine import has_native_bfloat16, probe
from ml_playground.core.machine_rates import Rates, identity_of, keep_rates
from ml_playground.core.torch_machine import (
    Device,
    available_devices,
    cuda_device,
    devices_here,
    free_bytes,
    matrix_rate,
    measured_rates,
    multiplies_bfloat16,
    rates_of,
    read_rate,
    thread_counts,
    trusted,
)


def test_available_devices_end_with_the_cpu() -> None:
    """There is always one device, and it is the last choice."""
    assert available_devices()[-1].name == "cpu"


def test_matrix_rate_is_no_less_than_one_product_in_all_the_time() -> None:
    """A rate is measured, not assumed: the best product takes no longer than the whole call, in which the machine may stand still."""
    before_s = time.perf_counter()
    rate = matrix_rate(torch.device("cpu"), torch.float32, seconds=0.01, side=64)
    assert rate * (time.perf_counter() - before_s) >= 2 * 64**3


def test_rate_without_any_time_is_measured_once() -> None:
    """A machine that was elsewhere when the measuring began is not infinitely slow."""
    assert matrix_rate(torch.device("cpu"), torch.float32, seconds=0.0, side=64) > 0


def test_read_rate_is_no_less_than_one_reading_in_all_the_time() -> None:
    """In bytes, all of them."""
    before_s = time.perf_counter()
    rate = read_rate(torch.device("cpu"), seconds=0.01, size_bytes=1 << 20)
    assert rate * (time.perf_counter() - before_s) >= 1 << 20


def test_measured_rates_leave_the_threads_as_they_were() -> None:
    """Trying out numbers of threads is nobody else's business."""
    former = torch.get_num_threads()
    rates = measured_rates("cpu", (1, 2), seconds=0.01)
    assert torch.get_num_threads() == former
    assert rates.threads in (1, 2)
    assert min(rates.float32_flops_per_s, rates.bfloat16_flops_per_s or 0, rates.read_bytes_per_s) > 0


def test_measured_rates_with_more_threads_than_cores_are_disturbed() -> None:
    """A thread that has to wait for a core shows: here the others are our own."""
    assert measured_rates("cpu", (4 * probe().logical_cores,), seconds=0.3).undisturbed is False


def test_rates_of_a_device_are_measured_once_and_read_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the file says is believed, until somebody asks to measure again."""
    monkeypatch.setenv("MLP_HOME", str(tmp_path))
    first = rates_of("cpu")
    assert rates_of("cpu") == first
    written = Rates("cpu", 1, 1.0, 2.0, 3.0)
    keep_rates(identity_of(probe(), "cpu"), written)
    assert rates_of("cpu") == written
    assert rates_of("cpu", again=True) != written


@given(st.booleans(), st.floats(0, 1000), st.integers(1, 512))
def test_trusted_figures_are_those_that_a_new_measurement_would_not_better(
    undisturbed: bool, load: float, cores: int
) -> None:
    """What was measured on a busy machine stays while it is busy, and is measured again when it is idle."""
    kept = Rates("cpu", 1, 1.0, 2.0, 3.0, undisturbed=undisturbed)
    assert trusted(kept, load=load, cores=cores) or load <= cores
    assert trusted(kept, load=10 * cores, cores=cores)
    assert trusted(kept, load=0.0, cores=cores) is undisturbed


def test_rates_of_a_device_need_no_place_to_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home that cannot be written costs a measurement a process, nothing else."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("MLP_HOME", str(tmp_path / "file"))
    assert rates_of("cpu") is rates_of("cpu")


@given(st.floats(0.1, 512), st.integers(1, 256))
def test_thread_counts_never_exceed_what_the_container_leaves(usable_cores: float, physical_cores: int) -> None:
    """At least one thread; else none that would wait for a core, and one a core comes first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OMP_NUM_THREADS", raising=False)
        counts = thread_counts(usable_cores, physical_cores)
    assert 1 <= counts[0] <= max(1, physical_cores)
    assert counts[-1] <= max(1, usable_cores)
    assert list(counts) == sorted(set(counts))


def test_thread_counts_follow_the_variable_that_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was read when torch was loaded."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert thread_counts(16.0, 8) == (torch.get_num_threads(),)


def test_free_bytes_of_the_cpu_are_the_machines() -> None:
    """As the probe sees them, give or take what others do meanwhile."""
    free, available = free_bytes("cpu"), probe().available_bytes
    assert (free is None) == (available is None)
    assert free is None or free > 0


def test_cuda_device_is_described_by_name_capability_and_memory() -> None:
    """What `mlp doctor` shows of it."""
    properties = SimpleNamespace(name="A GPU", major=8, minor=5, total_memory=1 << 34)
    assert cuda_device(1, properties) == Device("cuda:1", "A GPU, capability 8.5", 1 << 34)


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
