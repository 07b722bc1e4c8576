"""The check of the lock: what it lets pass, and what it names."""

import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tools.check_lock import foreign_lines, pins_of, unpinned, unsatisfied

ROOT = Path(__file__).parents[3]
LOCK = (
    "numpy==2.4.6 ; python_full_version < '3.12'\nnumpy==2.5.5 ; python_full_version >= '3.12'\nPyYAML==6.0.3\n".lower()
)


def test_check_lock_of_this_checkout_passes() -> None:
    """The lock is fresh, or nobody can install what was tested."""
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "check_lock.py"], capture_output=True, text=True, check=False, timeout=600
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_pins_of_lock_with_markers_keeps_every_version() -> None:
    """A universal lock pins one version for each marker."""
    assert pins_of(LOCK) == {"numpy": ["2.4.6", "2.5.5"], "pyyaml": ["6.0.3"]}
    assert list(foreign_lines(LOCK)) == []


@pytest.mark.parametrize(
    "line",
    [
        "--find-links somewhere",
        "torch @ file:///somewhere/torch.whl",
        "# made on a machine",
        "torch>=2",
        "torch==2.13.0+cpu",
        "--index-url https://somewhere/simple",
    ],
)
def test_foreign_lines_of_lock_are_named(line: str) -> None:
    """A host, a path, a local build or an open range binds everybody to one machine."""
    assert list(foreign_lines(line)) == [f"constraints.txt: {line!r} is no plain pin; run `make lock`."]


def test_unsatisfied_requirement_names_what_is_pinned() -> None:
    """A dependency that was added or moved without renewing the lock."""
    assert list(unsatisfied(["numpy>=2.5", "pyyaml"], pins_of(LOCK))) == []
    assert list(unsatisfied(["numpy>=3", "rich"], pins_of(LOCK))) == [
        "pyproject.toml asks for 'numpy>=3', but constraints.txt pins 2.4.6, 2.5.5; run `make lock`.",
        "pyproject.toml asks for 'rich', but constraints.txt pins nothing; run `make lock`.",
    ]


def test_unpinned_package_that_a_dependency_brought_is_named() -> None:
    """What comes along unpinned may change under everybody's feet."""
    found = list(unpinned(Requirement("hypothesis"), {}))
    assert any(text.startswith("sortedcontainers ") and text.endswith("pins nothing.") for text in found)
