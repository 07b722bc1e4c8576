"""Each "auto" is decided once; what cannot be is refused."""

import pytest
import torch

from ml_playground.configuration.models import RuntimeSettings
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.machine import has_native_bfloat16
from ml_playground.training.precision import COMPILE_FROM_STEPS, apply_runtime, decide_runtime


@pytest.fixture(autouse=True)
def _threads_of_the_process():
    """Threads and determinism are the process's: put them back."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    torch.set_float32_matmul_precision("highest")


def test_decide_runtime_leaves_no_auto() -> None:
    """Whatever the machine, everything is decided."""
    decided = decide_runtime(RuntimeSettings(), max_steps=10)
    assert "auto" not in decided.model_dump().values()


def test_decide_runtime_keeps_what_was_said() -> None:
    """Only an auto is decided."""
    said = RuntimeSettings(
        device="cpu", dtype="float32", attention="fused", compile=True, threads=3, allocator="system"
    )
    assert decide_runtime(said, max_steps=10) == said


def test_decide_runtime_on_the_cpu_takes_bfloat16_only_where_it_is_native() -> None:
    """Emulated bfloat16 is slower than float32."""
    decided = decide_runtime(RuntimeSettings(device="cpu"), max_steps=10)
    assert decided.dtype == ("bfloat16" if has_native_bfloat16() else "float32")


def test_decide_runtime_on_the_cpu_writes_attention_out_and_does_not_compile() -> None:
    """The fused CPU kernel's backward is slow; a compile is not earned back."""
    decided = decide_runtime(RuntimeSettings(device="cpu"), max_steps=10 * COMPILE_FROM_STEPS)
    assert (decided.attention, decided.compile) == ("math", False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there")
def test_decide_runtime_device_that_is_not_there_is_refused() -> None:
    """Never a silent fall back to the CPU."""
    with pytest.raises(
        ConfigError,
        match=r"runtime.device = 'cuda' is not on this machine \(there: .*cpu\); name one that is, e\.g\. --set",
    ):
        decide_runtime(RuntimeSettings(device="cuda"), max_steps=10)


def test_apply_runtime_sets_threads_and_determinism() -> None:
    """What is recorded is what the process does."""
    decided = decide_runtime(RuntimeSettings(device="cpu", threads=1, deterministic=True), max_steps=10)
    assert apply_runtime(decided) == torch.device("cpu")
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()
