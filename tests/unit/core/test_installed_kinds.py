"""Kinds of installed packages: found by their metadata, loaded when asked for, refused in words."""

import importlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from ml_playground.commands.doctor_plugins import plugins
from ml_playground.commands.findings import Finding
from ml_playground.configuration.base import kinds_of
from ml_playground.configuration.families import FAMILIES, MODELS, SCHEDULES
from ml_playground.configuration.loading import load
from ml_playground.configuration.problems import ConfigProblemsError
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.installed_kinds import claims

MODULE = """
from typing import Literal
from ml_playground.configuration.base import Component
from ml_playground.core.registry import Kind

class Flat(Component):
    \"\"\"As it is.\"\"\"
    kind: Literal["flat"] = "flat"
    \"\"\"Flat.\"\"\"

def build(settings, max_steps):
    return lambda step: 1.0

FLAT = Kind("NAME:Flat", "NAME:build")
NO_SETTINGS = Kind("NAME:build", "NAME:build")
OTHER_KIND = Kind("NAME:Flat", "NAME:build")
NO_BUILDER = Kind("NAME:Flat", "NAME:absent")
TEXT = "NAME:Flat"
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is searched for packages; what is in it is forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    claims.cache_clear()
    yield tmp_path
    claims.cache_clear()
    for name in [path.stem for path in tmp_path.glob("*.py")]:
        sys.modules.pop(name, None)


def install(folder: Path, name: str, points: Mapping[str, str], module: str | None = None) -> None:
    """A package as an installer leaves it: `family.kind` -> what the entry point names."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"[ml_playground.{key.split('.')[0]}]\n{key.split('.')[1]} = {value}\n" for key, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join(lines))
    (folder / f"{name}_module.py").write_text((MODULE if module is None else module).replace("NAME", f"{name}_module"))
    importlib.invalidate_caches()
    claims.cache_clear()


def refusal(kind: str) -> str:
    """What a job with this schedule is answered."""
    with pytest.raises(ConfigError) as caught:
        load("python_stdlib", sets=[f"schedule={{kind='{kind}'}}"], environ={})
    return str(caught.value)


def test_installed_kind_is_chosen_like_a_shipped_one(installed: Path) -> None:
    """And listed with who brings it, where kinds are listed."""
    install(installed, "one", {"schedule.flat": "one_module:FLAT"})
    job = load("python_stdlib", sets=["schedule={kind='flat'}"], environ={}).job
    assert job.schedule.kind_name == "flat"
    assert SCHEDULES.origin("flat") == "one 1.0 (entry point ml_playground.schedule: flat = one_module:FLAT)"
    assert SCHEDULES.origin("warmup_cosine") == ""
    assert "flat (of one 1.0), one_cycle, warmup_constant, " in refusal("flet")
    assert "did you mean 'flat'?" in refusal("flet")
    assert list(plugins()) == [Finding("ok", "plugin one 1.0", "schedule flat")]


@pytest.mark.parametrize(
    ("value", "module", "message"),
    [
        ("absent:FLAT", None, "there is no module absent."),
        ("bad_module:NOTHING", None, "bad_module has no 'NOTHING'."),
        ("bad_module:TEXT", None, "bad_module:TEXT is a str, not an ml_playground.core.registry.Kind."),
        ("bad_module:FLAT", "1 / 0", "bad_module does not load: ZeroDivisionError: division by zero"),
        ("bad_module:FLAT", "def", "bad_module does not load: SyntaxError: "),
        ("bad_module:FLAT", "import ml_playground.gone", "does not load: No module named 'ml_playground.gone'."),
        (
            "bad_module:FLAT",
            "import no_such_thing",
            "needs the package 'no_such_thing', which is not installed; install it: pip install no_such_thing",
        ),
        ("bad_module:NO_SETTINGS", None, "bad_module:build is no class of settings, derived from"),
        (
            "bad_module:FLAT",
            MODULE.replace('"flat"', '"round"'),
            "bad_module:Flat does not say kind: Literal['flat'] = 'flat'.",
        ),
    ],
)
def test_broken_kind_is_one_message_and_hurts_nobody_else(
    installed: Path, value: str, module: str | None, message: str
) -> None:
    """Which entry point of which package, and what failed; whoever does not choose it does not notice."""
    install(installed, "bad", {"schedule.flat": value}, module)
    said = refusal("flat")
    assert message in said
    assert f"bad 1.0 (entry point ml_playground.schedule: flat = {value}) is broken:" in said
    assert load("python_stdlib", environ={}).job.schedule.kind_name == "warmup_cosine"
    assert list(kinds_of("schedule")) == list(SCHEDULES.shipped)
    (finding,) = plugins()
    assert (finding.level, finding.subject) == ("warning", "plugin bad 1.0")
    assert message in finding.text


def test_builder_that_is_not_there_is_found_by_doctor(installed: Path) -> None:
    """A job would find out only when it begins."""
    install(installed, "half", {"schedule.flat": "half_module:NO_BUILDER"})
    assert [(one.level, one.text) for one in plugins()] == [("warning", "half_module has no 'absent'.")]


def test_kind_of_two_packages_is_refused_by_name(installed: Path) -> None:
    """Nobody can know which was meant; every other kind is as before."""
    for name in ("one", "two"):
        install(installed, name, {"schedule.flat": f"{name}_module:FLAT"})
    said = refusal("flat")
    assert said.startswith("schedule kind 'flat' is claimed by ")
    assert "one 1.0 (entry point ml_playground.schedule: flat = one_module:FLAT)" in said
    assert "two 1.0 (entry point ml_playground.schedule: flat = two_module:FLAT)" in said
    assert said.endswith("; uninstall all but one of them.")
    assert load("python_stdlib", environ={}).job.schedule.kind_name == "warmup_cosine"


def test_shipped_kind_that_a_package_claims_stays_what_it_is(installed: Path) -> None:
    """Installing something must not change what a job computes; doctor says so."""
    install(installed, "sly", {"model.gpt": "sly_module:FLAT"})
    assert MODELS["gpt"] is MODELS.shipped["gpt"]
    (finding,) = plugins()
    assert finding.text.endswith("brings a kind that is one of ml-playground's own, which is used")


def test_group_of_no_family_is_found_by_doctor(installed: Path) -> None:
    """A misspelt group would else be silent."""
    install(installed, "typo", {"modle.flat": "typo_module:FLAT"})
    (finding,) = plugins()
    assert "is of no family; did you mean 'model'? (groups: ml_playground.source, " in finding.text


def test_unknown_kind_is_refused_as_ever_without_plugins(installed: Path) -> None:
    """The list of kinds is that of the table."""
    with pytest.raises(ConfigProblemsError, match=rf"\(allowed: {', '.join(sorted(SCHEDULES.shipped))}\)"):
        load("python_stdlib", sets=["schedule={kind='zzz'}"], environ={})
    assert all(list(family) == list(family.shipped) for family in FAMILIES.values())
