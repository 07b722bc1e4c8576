"""Which run a command means."""

from pathlib import Path

import pytest

from ml_playground.core.error_handling import RunError
from ml_playground.core.run_folder import RunFolder, all_runs, find_run, is_run, runs_folder


def make_run(experiment: str, run_id: str) -> RunFolder:
    """A run as far as names go: a folder with a job in it."""
    path = runs_folder() / experiment / run_id
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    return RunFolder(path)


def test_all_runs_several_experiments_newest_first() -> None:
    """Run ids begin with their time, so their order is that of the starts."""
    older = make_run("b", "20260101-000000-aaaa")
    newest = make_run("a", "20260303-000000-bbbb")
    middle = make_run("b", "20260202-000000-cccc")
    (runs_folder() / "b" / "no-run").mkdir()
    assert all_runs(runs_folder()) == [newest, middle, older]


def test_find_run_experiment_gives_its_newest() -> None:
    """The run of a moment ago is nearly always the one that is meant."""
    make_run("a", "20260101-000000-aaaa")
    newest = make_run("a", "20260202-000000-bbbb")
    make_run("b", "20260303-000000-cccc")
    assert find_run("a") == newest


@pytest.mark.parametrize("target", ["a/20260101-000000-aaaa", "20260101-000000-aaaa", "20260101", "a/20260101"])
def test_find_run_id_or_its_beginning_gives_that_run(target: str) -> None:
    """Ids may be typed whole or as far as they are unique."""
    run = make_run("a", "20260101-000000-aaaa")
    make_run("a", "20260202-000000-bbbb")
    assert find_run(target) == run


def test_find_run_path_gives_that_folder_wherever_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was copied away is still a run; the path becomes absolute."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert find_run("elsewhere") == RunFolder(folder)


def test_is_run_checkpoint_folder_is_none(tmp_path: Path) -> None:
    """A checkpoint carries a copy of the job, and must not pass for a run."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "progress.json").write_text("{}")
    assert not is_run(tmp_path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [('{"model_type": "gpt2", "n_layer": 2}', False), ('{"prepare": {}, "model": {}}', True), ("{damaged", True)],
)
def test_is_run_takes_no_model_s_config_for_a_job(tmp_path: Path, content: str, expected: bool) -> None:
    """A model from elsewhere keeps one, too; a damaged one stays visible, so that whoever reads it says so."""
    (tmp_path / "config.json").write_text(content)
    assert is_run(tmp_path) is expected


def test_find_run_folder_that_is_no_run_says_what_it_lacks(tmp_path: Path) -> None:
    """Whoever names a folder means that folder, and not a run of its name; whether there are runs or not."""
    (tmp_path / "models" / "hftok").mkdir(parents=True)
    for run_id in ("20260101-000000-aaaa", "20260101-000000-bbbb"):
        with pytest.raises(RunError, match=r"hftok holds no config\.json, so that it is neither a run nor a model's"):
            find_run(str(tmp_path / "models" / "hftok"))
        with pytest.raises(RunError, match=r"there is no folder .*hftokk; did you mean 'hftok'\?"):
            find_run(str(tmp_path / "models" / "hftokk"))
        make_run("a", run_id)


def test_find_run_name_that_is_a_folder_too_gives_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An experiment's own folder often lies in the working directory."""
    run = make_run("toy", "20260101-000000-aaaa")
    (tmp_path / "toy").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_run("toy") == run


@pytest.mark.parametrize(
    ("written", "experiment"),
    [("", "tune"), ('name = "sums"\n', "sums"), ("[damaged", ""), (f"a = {'[' * 5000}{']' * 5000}", "")],
    ids=["without a name", "with a name", "damaged", "too deep"],
)
def test_find_run_folder_of_an_experiment_gives_its_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, experiment: str
) -> None:
    """Who typed `mlp train .` goes on with `mlp evaluate .`, and learns what is missing before the first run."""
    (tmp_path / "tune").mkdir()
    (tmp_path / "tune" / "config.toml").write_text(written)
    monkeypatch.chdir(tmp_path / "tune")
    says = (
        f"the experiment {experiment} in that folder has no run .*start one: mlp train \\."
        if experiment
        else "holds no config.json"
    )
    with pytest.raises(RunError, match=rf"no run answers to '\.': .*{says}"):
        find_run(".")
    make_run("other", "20260404-000000-cccc")
    if experiment:
        make_run(experiment, "20260101-000000-aaaa")
        newest = make_run(experiment, "20260202-000000-bbbb")
        assert find_run(".") == find_run(str(tmp_path / "tune")) == newest


def test_find_run_nothing_trained_yet_says_how_to_start() -> None:
    """The first command of a new user may be the wrong one."""
    with pytest.raises(RunError, match=r"no run answers to 'a': there is none under .*; start one: mlp train"):
        find_run("a")


def test_find_run_misspelt_names_nearest_and_lists_experiments() -> None:
    """What, where, what is there, what to do."""
    make_run("shakespeare", "20260101-000000-aaaa")
    with pytest.raises(RunError) as caught:
        find_run("shakespere")
    assert str(caught.value) == (
        f"no run answers to 'shakespere' under {runs_folder()}; did you mean 'shakespeare'? "
        "(experiments with runs: shakespeare); mlp runs lists all"
    )


def test_find_run_ambiguous_beginning_lists_the_hits() -> None:
    """A guess between two runs would be wrong half the time."""
    for number in range(7):
        make_run("a", f"20260101-00000{number}-aaaa")
    with pytest.raises(
        RunError, match=r"'2026' begins 7 run ids \(a/20260101-000006-aaaa, .*, and 2 more\); type more"
    ):
        find_run("2026")
