"""docs/reliability.md points at what there is: tests, scripts, targets, commands, settings, its own headings."""

import re

import pytest

from ml_playground.commands.table import COMMANDS, Group
from ml_playground.configuration.models import JobConfig
from tests.architecture.source import ROOT

DOCUMENT = ROOT / "docs" / "reliability.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
CODE = re.findall(r"`([^`\n]+)`", TEXT)
TESTS = {path.name for path in (ROOT / "tests").rglob("*.py")}


@pytest.mark.parametrize(
    "path", sorted({word for word in CODE if re.fullmatch(r"(tests|benchmarks|tools|docs)(/\w+)+(\.\w+)?", word)})
)
def test_path_that_is_named_exists(path: str) -> None:
    """A promise whose test was moved away is a promise without one."""
    assert (ROOT / path).exists()


@pytest.mark.parametrize("name", sorted({word for word in CODE if re.fullmatch(r"test_\w+\.py", word)}))
def test_test_file_that_is_named_alone_exists(name: str) -> None:
    """Some are named beside their folder."""
    assert name in TESTS


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([a-z-]+)", TEXT))))
def test_make_target_that_is_named_exists(target: str) -> None:
    """What is to be typed can be typed."""
    assert f"\n{target}:" in (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize("words", sorted(set(re.findall(r"`mlp ([a-z][a-z -]*[a-z])", TEXT))))
def test_command_that_is_named_exists(words: str) -> None:
    """As above, with the words of a group."""
    first, *rest = words.split()
    rows = {name: row for panel in COMMANDS.values() for name, row in panel.items()}
    assert first in rows
    row = rows[first]
    assert not isinstance(row, Group) or rest[0] in row.rows


@pytest.mark.parametrize("key", sorted({word for word in CODE if re.fullmatch(r"(train|runtime|prepare)\.\w+", word)}))
def test_setting_that_is_named_exists(key: str) -> None:
    """A setting of that name, in the section that is said."""
    section, name = key.split(".")
    settings = JobConfig.model_fields[section].annotation
    assert name in getattr(settings, "model_fields", {})


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)]+)\)", TEXT))))
def test_link_leads_somewhere(link: str) -> None:
    """To a heading of this page, or to a file beside it."""
    headings = {
        re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-")
        for line in re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    }
    assert link[1:] in headings if link.startswith("#") else (DOCUMENT.parent / link).is_file()
