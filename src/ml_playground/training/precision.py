"""Decides each "auto" of `[runtime]` once, from the facts of this machine and this run, and makes the process so."""

import os
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import torch

from ml_playground.configuration import families
from ml_playground.configuration.models import JobConfig, RuntimeSettings
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.machine import has_glibc, retain_freed_memory
from ml_playground.core.machine_compiler import compile_obstacle
from ml_playground.core.machine_rates import DeviceKind
from ml_playground.core.torch_machine import bound_kernel_caches, devices_here, free_bytes, rates_of
from ml_playground.core.values import NO_COST
from ml_playground.planning.memory import planned_bytes
from ml_playground.training.deciding import ASKED, Decision, Decisions, Here, Work, decide_runtime

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def runtime_for(job: JobConfig, facts: Mapping[str, int], max_steps: int) -> Decisions:
    """What `decide_runtime` says of a job on this machine.

    Args:
        job: What is trained.
        facts: What the data know of themselves: vocab_size, sequence_tokens.
        max_steps: Optimizer updates in all.

    Raises:
        ConfigError: The device is not there, or cannot do what is asked of it.
    """
    bound_kernel_caches()
    wanted = job.runtime
    device = device_for(wanted.device)
    work = work_of(job, facts, max_steps)
    if wanted.compile is True:
        _refuse_compiling(device, work)
    if "auto" not in wanted.model_dump().values():
        return {name: Decision(value, ASKED) for name, value in wanted.model_dump().items()}
    return decide_runtime(wanted, look(device), work)


def look(device: DeviceKind) -> Here:
    """The facts of this machine that decide."""
    return Here(
        device=device,
        rates=rates_of(device),
        asked_threads=os.environ.get("OMP_NUM_THREADS", ""),
        keeps_memory=has_glibc(),
        free_bytes=free_bytes(device),
        obstacle=partial(compile_obstacle, device),
    )


def work_of(job: JobConfig, facts: Mapping[str, int], max_steps: int) -> Work:
    """The facts of a run that decide."""
    cost = families.cost_of(job.model, facts) or NO_COST
    rows: int = cast(Any, job.data).micro_batch_rows
    tokens = rows * cost.sequence_tokens * job.train.micro_batches_per_step

    def plan(runtime: RuntimeSettings) -> int | None:
        planned = planned_bytes(job.model_copy(update={"runtime": runtime}), facts)
        return None if planned is None else planned.needed_by(runtime.device)

    return Work(max_steps, tokens * cost.flops_per_token, cost.sequence_tokens, plan, cost.uncompiled)


def apply_runtime(decided: RuntimeSettings) -> torch.device:
    """Set threads, allocator and determinism of this process; the device to build on."""
    if decided.allocator == "retain":
        retain_freed_memory()
    if isinstance(decided.threads, int):
        torch.set_num_threads(decided.threads)
    if decided.deterministic:
        # cuBLAS sums in a fixed order only with a workspace of fixed size; read when CUDA starts.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Calling it imports torch's compiler, 2 s: not where nothing changes.
    if decided.deterministic != torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(decided.deterministic)
    # Where bfloat16 is good enough, so is TF32 for what remains in float32; where float32 is asked for, it is not.
    torch.set_float32_matmul_precision("highest" if decided.dtype == "float32" else "high")
    return torch.device(decided.device)


def device_for(wanted: str) -> DeviceKind:
    """The kind of device that is asked for, or the first that is there.

    Raises:
        ConfigError: It is not there.
    """
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


def _refuse_compiling(device: DeviceKind, work: Work) -> None:
    obstacle = work.uncompiled or compile_obstacle(device)
    if obstacle is not None:
        raise ConfigError(
            f"runtime.compile = true cannot work here: {obstacle}. Or go without: --set runtime.compile=false "
            "(with --resume RUN for a run that began compiled)."
        )
