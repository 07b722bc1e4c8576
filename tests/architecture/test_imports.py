"""Who may import whom."""

import ast
from collections.abc import Iterator

import pytest

from tests.architecture.source import PACKAGE, Source, imports, sources

# What each package may import of ours, beside itself. `models.protocols` is that module alone.
MAY_IMPORT = {
    "core": set[str](),
    "configuration": {"core"},
    "tokenization": {"core", "configuration"},
    "models": {"core", "configuration"},
    "data_pipeline": {"core", "configuration"},
    "profiles": {"core", "configuration", "models.protocols"},
    "objectives": {"core", "configuration", "models.protocols", "data_pipeline.batches"},
    "planning": {"core", "configuration"},
    "importing": {"core", "configuration"},
    "training": {"core", "configuration", "planning.memory"},
    "sampling": {"core", "configuration", "models"},
    "export": {"core", "configuration", "models"},
    "serving": {"core", "configuration", "models"},
    "evaluation": {"core", "configuration", "models", "data_pipeline", "objectives", "sampling"},
    "monitoring": {"core"},
    "jobs": {"core", "configuration", "monitoring"},
    "launch": {"core", "configuration", "training"},
    "analysis": {"core", "configuration", "sampling", "evaluation", "monitoring"},
}
OUTER = {"cli", "commands", "experiments"}
ALL = {*MAY_IMPORT, "commands", "cli"}
MAY_IMPORT_OUTER = {"cli": ALL, "commands": ALL, "experiments": ALL - {"cli", "jobs", "launch"}}

HEAVY = {
    "torch",
    "transformers",
    "peft",
    "ray",
    "lit_nlp",
    "tensorboard",
    "gguf",
    "xllamacpp",
    "starlette",
    "datasets",
    "matplotlib",
}
WITHOUT_TORCH = {"configuration", "importing", "planning", "monitoring", "jobs"}


def ours(source: Source) -> Iterator[tuple[ast.stmt, str]]:
    """What a file imports of ours, without the leading package name."""
    for node, name in imports(source):
        if name.partition(".")[0] == "ml_playground":
            yield node, name.removeprefix("ml_playground").lstrip(".")


def test_packages_are_all_in_the_table() -> None:
    """A new package decides first whom it may know."""
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    assert folders <= {*MAY_IMPORT, *OUTER}


def test_imports_follow_the_table() -> None:
    """Layers that know less of each other can be changed alone."""
    table = MAY_IMPORT | MAY_IMPORT_OUTER
    wrong = [
        f"{source.where(node)} imports {name}"
        for source in sources()
        for node, name in ours(source)
        if not any(
            name == allowed or name.startswith(f"{allowed}.") for allowed in {source.package, *table[source.package]}
        )
    ]
    assert wrong == []


def test_imports_are_absolute() -> None:
    """A name that says where it comes from survives a move."""
    wrong = [
        source.where(node)
        for source in sources()
        for node in source.nodes(ast.ImportFrom)
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert wrong == []


def test_core_torch_only_in_files_named_so() -> None:
    """The light half of core serves commands that start in a blink."""
    wrong = [
        source.where(node)
        for source in sources(PACKAGE / "core")
        for node, name in imports(source)
        if name.partition(".")[0] in HEAVY and not source.path.name.startswith("torch_")
    ]
    assert wrong == []


def test_light_packages_and_settings_know_no_torch() -> None:
    """Configuration, dashboards and queues work where torch is not even installed."""
    wrong = [
        source.where(node)
        for source in sources()
        for node, name in imports(source)
        if name.partition(".")[0] in HEAVY
        and (source.package in WITHOUT_TORCH or source.path.stem.endswith("settings"))
    ]
    assert wrong == []


@pytest.mark.parametrize("library", sorted(HEAVY))
def test_heavy_libraries_are_imported_at_the_top(library: str) -> None:
    """An import hidden in a function fails in the middle of a run; tables name the modules that need the library."""
    wrong = [
        source.where(node)
        for source in sources()
        for node, name in imports(source)
        if name.partition(".")[0] == library and node not in source.tree.body
    ]
    assert wrong == []


def test_imports_are_never_tried() -> None:
    """A missing library is one clear error, not a feature that is silently off."""
    wrong = [
        source.where(child)
        for source in sources()
        for node in source.nodes(ast.Try)
        if isinstance(node, ast.Try)
        for child in node.body
        if isinstance(child, ast.Import | ast.ImportFrom)
    ]
    assert wrong == []
