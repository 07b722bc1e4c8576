"""What a key takes, in words."""

from typing import Annotated, Literal

import pytest
from pydantic import Field, StringConstraints

from ml_playground.configuration.base import ConfigPath, ConfigPrompt, Count, Probability, Strict
from ml_playground.configuration.models import Name, PrepareSettings
from ml_playground.configuration.schema import find_key, find_shape, keys_of
from ml_playground.data_pipeline.settings import PythonStdlib
from ml_playground.tokenization.settings import Char


class Every(Strict):
    """One field of every type that settings have."""

    count: Count | None = None
    share: Probability = 0.5
    open_share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    plain: int = 0
    flag: bool = True
    choice: Literal["a", "b"] = "a"
    mixed: Count | Literal["auto"] = "auto"
    name: Name = "x"
    text: str | None = None
    path: ConfigPath
    paths: tuple[ConfigPath, ...] = ()
    texts: tuple[str, ...] = ()
    some_texts: Annotated[tuple[ConfigPrompt, ...], Field(min_length=2)] = ("a", "b")
    full_texts: tuple[Annotated[str, StringConstraints(min_length=1)], ...] = ()
    prompt: ConfigPrompt | None = None
    unbounded: Annotated[int, Field(multiple_of=2)] = 2


@pytest.mark.parametrize(
    ("key", "allowed"),
    [
        ("count", "a whole number of at least 1, or none"),
        ("share", "a number of at least 0 and of at most 1"),
        ("open_share", "a number above 0 and below 1"),
        ("plain", "a whole number"),
        ("flag", "true or false"),
        ("choice", 'one of "a", "b"'),
        ("mixed", 'a whole number of at least 1, or "auto"'),
        ("name", "text that matches ^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"),
        ("text", "text, or none"),
        ("path", "a path"),
        ("paths", "a list, each a path"),
        ("texts", "a list, each text"),
        ("some_texts", "a list of at least 2, each text"),
        ("full_texts", "a list, each text that is not empty"),
        ("prompt", "text, or none"),
        ("unbounded", "a whole number"),
    ],
)
def test_keys_of_every_type_is_told_in_words(key: str, allowed: str) -> None:
    """Messages and the reference say the same."""
    assert keys_of(Every)[key].allowed == allowed


def test_keys_of_flags_decide_how_bare_words_are_read() -> None:
    """Text, none, lists of texts and paths are told apart."""
    keys = keys_of(Every)
    assert [name for name, shape in keys.items() if shape.text] == ["name", "text", "path", "prompt"]
    assert [name for name, shape in keys.items() if shape.none] == ["count", "text", "prompt"]
    assert [name for name, shape in keys.items() if shape.prompt] == ["some_texts", "prompt"]
    assert [name for name, shape in keys.items() if shape.text_list] == ["paths", "texts", "some_texts", "full_texts"]
    assert [name for name, shape in keys.items() if shape.path] == ["path", "paths"]


class Strange(Strict):
    """A type that no setting has."""

    data: bytes = b""


def test_keys_of_unknown_type_is_refused() -> None:
    """Whoever adds a type describes it."""
    with pytest.raises(TypeError, match="a setting of type <class 'bytes'> has no description"):
        keys_of(Strange)


def test_find_key_outside_a_job_is_none() -> None:
    """Tables without a kind, and keys below values, have no shape."""
    tree = {"optimizer": {"lr": 1}, "seed": 3}
    assert find_shape(("optimizer", "lr"), tree) is None
    assert find_shape(("seed", "x", "y"), tree) is None
    assert find_key((), tree) is None
    assert find_key(("hooks", "a"), {"hooks": {"a": {"kind": "status"}}}) is None


def test_component_built_in_python_is_taken_as_it_is() -> None:
    """Tests and programs build settings without a file."""
    tokenizer = Char()
    assert PrepareSettings(source=PythonStdlib(), tokenizer=tokenizer).tokenizer is tokenizer
