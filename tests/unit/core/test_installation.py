"""What is installed, and who else has our name."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement as Reference
from packaging.specifiers import SpecifierSet

from ml_playground.core import installation
from ml_playground.core.installation import Requirement, parse_requirement, satisfies, version_key

versions = st.lists(st.integers(0, 12), min_size=1, max_size=3).map(lambda parts: ".".join(map(str, parts)))
clauses = st.builds("{}{}".format, st.sampled_from([">=", "<=", "==", "!=", ">", "<"]), versions)


@given(versions, st.lists(clauses, max_size=3).map(",".join), st.sampled_from(["", "+cpu", "+cu130"]))
def test_satisfies_agrees_with_packaging(version: str, specifiers: str, local: str) -> None:
    """The standard's own implementation is the judge; local labels never matter."""
    assert satisfies(version + local, specifiers) == SpecifierSet(specifiers).contains(version)


def test_version_key_of_nonsense_is_empty() -> None:
    """A version that is none lies below all."""
    assert version_key("unknown") == ()


@given(
    st.sampled_from(["torch", "ray[default,train]"]),
    st.lists(clauses, min_size=1, max_size=2).map(",".join),
    st.sampled_from([None, "hf"]),
)
def test_parse_requirement_agrees_with_packaging(name: str, specifiers: str, extra: str | None) -> None:
    """Name, range and extra of a line of metadata."""
    line = f"{name}{specifiers}" + (f"; extra == '{extra}'" if extra else "")
    reference = Reference(line)
    parsed = parse_requirement(line)
    assert (parsed.name, parsed.extra) == (reference.name, extra)
    assert SpecifierSet(parsed.specifiers) == reference.specifier


def test_parse_requirement_nonsense_is_refused() -> None:
    """Metadata that cannot be read are not guessed at."""
    with pytest.raises(ValueError, match="'!' is no requirement"):
        parse_requirement("!")


def test_requirements_name_torch_and_the_extras() -> None:
    """The metadata of this very installation."""
    found = installation.requirements()
    assert Requirement("torch", "<2.14,>=2.9", None) in found
    assert {item.extra for item in found} >= {None, "hf", "dev"}


def test_installed_version_of_nothing_is_none() -> None:
    """A missing distribution is an answer, not a failure."""
    assert installation.installed_version("no-such-distribution") is None


def test_hiding_packages_finds_marker_files_once(tmp_path: Path) -> None:
    """Only a folder with a marker hides ours; one without merely shares the name."""
    (tmp_path / "old" / "ml_playground").mkdir(parents=True)
    marker = tmp_path / "old" / "ml_playground" / "__init__.py"
    marker.touch()
    (tmp_path / "new" / "ml_playground").mkdir(parents=True)
    paths = [str(tmp_path / name) for name in ("old", "new", "old", "none")]
    assert installation.hiding_packages(paths) == [marker]


def checkout(root: Path, text: str) -> Path:
    """A checkout with this pyproject.toml; its package folder."""
    package = root / "src" / "ml_playground"
    package.mkdir(parents=True)
    (root / "pyproject.toml").write_text(text)
    return package


def test_checkout_version_is_read_from_pyproject(tmp_path: Path) -> None:
    """An editable installation's metadata may be older than its checkout."""
    assert installation.checkout_version(checkout(tmp_path, '[project]\nname = "ml-playground"\nversion = "7"')) == "7"


def test_checkout_version_of_another_project_is_none(tmp_path: Path) -> None:
    """Somebody else's project that contains our package says nothing about it."""
    assert installation.checkout_version(checkout(tmp_path, '[project]\nname = "other"\nversion = "7"')) is None


def test_checkout_version_of_an_installed_package_is_none(tmp_path: Path) -> None:
    """A wheel has no checkout."""
    assert installation.checkout_version(tmp_path / "site-packages" / "ml_playground") is None


def run_file(path: str) -> subprocess.CompletedProcess[str]:
    """Run installation.py as a file, as one does when `mlp` itself cannot be imported."""
    return subprocess.run(
        [sys.executable, installation.__file__],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
        check=False,
        timeout=600,
    )


def test_run_as_file_under_a_decoy_names_it(tmp_path: Path) -> None:
    """A regular package of our name hides the command itself; this file still starts."""
    decoy = tmp_path / "ml_playground"
    decoy.mkdir()
    (decoy / "__init__.py").touch()
    done = run_file(str(tmp_path))
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout == (
        f"{decoy} is another package named ml_playground and hides this one; "
        f"uninstall it (pip uninstall ml_playground), or take {tmp_path} off PYTHONPATH.\n"
    )


def test_main_without_decoy_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing wrong is said in words too."""
    assert installation.main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.startswith("no other package named ml_playground is on the search path")


def test_main_with_decoys_names_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Removing one of two would not help."""
    for name in ("a", "b"):
        (tmp_path / name / "ml_playground").mkdir(parents=True)
        (tmp_path / name / "ml_playground" / "__init__.py").touch()
    assert installation.main([str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert len(capsys.readouterr().out.splitlines()) == 2
