"""The source as trees: what the architecture tests look at."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "ml_playground"

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One file: its path below the repository, its text, its tree."""

    path: Path
    text: str
    tree: ast.Module

    def __str__(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def module(self) -> str:
        """`ml_playground.core.values` for a file of the package."""
        return ".".join(self.path.relative_to(PACKAGE.parent).with_suffix("").parts)

    @property
    def package(self) -> str:
        """The first folder below the package; for a file at its root, the file's name."""
        return self.path.relative_to(PACKAGE).with_suffix("").parts[0]

    def nodes(self, *kinds: type[ast.AST]) -> Iterator[ast.AST]:
        """All nodes of these kinds, however deep."""
        return (node for node in ast.walk(self.tree) if isinstance(node, kinds))

    def where(self, node: ast.AST) -> str:
        """`src/...py:12`, ready for an editor."""
        return f"{self}:{getattr(node, 'lineno', 1)}"


@cache
def sources(folder: Path = PACKAGE) -> tuple[Source, ...]:
    """Every Python file below a folder."""
    return tuple(
        Source(path, text := path.read_text(encoding="utf-8"), ast.parse(text)) for path in sorted(folder.rglob("*.py"))
    )


def imports(source: Source) -> Iterator[tuple[ast.stmt, str]]:
    """Every module that a file imports, at the top or deep inside; `from a import b` counts as a and as a.b."""
    for node in source.nodes(ast.Import, ast.ImportFrom):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node, node.module


def dotted(node: ast.expr) -> str:
    """`a.b.c` of an expression that is such a chain; else an empty text."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (left := dotted(node.value)):
        return f"{left}.{node.attr}"
    return ""


def calls(source: Source) -> Iterator[tuple[ast.Call, str]]:
    """Every call, by the dotted name of what is called."""
    for node in source.nodes(ast.Call):
        if isinstance(node, ast.Call):
            yield node, dotted(node.func)
