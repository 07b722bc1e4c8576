"""The names of everything inside a run's folder."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ml_playground.core.run_folder import RunFolder, cache_folder, data_folder, home, new_run, new_run_id, runs_folder

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_home_is_moved_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`MLP_HOME` moves runs, data and caches together."""
    monkeypatch.setenv("MLP_HOME", str(tmp_path / "elsewhere"))
    assert home() == tmp_path / "elsewhere"
    assert runs_folder() == tmp_path / "elsewhere" / "runs"
    assert data_folder() == tmp_path / "elsewhere" / "data"
    assert cache_folder() == tmp_path / "elsewhere" / ".cache"


@pytest.mark.parametrize("value", [None, ""])
def test_home_without_the_environment_is_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    """An empty variable counts as none."""
    monkeypatch.delenv("MLP_HOME")
    if value is not None:
        monkeypatch.setenv("MLP_HOME", value)
    monkeypatch.chdir(tmp_path)
    assert home() == tmp_path


def test_home_relative_or_with_tilde_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later change of the working directory does not move it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    monkeypatch.setenv("MLP_HOME", "work")
    assert home() == tmp_path / "work"
    monkeypatch.setenv("MLP_HOME", "~/work")
    assert home() == tmp_path / "me" / "work"


def test_new_run_id_sorts_by_time_and_never_collides() -> None:
    """Two starts within one second get folders of their own."""
    ids = {new_run_id(NOW) for _ in range(50)}
    assert all(re.fullmatch(r"20260102-030405-[0-9a-f]{4}", run_id) for run_id in ids)
    assert len(ids) > 40


@pytest.mark.parametrize(
    ("there", "begins_with"),
    [
        ([], "20260102-030405-"),
        (["20251231-235959-ffff", "20260102-030405-ffff"], "20260102-030405-"),
        (["20300101-000000-aaaa", "20250101-000000-aaaa"], "20300101-000001-"),
        (["99991231-235959-aaaa", "20261399-999999-aaaa", "my-own-name", "2026-x-y"], "20260102-030405-"),
    ],
)
def test_new_run_sorts_behind_all_others_also_when_the_clock_was_set_back(there: list[str], begins_with: str) -> None:
    """The next start goes on with the run that was begun last, not with the one of the largest lie."""
    for run_id in there:
        (runs_folder() / "tiny" / run_id).mkdir(parents=True)
    assert new_run("tiny", NOW).path.parent == runs_folder() / "tiny"
    assert new_run("tiny", NOW).path.name.startswith(begins_with)


def test_run_folder_names_are_distinct_and_inside(tmp_path: Path) -> None:
    """No two files of a run share a name."""
    run = RunFolder(tmp_path / "shakespeare" / "20260102-030405-1f3a")
    assert run.id == "shakespeare/20260102-030405-1f3a"
    names = [name for name, value in vars(RunFolder).items() if isinstance(value, property) and name != "id"]
    paths = [getattr(run, name) for name in names]
    assert len(set(paths)) == len(paths) >= 11
    assert all(path.is_relative_to(run.path) and path != run.path for path in paths)
