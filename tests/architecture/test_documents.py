"""The documents say what the code does: help text, settings, kinds, commands, examples."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ml_playground.commands.table import COMMANDS, Group
from ml_playground.configuration.families import FAMILIES
from ml_playground.configuration.loading import list_experiments
from ml_playground.configuration.reference import reference_pages
from tests.architecture.source import PACKAGE, ROOT

README = ROOT / "README.md"
DOCS = ROOT / "docs"

# Folders that DESIGN marks with (R).
EXPLAINED = [
    "core",
    "tokenization",
    "configuration",
    "profiles",
    "data_pipeline",
    "data_pipeline/checks",
    "models",
    "planning",
    "importing",
    "training",
    "sampling",
    "export",
    "monitoring",
    "jobs",
    "experiments",
]
FOLDERS = [PACKAGE / name for name in EXPLAINED if (PACKAGE / name).is_dir()] + [ROOT / "tools"]


def blocks(file: Path, language: str) -> list[str]:
    """The fenced blocks of a document in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", file.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def words_of_commands() -> list[str]:
    """`train`, `config show`, ...: every command line's first words."""
    return [
        f"{name} {leaf}" if leaf else name
        for rows in COMMANDS.values()
        for name, row in rows.items()
        for leaf in (row.rows if isinstance(row, Group) else [""])
    ]


def test_readme_shows_the_real_help() -> None:
    """Whoever reads the README sees what the command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "ml_playground.cli", "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
        env=os.environ | {"COLUMNS": "80"},
    )
    assert done.stdout.strip() in README.read_text(encoding="utf-8")


@pytest.mark.parametrize("words", words_of_commands())
def test_command_is_named_in_the_readme(words: str) -> None:
    """What is not written down is not found."""
    assert re.search(rf"\bmlp {words}\b", README.read_text(encoding="utf-8"))


@pytest.mark.parametrize("target", ["demo", "test", "setup", "quality"])
def test_make_target_is_named_in_the_readme(target: str) -> None:
    """The README tells how to begin, and how to contribute."""
    assert f"make {target}" in README.read_text(encoding="utf-8")


def test_configuration_reference_is_fresh() -> None:
    """Renew it: python -m ml_playground.configuration.reference docs/configuration.md."""
    assert {name: (DOCS / name).read_text(encoding="utf-8") for name in reference_pages()} == reference_pages()


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - {"preview", "engine"}))
def test_kinds_are_documented(family: str) -> None:
    """Every kind a table holds can be looked up, on the page of its family."""
    page = (DOCS / "reference" / f"{family}.md").read_text(encoding="utf-8")
    assert [kind for kind in FAMILIES[family].shipped if f"\n## {kind}\n" not in page] == []


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_folder_explains_itself(folder: Path) -> None:
    """Purpose, files, names, one example."""
    readme = folder / "README.md"
    assert readme.is_file()
    text = readme.read_text(encoding="utf-8")
    modules = [path.name for path in folder.glob("*.py")]
    assert [name for name in modules if name.removesuffix(".py") not in text] == []
    assert blocks(readme, "(?:python|bash|toml|text|console)")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_examples_of_a_folder_run(folder: Path, tmp_path: Path) -> None:
    """An example that fails is worse than none."""
    for block in blocks(folder / "README.md", "python"):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", block],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            timeout=600,
        )
        assert done.returncode == 0, f"{folder.name}/README.md:\n{block}\n{done.stderr}"


@pytest.mark.parametrize(
    "entry", [entry for entry in list_experiments() if entry.shipped], ids=lambda entry: entry.name
)
def test_experiment_has_a_readme(entry: object) -> None:
    """What it learns, on what, how long, what comes out."""
    folder = Path(getattr(entry, "path"))  # noqa: B009
    assert ((folder if folder.is_dir() else folder.parent) / "README.md").is_file()
