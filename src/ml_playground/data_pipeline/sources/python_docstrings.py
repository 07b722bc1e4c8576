"""Pairs of a function and what its docstring says of it, from installed packages, read as text: nothing is imported or run."""

import ast
import importlib.util
import platform
import re
import sysconfig
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.core.values import ChatExample, Message
from ml_playground.data_pipeline.settings import PythonDocstrings
from ml_playground.data_pipeline.source_protocol import Provenance, SkippedFile, SourceFile
from ml_playground.data_pipeline.sources.python_stdlib import module_text, modules_below
from ml_playground.data_pipeline.sources.text_pieces import file_account

Function = ast.FunctionDef | ast.AsyncFunctionDef

SHORTEST_ANSWER = 12
"""Characters: what is shorter ("Do it.", "See above.") describes nothing."""
_QUOTES = ('"""', "'''")


class _Module(NamedTuple):
    """A file, and what it is called in the books."""

    name: str
    path: Path


class Docstrings:
    """Each function that is described, as a chat of two turns, in the order of files and lines."""

    def __init__(self, settings: PythonDocstrings) -> None:
        self._settings = settings

    def chats(self) -> Iterator[ChatExample]:
        """The user shows a function without its docstring, the assistant says what its first paragraph says.

        Raises:
            ConfigError: A package is not installed.
            DataError: A file cannot be read, or nothing is described.
        """
        yield from self._chats

    @cached_property
    def _chats(self) -> list[ChatExample]:
        # Parsing takes 20 s for the packages beside torch, and preparing reads several times; 24,000 pairs are 15 MB.
        described = (
            chat
            for module in self._modules
            if isinstance(text := module_text(module.path, module.name), str)
            for chat in chats_of(text, module.name, self._settings)
        )
        found = list(islice(described, self._settings.max_chats))
        if not found:
            raise DataError("None of the packages describes a function; name others in prepare.source.packages.")
        return found

    @cached_property
    def _modules(self) -> list[_Module]:
        roots = {name: _folder_of(name) for name in self._settings.packages}
        if self._settings.standard_library:
            roots = {"stdlib": Path(sysconfig.get_paths()["stdlib"])} | roots
        return [
            _Module(f"{name}/{path.relative_to(root).as_posix()}", path)
            for name, root in roots.items()
            for path in sorted(modules_below(root))
        ]

    def provenance(self) -> Provenance:
        """Names, sizes and hashes of the files, and the version of Python.

        Raises:
            ConfigError: A package is not installed.
            DataError: A file cannot be read.
        """
        files: list[SourceFile] = []
        skipped: list[SkippedFile] = []
        for module in self._modules:
            text = module_text(module.path, module.name)
            if isinstance(text, str):
                files.append(file_account(module.path, module.name))
            else:
                skipped.append(text)
        facts = {"python": platform.python_version()}
        return Provenance(kind=self._settings.kind, files=tuple(files), skipped=tuple(skipped), facts=facts)


def build(settings: PythonDocstrings, deps: Deps) -> Docstrings:
    """The source, over what is installed here."""
    del deps
    return Docstrings(settings)


def chats_of(text: str, name: str, settings: PythonDocstrings) -> Iterator[ChatExample]:
    """The pairs of a module; one that this version of Python cannot parse has none."""
    if not any(quote in text for quote in _QUOTES):
        return
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return
    lines = text.splitlines()
    for function, owner in _functions(tree, ""):
        answer = summary(ast.get_docstring(function) or "")
        if SHORTEST_ANSWER <= len(answer) <= settings.most_answer_characters:
            asked = f"{settings.question}\n\n{shown(function, owner, lines, settings.code_characters)}"
            messages = Message("user", asked), Message("assistant", answer)
            yield ChatExample(f"{name}:{function.lineno}", messages, {"domain": name.partition("/")[0]})


def _functions(node: ast.AST, owner: str) -> Iterator[tuple[Function, str]]:
    """Functions of modules and classes with the name of their class; those within functions are details."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield child, owner
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, child.name)
        elif isinstance(child, ast.If | ast.Try):
            yield from _functions(child, owner)


def summary(docstring: str) -> str:
    """The first paragraph, on one line."""
    return " ".join(re.split(r"\n\s*\n", docstring.strip(), maxsplit=1)[0].split())


def shown(function: Function, owner: str, lines: list[str], characters: int) -> str:
    """The signature, and of what follows the docstring as many whole lines as fit."""
    word = "async def" if isinstance(function, ast.AsyncFunctionDef) else "def"
    returned = f" -> {ast.unparse(function.returns)}" if function.returns else ""
    head = f"{word} {f'{owner}.' * bool(owner)}{function.name}({ast.unparse(function.args)}){returned}:"
    body = function.body[1:]
    if not body or not characters:
        return head
    code = dedent("\n".join(lines[body[0].lineno - 1 : function.end_lineno]))
    kept: list[str] = []
    for line in code.splitlines():
        characters -= len(line) + 1
        if characters < 0:
            break
        kept.append(f"    {line}".rstrip())
    return "\n".join([head, *kept])


def _folder_of(package: str) -> Path:
    """Where a package lies; it is found, not imported.

    Raises:
        ConfigError: It is not installed, or is no folder of modules.
    """
    found = importlib.util.find_spec(package) if package.isidentifier() else None
    places = list(found.submodule_search_locations or ()) if found else []
    if not places:
        raise ConfigError(
            f"prepare.source.packages names {package!r}, which is no package that is installed here; install it, or leave it out."
        )
    return Path(places[0])
