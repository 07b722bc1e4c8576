"""Whether torch.compile can work here: it writes C++ for the CPU and Triton for CUDA, and needs what compiles these.

Finding that out through torch costs 10 s and more; a program of three headers is built and started in a quarter of one.
"""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from ml_playground.core.machine_rates import DeviceKind

# What the code that torch writes for a CPU includes beside its own headers: the interpreter's, the C++ library's, OpenMP's.
# Apple's compiler takes OpenMP by other flags and from other folders, which torch knows.
OPENMP = sys.platform != "darwin"
SOURCE = (
    "#include <Python.h>\n#include <vector>\n" + ("#include <omp.h>\n" if OPENMP else "") + "int main() { return 0; }\n"
)
FLAGS = [*(["-fopenmp"] if OPENMP else []), "-x", "c++", "-"]

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
    headers = Path(sysconfig.get_paths()["include"])
    try:
        folder = compiled_code()
        # On a mount without the right to execute, code compiles well and cannot be loaded.
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="mlp-") as place:
            complaint = refused(compiler, headers, Path(place) / "probe")
            if complaint is not None:
                return f"{compiler} refuses what torch writes ({complaint}); {remedy}"
            subprocess.run([Path(place) / "probe"], check=True, timeout=60)  # noqa: S603 - built one line above
    except (OSError, subprocess.SubprocessError) as error:
        return f"compiled code cannot be kept and run ({error}); set TORCHINDUCTOR_CACHE_DIR to a folder of your own"
    return None


def compiled_code() -> Path:
    """Where torch keeps what it compiles: as `TORCHINDUCTOR_CACHE_DIR` says, else among the temporary files."""
    return Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR") or tempfile.gettempdir())


def cxx_compiler() -> str | None:
    """The compiler that torch would call: `CXX` of the environment, else the system's own; none: it is not there."""
    return shutil.which(os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++"))


def refused(compiler: str, headers: Path, program: Path) -> str | None:
    """The compiler's first complaint about a small program that uses Python's headers and OpenMP; none: it has built it."""
    try:
        done = subprocess.run(  # noqa: S603 - the compiler that its user has named
            [compiler, f"-I{headers}", *FLAGS, "-o", program],
            input=SOURCE,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    lines = [line for line in done.stderr.splitlines() if "error" in line]
    return None if done.returncode == 0 else (lines or done.stderr.splitlines() or ["no reason given"])[0]
