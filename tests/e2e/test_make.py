"""How one begins: the Makefile on machines that lack something, and the script of the gate."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder with what `make setup` reads, and no environment."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    return tmp_path


def make_setup_with(bare: Path, before: str) -> subprocess.CompletedProcess[str]:
    """`make setup` with an interpreter that runs some code before what it is asked to run."""
    python = bare / "python-that-lacks-something"
    code = f"import runpy, sys; {before}; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{code}" "$@"\n')
    python.chmod(0o755)
    return subprocess.run(
        ["make", f"PYTHON={python}", "setup"], cwd=bare, capture_output=True, text=True, check=False, timeout=600
    )


def test_make_setup_old_python_says_which_is_needed(bare: Path) -> None:
    """The first thing that can be wrong is said first, and nothing is left behind."""
    done = make_setup_with(bare, "sys.version_info = (3, 9, 1)")
    assert done.returncode == 2
    assert (
        "Python 3.11 or newer is needed, and this is 3.9. Name another one: make PYTHON=python3.12 setup" in done.stderr
    )
    assert not (bare / ".venv").exists()


@pytest.mark.parametrize("module", ["ensurepip", "venv"])
def test_make_setup_python_without_venv_says_what_to_install(bare: Path, module: str) -> None:
    """Debian splits the standard library; its own message comes after half an environment is made."""
    done = make_setup_with(bare, f"sys.modules['{module}'] = None")
    assert done.returncode == 2
    assert f"This Python comes without the module '{module}', which makes environments" in done.stderr
    assert "apt install python3-venv" in done.stderr
    assert not (bare / ".venv").exists()


def test_make_help_lists_every_target_of_the_gate() -> None:
    """`make` alone shows what there is."""
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=600)
    shown = re.findall(r"^  make (\S+)", done.stdout, flags=re.MULTILINE)
    assert set(shown) >= {"setup", "demo", "test", "quality", "mutants", "lock", "clean"}


def test_make_phony_targets_all_exist() -> None:
    """A name without a rule would succeed and do nothing."""
    (phony,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, flags=re.MULTILINE)
    rules = set(re.findall(r"^([a-z-]+):", MAKEFILE, flags=re.MULTILINE))
    assert set(phony.split()) == rules


@pytest.mark.parametrize("name", ["Makefile", "constraints.txt", "pyproject.toml", ".ci/run"])
def test_build_files_name_no_host_and_no_path(name: str) -> None:
    """What one machine has must not decide what everybody gets."""
    text = (ROOT / name).read_text(encoding="utf-8")
    assert re.findall(r"https?://|(?<![\w.$)])/(?:home|root|opt|srv|mnt|work|Users)/\S*", text) == []


def test_gate_script_calls_targets_that_exist() -> None:
    """The script is what a reader of the README does, no more."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    called = " ".join(re.findall(r"^step ([a-z -]+)$", script, flags=re.MULTILINE)).split()
    assert called == ["demo", "quality", "test"]
    assert all(re.search(rf"^{target}:", MAKEFILE, flags=re.MULTILINE) for target in called)
    subprocess.run(["bash", "-n", ROOT / ".ci" / "run"], check=True, timeout=600)
