"""Unit tests of `ml_playground.data_pipeline.sources.python_docstrings`."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.core.values import ChatExample, Message
from ml_playground.data_pipeline.settings import PythonDocstrings
from ml_playground.data_pipeline.sources.python_docstrings import build, chats_of, summary

MODULE = '''
"""Of the module."""

def add(a: int, b: int = 1) -> int:
    """Add two numbers
    of any size.

    More that nobody asked for.
    """
    # carefully
    total = a + b
    return total


class Thing:
    """Of the class."""

    async def wait(self, *, seconds=1.0):
        """Wait until so many seconds are over."""

    def silent(self):
        return None

    def short(self):
        """Do it."""
'''
ASKED = "What does this function do?"


def settings(**values: object) -> PythonDocstrings:
    """With these values."""
    return PythonDocstrings.model_validate({"packages": (), "standard_library": False} | values)


def test_a_function_is_shown_without_its_docstring_and_answered_by_its_first_paragraph() -> None:
    """Signature and code; methods with their class; what is not described, or hardly, is left out."""
    assert list(chats_of(MODULE, "pack/mod.py", settings())) == [
        ChatExample(
            "pack/mod.py:4",
            (
                Message(
                    "user",
                    f"{ASKED}\n\ndef add(a: int, b: int=1) -> int:\n    total = a + b\n    return total",
                ),
                Message("assistant", "Add two numbers of any size."),
            ),
            {"domain": "pack"},
        ),
        ChatExample(
            "pack/mod.py:18",
            (
                Message("user", f"{ASKED}\n\nasync def Thing.wait(self, *, seconds=1.0):"),
                Message("assistant", "Wait until so many seconds are over."),
            ),
            {"domain": "pack"},
        ),
    ]


@pytest.mark.parametrize(("characters", "shown"), [(0, 0), (13, 0), (14, 1), (400, 2)])
def test_code_is_shown_in_whole_lines_that_fit(characters: int, shown: int) -> None:
    """Half a line would be no code."""
    first = next(iter(chats_of(MODULE, "m", settings(code_characters=characters))))
    lines = first.messages[0].content.splitlines()[3:]
    assert lines == ["    total = a + b", "    return total"][:shown]


def test_a_question_of_ones_own_and_the_longest_answer() -> None:
    """The settings have an effect."""
    found = list(chats_of(MODULE, "m", settings(question="Why?", most_answer_characters=30)))
    assert [one.messages[1].content for one in found] == ["Add two numbers of any size."]
    assert found[0].messages[0].content.startswith("Why?\n\ndef add")


@pytest.mark.parametrize("text", ["def broken(:\n    '''What is this?'''\n", "x = '''\0'''\n", ""])
def test_what_cannot_be_parsed_describes_nothing(text: str) -> None:
    """A file for another version of Python is no failure."""
    assert not list(chats_of(text, "m", settings()))


@given(st.text(max_size=200))
def test_a_summary_is_one_line_of_the_words_before_the_first_empty_line(text: str) -> None:
    """No word is lost or made up."""
    words = summary(text).split()
    assert summary(text) == " ".join(words)
    assert text.split()[: len(words)] == words


def package(folder: Path, name: str, text: str = MODULE) -> None:
    """A package that could be imported."""
    (folder / name / "tests").mkdir(parents=True)
    (folder / name / "__init__.py").write_text("raise RuntimeError('imported')\n", encoding="utf-8")
    (folder / name / "mod.py").write_text(text, encoding="utf-8")
    (folder / name / "bad.py").write_bytes(b"'''\xff'''")
    (folder / name / "tests" / "test_mod.py").write_text(text, encoding="utf-8")


def test_packages_are_read_and_never_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of their names in the settings; what is no text is skipped and counted; tests are left out."""
    package(tmp_path, "zz_first_described")
    package(tmp_path, "aa_then_described")
    monkeypatch.syspath_prepend(str(tmp_path))
    source = build(settings(packages=("zz_first_described", "aa_then_described"), max_chats=3), Deps())
    names = ["zz_first_described/mod.py:4", "zz_first_described/mod.py:18", "aa_then_described/mod.py:4"]
    assert [chat.id for chat in source.chats()] == names
    found = source.provenance()
    assert [file.name for file in found.files] == [
        f"{name}/{file}" for name in ("zz_first_described", "aa_then_described") for file in ("__init__.py", "mod.py")
    ]
    assert [(one.name, one.reason) for one in found.skipped] == [
        ("zz_first_described/bad.py", "not_utf8"),
        ("aa_then_described/bad.py", "not_utf8"),
    ]


def test_a_package_that_is_not_there_is_named() -> None:
    """And what to do."""
    for name in ("no_such_package_at_all", "../etc"):
        with pytest.raises(ConfigError, match=r"names '.*', which is no package that is installed here; install it"):
            list(build(settings(packages=(name,)), Deps()).chats())


def test_nothing_described_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty data set helps nobody."""
    package(tmp_path, "never_described", "x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DataError, match=r"None of the packages describes a function; name others in prepare.source"):
        list(build(settings(packages=("never_described",)), Deps()).chats())


def test_the_standard_library_describes_thousands_of_functions() -> None:
    """Real sources of this interpreter."""
    chats = list(build(settings(standard_library=True), Deps()).chats())
    assert len(chats) > 3000
    assert all(len(chat.messages) == 2 for chat in chats)
    described = {chat.messages[0].content.splitlines()[2]: chat.messages[1].content for chat in chats}
    assert described["def dedent(text):"] == "Remove any common leading whitespace from every line in `text`."
