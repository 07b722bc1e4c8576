"""The standard library as a text."""

import sysconfig
from pathlib import Path

import pytest

from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import DataError
from ml_playground.data_pipeline.settings import PythonStdlib
from ml_playground.data_pipeline.sources.python_stdlib import LEFT_OUT, StandardLibrary, build
from tests.fakes.prepared_text import write_texts


def test_documents_come_sorted_without_tests_and_installed_packages(tmp_path: Path) -> None:
    """Only the library itself."""
    write_texts(
        tmp_path,
        {
            "b.py": "b",
            "a/x.py": "x",
            "a.py": "a",
            "test/t.py": "t",
            "a/tests/t.py": "t",
            "site-packages/numpy/n.py": "n",
            "__pycache__/c.py": "c",
            "readme.txt": "r",
        },
    )
    found = [document.id for document in StandardLibrary(PythonStdlib(), tmp_path).documents()]
    assert found == ["a.py", "a/x.py", "b.py"]


def test_documents_with_max_files_are_the_first_ones(tmp_path: Path) -> None:
    """The setting has an effect."""
    write_texts(tmp_path, {"c.py": "c", "a.py": "a", "b.py": "b"})
    library = StandardLibrary(PythonStdlib(max_files=2), tmp_path)
    assert [document.id for document in library.documents()] == ["a.py", "b.py"]
    assert [file.name for file in library.provenance().files] == ["a.py", "b.py"]


def test_documents_that_are_not_utf8_or_empty_are_skipped_and_named(tmp_path: Path) -> None:
    """Old modules may be in latin-1; they are counted, not guessed at."""
    write_texts(tmp_path, {"a.py": "a", "e.py": ""})
    (tmp_path / "l.py").write_bytes(b"# -*- coding: latin-1 -*-\n# \xe9\n")
    library = StandardLibrary(PythonStdlib(), tmp_path)
    account = library.provenance()
    assert [document.text for document in library.documents()] == ["a"]
    assert {(file.name, file.reason, file.size_bytes, file.at_byte) for file in account.skipped} == {
        ("e.py", "empty", 0, None),
        ("l.py", "not_utf8", 30, 28),
    }
    assert "python" in account.facts


def test_documents_of_a_library_without_sources_say_what_to_do(tmp_path: Path) -> None:
    """Some builds of Python ship bytecode only."""
    library = StandardLibrary(PythonStdlib(), tmp_path)
    with pytest.raises(DataError, match=r"holds no Python sources.*--set 'prepare\.source=\{kind=\"text_file\""):
        library.provenance()


def test_documents_unreadable_module_says_so(tmp_path: Path) -> None:
    """Found, then gone."""
    write_texts(tmp_path, {"a.py": "1", "b.py": "2"})
    documents = StandardLibrary(PythonStdlib(), tmp_path).documents()
    next(documents)
    (tmp_path / "b.py").unlink()
    with pytest.raises(DataError, match=r"b\.py cannot be read"):
        next(documents)


def test_build_reads_the_running_interpreters_library() -> None:
    """The real one has hundreds of modules, and none of the packages that were installed."""
    library = build(PythonStdlib(max_files=40), Deps())
    names = [document.id for document in library.documents()]
    assert len(names) >= 35
    assert not any(LEFT_OUT & set(Path(name).parts) for name in names)
    assert library.provenance().facts["folder"] == sysconfig.get_paths()["stdlib"]
