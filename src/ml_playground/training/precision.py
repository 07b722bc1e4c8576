"""Decides each "auto" of `[runtime]` once, and makes the process so."""

import os

import torch

from ml_playground.configuration.models import RuntimeSettings
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.machine import retain_freed_memory
from ml_playground.core.torch_machine import devices_here, multiplies_bfloat16

# Compiling takes 10 to 60 s and then saves about a tenth of each step: shorter CUDA runs do not earn it back.
COMPILE_FROM_STEPS = 2000

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def decide_runtime(wanted: RuntimeSettings, *, max_steps: int) -> RuntimeSettings:
    """The same settings without any "auto".

    Raises:
        ConfigError: The device is not there, or cannot do what is asked of it.
    """
    device = _device(wanted.device)
    dtype = wanted.dtype
    if dtype == "auto":
        dtype = "bfloat16" if multiplies_bfloat16(device) else "float32"
    attention = wanted.attention
    if attention == "auto":
        # The fused CPU kernel's bf16 backward is slow at short context: 44 % of a step of the tiny model.
        attention = "math" if device == "cpu" else "fused"
    compiled = wanted.compile
    if compiled == "auto":
        compiled = device == "cuda" and max_steps >= COMPILE_FROM_STEPS
    return wanted.model_copy(
        update={
            "device": device,
            "dtype": dtype,
            "attention": attention,
            "compile": compiled,
            "threads": torch.get_num_threads() if wanted.threads == "auto" else wanted.threads,
            "allocator": "retain" if wanted.allocator == "auto" else wanted.allocator,
        }
    )


def apply_runtime(decided: RuntimeSettings) -> torch.device:
    """Set threads, allocator and determinism of this process; the device to build on."""
    if decided.allocator == "retain":
        retain_freed_memory()
    if isinstance(decided.threads, int):
        torch.set_num_threads(decided.threads)
    if decided.deterministic:
        # cuBLAS sums in a fixed order only with a workspace of fixed size; read when CUDA starts.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(decided.deterministic)
    # Where bfloat16 is good enough, so is TF32 for what remains in float32; where float32 is asked for, it is not.
    torch.set_float32_matmul_precision("highest" if decided.dtype == "float32" else "high")
    return torch.device(decided.device)


def _device(wanted: str) -> str:
    there = devices_here()
    if wanted == "auto":
        return there[0]
    if wanted not in there:
        raise ConfigError(
            f"runtime.device = {wanted!r} is not on this machine (there: {', '.join(there)}); name one that is, "
            f"e.g. --set runtime.device={there[0]} (with --resume RUN for a run that began on another device), "
            "or see `mlp doctor`."
        )
    return wanted
