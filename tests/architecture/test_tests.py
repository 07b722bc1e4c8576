"""The tests about the tests: real small parts, and a line of why."""

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.architecture.source import ROOT, Source, calls, imports, sources

TESTS = ROOT / "tests"
MOCK_MODULES = {"unittest.mock", "mock", "pytest_mock"}
MOCK_FIXTURES = {"mocker", "mock"}


def every_test() -> Iterator[tuple[Source, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every test function."""
    for source in sources(TESTS):
        for node in source.nodes(ast.FunctionDef, ast.AsyncFunctionDef):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield source, node


def test_no_mock_stands_for_a_part() -> None:
    """A mock tests that we call what we wrote that we call."""
    imported = [
        source.where(node)
        for source in sources(TESTS)
        for node, name in imports(source)
        if name in MOCK_MODULES or (name == "unittest" and "mock" in ast.unparse(node))
    ]
    asked = [
        source.where(argument)
        for source in sources(TESTS)
        for argument in source.nodes(ast.arg)
        if isinstance(argument, ast.arg) and argument.arg in MOCK_FIXTURES
    ]
    assert imported + asked == []


def test_nothing_is_patched_inside_the_process() -> None:
    """Environment variables and the working directory may be set; functions and attributes may not be replaced."""
    wrong = [
        source.where(call)
        for source in sources(TESTS)
        for call, name in calls(source)
        if name.rpartition(".")[2] in {"setattr", "delattr", "setitem", "delitem"} and name.startswith("monkeypatch")
    ]
    assert wrong == []


def test_every_test_says_why_in_one_line() -> None:
    """The name says what, the docstring why it matters."""
    wrong = [
        source.where(node)
        for source, node in every_test()
        if not (text := ast.get_docstring(node)) or "\n" in text.strip()
    ]
    assert wrong == []


def test_every_test_is_named_by_what_it_shows() -> None:
    """`test_<behaviour>_<condition>_<expected>`: at least three words."""
    wrong = [
        source.where(node)
        for source, node in every_test()
        if not re.fullmatch(r"test_[a-z0-9]+(_[a-z0-9]+){2,}", node.name)
    ]
    assert wrong == []


def test_every_test_file_lies_in_a_known_folder() -> None:
    """The Makefile and the reader find tests by their kind."""
    kinds = {"unit", "property", "contracts", "integration", "e2e", "regression", "faults", "architecture"}
    files = [path.relative_to(TESTS) for path in TESTS.rglob("test_*.py")]
    assert [str(path) for path in files if path.parts[0] not in kinds] == []


def test_fakes_are_imported_by_their_full_name() -> None:
    """PEP 420 and importlib: `tests.fakes.x` is found from the repository's root."""
    wrong = [
        source.where(node)
        for source in sources(TESTS)
        for node, name in imports(source)
        if name.partition(".")[0] in {"fakes", "conftest", "architecture"}
    ]
    assert wrong == []


def drawn() -> list[list[int]]:
    """The examples that a law is tried with."""
    found: list[list[int]] = []

    @given(st.lists(st.integers(), min_size=5))
    def law(numbers: list[int]) -> None:
        found.append(numbers)

    law()
    return found


def test_laws_are_tried_with_the_same_examples_whatever_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which tests ran before in a process is a matter of chance; what a law is tried with must not be."""
    before = drawn()
    (tmp_path / "numbers_of_another.py").write_text(f"NUMBERS = {[7**power for power in range(20, 220)]}\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("numbers_of_another")
    after = drawn()
    del sys.modules["numbers_of_another"]
    assert after == before
