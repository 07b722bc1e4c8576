"""What is shipped starts: the wheel in an environment of its own."""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "ml_playground"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without network by the backend that is installed for development."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)],
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=600,
    )
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def clean_bin(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scripts of a clean environment with the wheel in it; what it depends on is read from the environment of the tests."""
    folder = tmp_path_factory.mktemp("clean")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=600)
    python = folder / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--offline", "--no-deps", "--python", python, wheel],
        check=True,
        timeout=600,
    )
    (site,) = folder.glob("lib/python*/site-packages")
    # A folder that a .pth file adds is searched last, and its own .pth files, of editable packages, do not count.
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return python.parent


def run(command: Path, *args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a script far away from the checkout."""
    return subprocess.run([command, *args], cwd=cwd, capture_output=True, text=True, check=False, timeout=600)


def test_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    """Settings, READMEs, scripts and styles are as much part of it as the code."""
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if ".dist-info/" not in name}
    own = {
        path.relative_to(PACKAGE.parent).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert shipped == own
    assert {"toml", "md", "py"} <= {name.rpartition(".")[2] for name in shipped}


def test_wheel_command_shows_its_help(clean_bin: Path, tmp_path: Path) -> None:
    """The entry point is there, and finds the package."""
    done = run(clean_bin / "mlp", "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: mlp")


def test_wheel_package_is_one_folder_of_the_clean_environment(clean_bin: Path, tmp_path: Path) -> None:
    """Neither the checkout nor the environment of the tests lends a module."""
    code = "import ml_playground; print(ml_playground.__file__, *ml_playground.__path__)"
    done = run(clean_bin / "python", "-c", code, cwd=tmp_path)
    assert done.stdout.split() == [
        "None",
        str(next(clean_bin.parent.glob("lib/python*/site-packages")) / "ml_playground"),
    ]


def test_wheel_lists_and_checks_its_experiments(clean_bin: Path, tmp_path: Path) -> None:
    """Experiments and presets are read from the installed files."""
    listed = run(clean_bin / "mlp", "experiments", cwd=tmp_path)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "python_stdlib" in listed.stdout
    checked = run(clean_bin / "mlp", "config", "check", "python_stdlib", cwd=tmp_path)
    assert (checked.returncode, checked.stderr) == (0, "")
