"""The facts of this machine and of a run decide; what cannot be is refused; the process is made so."""

import os
import sys
from pathlib import Path

import pytest
import torch

from ml_playground.configuration.loading import load
from ml_playground.configuration.models import RuntimeSettings
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.machine_compiler import compile_obstacle
from ml_playground.core.torch_machine import KERNELS_KEPT
from ml_playground.training.deciding import settled
from ml_playground.training.precision import apply_runtime, device_for, look, runtime_for, work_of

FACTS = {"vocab_size": 65, "sequence_tokens": 64}
JOB = load("python_stdlib").job
RECORDED = {
    "device": "cpu",
    "dtype": "float32",
    "attention": "fused",
    "compile": False,
    "activation_checkpointing": True,
    "threads": 3,
    "allocator": "system",
}


def test_work_of_a_job_counts_every_micro_batch_of_a_step() -> None:
    """Twice the micro-batches, twice the arithmetic; the memory of one of them."""
    one, two = (
        work_of(JOB.model_copy(update={"train": JOB.train.model_copy(update={"micro_batches_per_step": n})}), FACTS, 10)
        for n in (1, 2)
    )
    assert two.flops_per_step == 2 * one.flops_per_step > 0
    assert two.planned_bytes(RuntimeSettings(device="cpu")) == one.planned_bytes(RuntimeSettings(device="cpu"))


def test_work_of_a_job_on_a_gpu_leaves_the_snapshot_on_the_host() -> None:
    """The copy from which checkpoints are written takes memory of the machine, not of the device."""
    work = work_of(JOB, FACTS, 10)
    on_cuda, on_cpu = (
        work.planned_bytes(RuntimeSettings(device=device, dtype="float32", attention="math"))
        for device in ("cuda", "cpu")
    )
    assert on_cuda is not None
    assert on_cpu is not None
    assert on_cuda < on_cpu


def test_runtime_for_a_job_decides_from_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rates are measured once and kept."""
    monkeypatch.setenv("MLP_HOME", str(tmp_path))
    decided = runtime_for(JOB, FACTS, 10)
    assert "auto" not in [decision.value for decision in decided.values()]
    assert (tmp_path / ".cache" / "machine.json").is_file()
    assert runtime_for(JOB, FACTS, 10) == decided


def test_runtime_for_a_recorded_job_measures_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On resume the recorded values win; there is nothing to find out."""
    monkeypatch.setenv("MLP_HOME", str(tmp_path))
    recorded = RuntimeSettings.model_validate(RECORDED)
    decided = runtime_for(JOB.model_copy(update={"runtime": recorded}), FACTS, 10)
    assert settled(recorded, decided) == recorded
    assert not (tmp_path / ".cache").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a search path without compilers")
def test_runtime_for_compile_that_cannot_work_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for and impossible: said before anything is trained, with the way out."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    wanted = JOB.model_copy(update={"runtime": RuntimeSettings(device="cpu", compile=True)})
    assert compile_obstacle("cpu") is not None
    with pytest.raises(
        ConfigError,
        match=r"^runtime\.compile = true cannot work here: no C\+\+ compiler .*\. Or go without: --set runtime\.compile=false "
        r"\(with --resume RUN for a run that began compiled\)\.$",
    ):
        runtime_for(wanted, FACTS, 10)


def test_runtime_for_compiling_a_model_that_torch_does_not_compile_is_refused() -> None:
    """A setting without effect is worse than a refusal, whatever compilers are there."""
    job = load("python_stdlib", sets=["model={kind='char_rnn'}", "runtime.compile=true"]).job
    with pytest.raises(
        ConfigError, match=r"compile = true cannot work here: torch does not compile the layers of a char_rnn"
    ):
        runtime_for(job, FACTS, 10)


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there")
def test_device_that_is_not_there_is_refused() -> None:
    """Never a silent fall back to the CPU."""
    with pytest.raises(
        ConfigError,
        match=r"runtime.device = 'cuda' is not on this machine \(there: .*cpu\); name one that is, e\.g\. --set",
    ):
        device_for("cuda")


def test_look_asks_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real figures of the machine that the tests run on."""
    monkeypatch.setenv("MLP_HOME", str(tmp_path))
    here = look("cpu")
    assert here.rates.device == here.device == "cpu"
    assert here.obstacle() == compile_obstacle("cpu")


def test_apply_runtime_sets_threads_and_determinism() -> None:
    """What is recorded is what the process does."""
    decided = RuntimeSettings(device="cpu", dtype="float32", threads=1, deterministic=True, allocator="system")
    assert apply_runtime(decided) == torch.device("cpu")
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("said", [None, "500"])
def test_runtime_bounds_the_shapes_that_kernels_are_kept_for(said: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of ever new lengths would fill the memory; what the user says stands. oneDNN reads it at its first product."""
    for name in KERNELS_KEPT:
        monkeypatch.setenv(name, said or "")
        if said is None:
            monkeypatch.delenv(name)
    job = load("python_stdlib", sets=["runtime.device=cpu"]).job
    runtime_for(job, {"vocab_size": 65, "sequence_tokens": 64}, 10)
    assert [os.environ[name] for name in KERNELS_KEPT] == ([said, said] if said else ["128", "64"])
