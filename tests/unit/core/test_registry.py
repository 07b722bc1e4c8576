"""kind -> component, imported when asked for."""

import sys
from pathlib import Path

import pytest

from ml_playground.core.error_handling import ConfigError
from ml_playground.core.registry import Family, Kind, did_you_mean, install_command, kind_of, load_object

TABLE = Family("optimizer", {"adamw": Kind("a:A", "a:build"), "muon": Kind("m:M", "m:build")})


def test_kind_of_known_kind_is_its_row() -> None:
    """Two strings, nothing imported."""
    assert kind_of(TABLE, "muon") == Kind("m:M", "m:build")


def test_kind_of_near_miss_suggests_and_lists() -> None:
    """A misspelt kind is answered with the nearest and with all."""
    with pytest.raises(
        ConfigError, match=r"optimizer has no kind 'adam'; did you mean 'adamw'\? \(allowed: adamw, muon\)\."
    ):
        kind_of(TABLE, "adam")


def test_kind_of_far_miss_only_lists() -> None:
    """Nothing near: no silly suggestion."""
    with pytest.raises(ConfigError, match=r"optimizer has no kind 'zzz' \(allowed: adamw, muon\)\."):
        kind_of(TABLE, "zzz")


def test_did_you_mean_only_answers_when_something_is_close() -> None:
    """The suggestion is ready to be put into a sentence."""
    assert did_you_mean("max_step", ["max_steps", "seed"]) == "; did you mean 'max_steps'?"
    assert did_you_mean("zzz", ["max_steps", "seed"]) == ""


def test_load_object_gives_what_the_string_names() -> None:
    """Module and name, separated by a colon."""
    assert load_object("ml_playground.core.registry:Kind") is Kind


def test_load_object_missing_library_names_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing extra is one clear line."""
    (tmp_path / "needs_much.py").write_text("import no_such_library_at_all.part\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ConfigError,
        match=r"needs_much needs the package 'no_such_library_at_all', which is not installed; "
        r"install it: pip install no_such_library_at_all",
    ):
        load_object("needs_much:build")
    sys.modules.pop("needs_much", None)


@pytest.mark.parametrize("path", ["ml_playground.no_such_module:build", "ml_playground.core.registry.deeper:build"])
def test_load_object_missing_module_of_ours_keeps_its_traceback(path: str) -> None:
    """That is our mistake, not something to install."""
    with pytest.raises(ModuleNotFoundError):
        load_object(path)


def test_load_object_missing_name_keeps_its_traceback() -> None:
    """A wrong row of a table is our mistake."""
    with pytest.raises(AttributeError, match="no_such_name"):
        load_object("ml_playground.core.registry:no_such_name")


@pytest.mark.parametrize(
    ("package", "command"),
    [
        ("transformers", "pip install 'ml-playground[hf]'"),
        ("transformers.models", "pip install 'ml-playground[hf]'"),
        ("rich", "pip install rich"),
    ],
)
def test_install_command_goes_through_our_extra_where_there_is_one(package: str, command: str) -> None:
    """Extras pin versions that fit together."""
    assert install_command(package) == command
