"""Whether torch.compile can work here: it writes C++ for the CPU and Triton for CUDA, and needs what compiles these.

Finding that out by compiling something costs 10 s and more; asking the compiler to read the headers costs a quarter of one.
"""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from ml_playground.core.machine_rates import DeviceKind

# What the code that torch writes for a CPU includes beside its own headers: the interpreter's, the C++ library's, OpenMP's.
# Apple's compiler takes OpenMP by other flags and from other folders, which torch knows.
OPENMP = sys.platform != "darwin"
SOURCE = "#include <Python.h>\n#include <vector>\n" + ("#include <omp.h>\n" if OPENMP else "")
FLAGS = ["-fsyntax-only", *(["-fopenmp"] if OPENMP else []), "-x", "c++", "-"]

INSTALL = {
    "Linux": "install g++ and Python's headers (Debian: apt install g++ python3-dev)",
    "Darwin": "install the command line tools (xcode-select --install) and OpenMP (brew install libomp)",
}


def compile_obstacle(device: DeviceKind) -> str | None:
    """Why torch.compile cannot work for a kind of device, and what to do; none: it can."""
    if device == "mps":
        return "it is a prototype on Apple GPUs; leave runtime.compile alone"
    remedy = INSTALL.get(platform.system(), "install a C++ compiler")
    compiler = cxx_compiler()
    if compiler is None:
        return f"no C++ compiler is on the PATH; {remedy}"
    # Triton has a compiler of its own, but builds what starts its kernels with the system's.
    if device == "cuda":
        missing = importlib.util.find_spec("triton") is None
        return "the package triton is not installed; pip install triton" if missing else None
    complaint = refused(compiler, Path(sysconfig.get_paths()["include"]))
    return None if complaint is None else f"{compiler} refuses what torch writes ({complaint}); {remedy}"


def cxx_compiler() -> str | None:
    """The compiler that torch would call: `CXX` of the environment, else the system's own; none: it is not there."""
    return shutil.which(os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++"))


def refused(compiler: str, headers: Path) -> str | None:
    """The compiler's first complaint about a small program that uses Python's headers and OpenMP; none: it takes it."""
    try:
        done = subprocess.run(  # noqa: S603 - the compiler that its user has named
            [compiler, f"-I{headers}", *FLAGS], input=SOURCE, capture_output=True, text=True, check=False, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    lines = [line for line in done.stderr.splitlines() if "error" in line]
    return None if done.returncode == 0 else (lines or done.stderr.splitlines() or ["no reason given"])[0]
