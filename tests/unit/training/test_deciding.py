"""Each "auto" is decided with a reason; what was asked for stays."""

import math
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.configuration.models import RuntimeSettings
from ml_playground.core.machine_rates import Rates
from ml_playground.training.deciding import ASKED, CLEARLY, COMPILING, Here, Work, decide_runtime, settled

ANYTHING_ASKED = {
    "device": "cpu",
    "dtype": "float32",
    "attention": "fused",
    "compile": True,
    "activation_checkpointing": True,
    "threads": 3,
    "allocator": "system",
}

rates = st.builds(
    Rates,
    device=st.just("cpu"),
    threads=st.integers(1, 256),
    float32_flops_per_s=st.floats(1e9, 1e15),
    bfloat16_flops_per_s=st.none() | st.floats(1e9, 1e15),
    read_bytes_per_s=st.floats(1e9, 1e13),
)
heres = st.builds(
    Here,
    device=st.sampled_from(["cpu", "cuda", "mps"]),
    rates=rates,
    asked_threads=st.sampled_from(["", "2"]),
    keeps_memory=st.booleans(),
    free_bytes=st.none() | st.integers(0, 1 << 40),
    obstacle=st.sampled_from([lambda: None, lambda: "no compiler"]),
)
works = st.builds(
    Work,
    steps=st.integers(1, 10**7),
    flops_per_step=st.floats(1e6, 1e18),
    sequence_tokens=st.integers(1, 1 << 17),
    planned_bytes=st.integers(0, 1 << 40).map(
        lambda size: lambda runtime: size // 3 if runtime.activation_checkpointing is True else size
    ),
)

HERE = Here("cpu", Rates("cpu", 2, 186e9, 845e9, 50e9), "", True, 8 << 30, lambda: None)
WORK = Work(1000, 1e9, 256, lambda runtime: 1 << 30)


@given(heres, works)
def test_decide_runtime_leaves_no_auto_and_no_choice_without_reason(here: Here, work: Work) -> None:
    """Whatever the machine and the run, everything is decided, and its user can be told why."""
    decided = decide_runtime(RuntimeSettings(), here, work)
    runtime = RuntimeSettings.model_validate(settled(RuntimeSettings(), decided).model_dump())
    assert "auto" not in runtime.model_dump().values()
    assert all(decision.reason for decision in decided.values())


@given(heres, works, st.sets(st.sampled_from(sorted(ANYTHING_ASKED))))
def test_decide_runtime_each_setting_can_be_overridden_alone(here: Here, work: Work, names: set[str]) -> None:
    """What was asked for is taken as it is, and the rest is decided as ever."""
    asked = {name: ANYTHING_ASKED[name] for name in names}
    decided = decide_runtime(RuntimeSettings.model_validate(asked), here, work)
    assert {name: decided[name].value for name in names} == asked
    assert {name for name, decision in decided.items() if decision.reason == ASKED} == names | {
        "deterministic",
        "flight_check",
        "on_out_of_memory",
    }


@given(rates)
def test_dtype_is_bfloat16_only_where_it_was_measured_to_be_clearly_faster(measured: Rates) -> None:
    """Emulated bfloat16 is slower than float32, and casting costs too."""
    chosen = decide_runtime(RuntimeSettings(), replace(HERE, rates=measured), WORK)["dtype"].value
    half = measured.bfloat16_flops_per_s or 0.0
    if chosen == "bfloat16":
        assert half > measured.float32_flops_per_s
    else:
        assert half < 1.5 * measured.float32_flops_per_s


def test_dtype_reason_names_both_rates() -> None:
    """The reader can judge for himself."""
    reason = decide_runtime(RuntimeSettings(), HERE, WORK)["dtype"].reason
    assert reason == "measured: bfloat16 845, float32 186 GFLOP/s (4.5 times)"


def test_dtype_on_an_apple_gpu_is_float32() -> None:
    """The safe subset: torch does not say which generation it is."""
    dtype = decide_runtime(RuntimeSettings(), replace(HERE, device="mps"), WORK)["dtype"]
    assert dtype.value == "float32"
    assert "generations of Apple's GPUs differ" in dtype.reason


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.floats(1e6, 1e15))
def test_compile_a_longer_run_never_does_without_what_a_shorter_one_had(one: int, other: int, flops: float) -> None:
    """The saving grows with the steps, the cost does not."""
    short, long = (
        decide_runtime(RuntimeSettings(), HERE, replace(WORK, steps=steps, flops_per_step=flops))["compile"].value
        for steps in sorted((one, other))
    )
    assert long >= short


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_compile_is_chosen_where_it_clearly_saves_more_than_it_costs(device: Any) -> None:
    """A tenth below the break-even it is not worth it, a tenth above it is."""
    here, compiling = replace(HERE, device=device), COMPILING[device]
    step_s = WORK.flops_per_step / (here.rates.flops_per_s("bfloat16") * compiling.efficiency)
    even = math.ceil(CLEARLY * compiling.seconds / (compiling.gain * step_s))
    below, above = (
        decide_runtime(RuntimeSettings(), here, replace(WORK, steps=int(steps)))["compile"]
        for steps in (0.9 * even, 1.1 * even)
    )
    assert (below.value, above.value) == (False, True)
    assert above.reason.startswith("would save about ")


def test_compile_worth_it_but_impossible_says_both() -> None:
    """A missing compiler costs its user time: the reason is the place to learn of it."""
    here = replace(HERE, obstacle=lambda: "no C++ compiler is on the PATH; install g++")
    compiled = decide_runtime(RuntimeSettings(), here, replace(WORK, steps=10**9))["compile"]
    assert compiled.value is False
    assert compiled.reason.endswith(", but no C++ compiler is on the PATH; install g++")


def test_compile_of_a_short_run_asks_no_compiler() -> None:
    """Asking takes a quarter of a second, which a short run has better use for."""

    def obstacle() -> str:
        raise AssertionError("asked")

    assert decide_runtime(RuntimeSettings(), replace(HERE, obstacle=obstacle), WORK)["compile"].value is False


def test_compiling_a_model_that_gains_nothing_is_off_however_long_the_run() -> None:
    """What the model's kind says comes before what a compiled run would save."""
    work = replace(WORK, steps=10**9, uncompiled="its layers are one call each")
    decision = decide_runtime(RuntimeSettings(), HERE, work)["compile"]
    assert (decision.value, decision.reason) == (False, "its layers are one call each")


@given(st.integers(0, 1 << 40), st.integers(0, 1 << 40))
def test_recomputation_is_chosen_exactly_where_memory_is_short(plan: int, free: int) -> None:
    """It costs a third of the time: never where everything fits, always where it would not."""
    here, work = replace(HERE, free_bytes=free), replace(WORK, planned_bytes=lambda runtime: plan)
    chosen = decide_runtime(RuntimeSettings(), here, work)["activation_checkpointing"].value
    assert chosen is (plan > 0.9 * free)


def test_recomputation_is_planned_for_the_decided_precision() -> None:
    """Activations in bfloat16 take half: the plan must be made for what will run."""
    seen: list[tuple[str, str]] = []

    def plan(runtime: RuntimeSettings) -> int:
        seen.append((runtime.dtype, runtime.attention))
        return 1

    decide_runtime(RuntimeSettings(), HERE, replace(WORK, planned_bytes=plan))
    assert seen == [("bfloat16", "math")]


def test_recomputation_reason_names_plan_memory_and_what_it_brings() -> None:
    """GiB that are there, wanted, and wanted with recomputation."""
    work = replace(WORK, planned_bytes=lambda runtime: (4 if runtime.activation_checkpointing is True else 12) << 30)
    reason = decide_runtime(RuntimeSettings(), HERE, work)["activation_checkpointing"].reason
    assert reason == "the plan takes 12.0 of 8.0 GiB; recomputing makes it 4.0"
    unknown = decide_runtime(RuntimeSettings(), replace(HERE, free_bytes=None), work)["activation_checkpointing"]
    assert (unknown.value, unknown.reason) == (False, "the memory of this device is unknown")


def test_recomputation_of_a_kind_that_nobody_can_plan_is_off_and_says_so() -> None:
    """No plan is better than a wrong one."""
    found = decide_runtime(RuntimeSettings(), HERE, replace(WORK, planned_bytes=lambda runtime: None))
    decision = found["activation_checkpointing"]
    assert (decision.value, decision.reason) == (False, "what this kind of model takes is unknown")


@pytest.mark.parametrize(
    ("dtype", "tokens", "attention"),
    [("bfloat16", 64, "math"), ("bfloat16", 4096, "math"), ("float32", 512, "math"), ("float32", 1024, "fused")],
)
def test_attention_on_the_cpu_is_fused_only_where_its_kernel_is_faster(dtype: Any, tokens: int, attention: str) -> None:
    """Long context in float32; in bfloat16 its backward pass is slow at any length that was measured."""
    wanted = RuntimeSettings(dtype=dtype)
    assert decide_runtime(wanted, HERE, replace(WORK, sequence_tokens=tokens))["attention"].value == attention


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_attention_on_a_gpu_is_fused(device: Any) -> None:
    """One kernel, and no weights of T x T in its memory."""
    assert decide_runtime(RuntimeSettings(), replace(HERE, device=device), WORK)["attention"].value == "fused"


def test_allocator_keeps_memory_only_where_it_can_be_told_to() -> None:
    """Other C libraries and macOS go their own way, and the reason says so."""
    kept, own = (
        decide_runtime(RuntimeSettings(), replace(HERE, keeps_memory=can), WORK)["allocator"] for can in (True, False)
    )
    assert (kept.value, own.value) == ("retain", "system")
    assert own.reason == "only glibc can be told to keep freed memory mapped"


def test_threads_reason_names_the_variable_that_asked() -> None:
    """Somebody may have forgotten it in a profile."""
    asked, free = (
        decide_runtime(RuntimeSettings(), replace(HERE, asked_threads=n), WORK)["threads"] for n in ("2", "")
    )
    assert asked.reason == "OMP_NUM_THREADS = 2"
    assert "measured" in free.reason


def test_deciding_needs_no_torch() -> None:
    """A planner may ask before anything heavy is loaded."""
    code = "import sys; sys.modules['torch'] = None; import ml_playground.training.deciding"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=600)
    assert (done.returncode, done.stderr) == (0, "")
