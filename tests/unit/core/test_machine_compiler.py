"""What torch.compile needs, found out without torch."""

import importlib.util
import sysconfig
from pathlib import Path

import pytest

from ml_playground.core.machine_compiler import compile_obstacle, cxx_compiler, refused

HEADERS = Path(sysconfig.get_paths()["include"])
needs_compiler = pytest.mark.skipif(cxx_compiler() is None, reason="no C++ compiler here")


def compiler(folder: Path, script: str) -> str:
    """A program that stands in for a compiler."""
    path = folder / "c++"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@needs_compiler
@pytest.mark.skipif(not (HEADERS / "Python.h").exists(), reason="Python's headers are not installed")
def test_compiler_of_this_machine_takes_what_torch_writes() -> None:
    """Python's headers, the C++ library, OpenMP: all that compiled code includes beside torch's own headers."""
    assert compile_obstacle("cpu") is None


@needs_compiler
def test_missing_headers_of_python_are_named(tmp_path: Path) -> None:
    """The commonest fault: a compiler is there, python3-dev is not."""
    assert "Python.h" in str(refused(str(cxx_compiler()), tmp_path, tmp_path / "program"))


@needs_compiler
def test_folder_for_compiled_code_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run must not choose by itself what fails at its first step."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "file" / "below"))
    obstacle = str(compile_obstacle("cpu"))
    assert obstacle.startswith("compiled code cannot be kept and run (")
    assert str(tmp_path / "file") in obstacle
    assert obstacle.endswith("; set TORCHINDUCTOR_CACHE_DIR to a folder of your own")


def test_compiled_code_that_may_not_run_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a mount with `noexec`: the compiler is content, the program does not start."""
    monkeypatch.setenv("CXX", compiler(tmp_path, 'for program; do :; done; touch "$program"'))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "new"))
    assert str(compile_obstacle("cpu")).startswith("compiled code cannot be kept and run (")
    assert list((tmp_path / "new").iterdir()) == []


def test_no_compiler_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """`CXX` counts before everything else, as it does for torch."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert str(compile_obstacle("cpu")).startswith("no C++ compiler is on the PATH; install ")


def test_compiler_that_refuses_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own first complaint says most."""
    path = compiler(tmp_path, "echo note: hm >&2; echo 'error: I am too old' >&2; exit 1")
    monkeypatch.setenv("CXX", path)
    obstacle = str(compile_obstacle("cpu"))
    assert obstacle.startswith(f"{path} refuses what torch writes (error: I am too old); install ")


@pytest.mark.parametrize(
    ("script", "complaint"), [("exit 1", "no reason given"), ("echo odd >&2; exit 1", "odd"), ("exit 0", None)]
)
def test_refused_says_what_there_is_to_say(tmp_path: Path, script: str, complaint: str | None) -> None:
    """Not every compiler names an error."""
    assert refused(compiler(tmp_path, script), HEADERS, tmp_path / "program") == complaint


def test_compiler_that_cannot_run_is_refused(tmp_path: Path) -> None:
    """A file that is no program."""
    assert refused(str(tmp_path), HEADERS, tmp_path / "program") is not None


def test_cuda_needs_triton_and_apple_gpus_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where kernels are written in Triton, it must be there."""
    monkeypatch.setenv("CXX", compiler(tmp_path, "exit 0"))
    assert str(compile_obstacle("mps")).startswith("it is a prototype on Apple GPUs")
    there = importlib.util.find_spec("triton") is not None
    assert compile_obstacle("cuda") == (None if there else "the package triton is not installed; pip install triton")
