"""The tables: every row leads somewhere, every settings class is plain data."""

import json
import subprocess
import sys
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from ml_playground.configuration.base import Component, Strict
from ml_playground.configuration.families import FAMILIES
from ml_playground.configuration.loading import experiment_names, group_names, load
from ml_playground.configuration.models import JobConfig
from ml_playground.core.registry import load_object
from tests.architecture.source import sources
from tests.fakes.shipped_jobs import shipped_job

ROWS = [(family, kind) for family, table in FAMILIES.items() for kind in table]
SETTINGS = sorted({row.settings for table in FAMILIES.values() for row in table.values()})


def subclasses(base: type[BaseModel]) -> set[type[BaseModel]]:
    """All classes below one, in modules that are imported."""
    below = set(base.__subclasses__())
    return below.union(*(subclasses(child) for child in below))


def all_settings() -> list[type[BaseModel]]:
    """Every settings class of the package; records of files are strict too, but live in other modules."""
    for path in SETTINGS:
        load_object(path)
    found = subclasses(Strict) - {Component}
    return sorted((item for item in found if is_settings_module(item.__module__)), key=lambda item: item.__name__)


def is_settings_module(name: str) -> bool:
    """`configuration.*`, or a package's `settings`."""
    return name.startswith("ml_playground.configuration.") or (
        name.startswith("ml_playground.") and name.endswith(".settings")
    )


@pytest.mark.parametrize(("family", "kind"), ROWS)
def test_row_settings_and_builder_import(family: str, kind: str) -> None:
    """A table names strings; a misspelt one would fail only at its user's."""
    row = FAMILIES[family][kind]
    assert issubclass(load_object(row.settings), Strict)
    assert callable(load_object(row.build))


@pytest.mark.parametrize(("family", "kind"), [row for row in ROWS if row[0] not in {"preview", "engine"}])
def test_row_kind_is_what_its_settings_say(family: str, kind: str) -> None:
    """The literal in the class and the key in the table are one name."""
    settings = load_object(FAMILIES[family][kind].settings)
    assert get_args(settings.model_fields["kind"].annotation) == (kind,)


@pytest.mark.parametrize("settings", all_settings(), ids=lambda item: item.__name__)
def test_settings_fields_are_documented(settings: type[BaseModel]) -> None:
    """The docstring under a field is its help text."""
    assert [name for name, field in settings.model_fields.items() if not field.description] == []


def holds_callable(value: Any) -> bool:
    """Whether a value or anything inside it can be called."""
    if isinstance(value, BaseModel):
        return any(holds_callable(getattr(value, name)) for name in type(value).model_fields)
    if isinstance(value, dict):
        return any(holds_callable(item) for item in value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return any(holds_callable(item) for item in value)
    return callable(value)


@pytest.mark.parametrize("settings", all_settings(), ids=lambda item: item.__name__)
def test_settings_annotations_hold_no_callable(settings: type[BaseModel]) -> None:
    """A job is data: what can be called cannot be recorded, compared or sent."""
    annotations = [str(field.annotation) for field in settings.model_fields.values()]
    assert [text for text in annotations if "Callable" in text or "function" in text] == []


@pytest.mark.parametrize("experiment", experiment_names())
def test_experiment_loads_and_round_trips(experiment: str) -> None:
    """What is recorded is the job itself, to the last value."""
    job = shipped_job(experiment)
    assert JobConfig.model_validate_json(job.model_dump_json()) == job
    assert not holds_callable(job)


@pytest.mark.parametrize("group", group_names())
def test_preset_loads_under_an_experiment(group: str) -> None:
    """Any group can be laid under the demo, as `use` does."""
    job = load("python_stdlib", sets=[f"use={json.dumps([group])}"]).job
    assert group in job.use


def test_names_of_kinds_are_words() -> None:
    """A kind is typed by hand, in TOML and in `--set`."""
    assert [kind for _, kind in ROWS if not kind.replace("_", "").isalnum() or kind != kind.lower()] == []


def test_settings_of_every_kind_load_without_torch() -> None:
    """`mlp config` works where torch is not installed."""
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from ml_playground.core.registry import load_object\n"
        f"for path in {SETTINGS!r}: load_object(path)\n"
        "from ml_playground.configuration.loading import load_without_files\n"
        f"for name in {list(experiment_names())!r}: load_without_files(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=600)
    assert (done.returncode, done.stderr) == (0, "")


def test_settings_modules_are_named_so() -> None:
    """One light module a package holds all its settings; the heavy ones stay out of the way."""
    modules = {path.partition(":")[0] for path in SETTINGS}
    known = {source.module for source in sources()}
    assert modules <= known
    names = {name.rpartition(".")[2] for name in modules}
    assert {name for name in names if not name.endswith("settings")} <= {"models"}
