"""From a name to a job: finding, layering, paths, histories."""

import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from ml_playground.configuration.fingerprint import config_hash, prepare_fingerprint
from ml_playground.configuration.loading import (
    PRESETS,
    SHIPPED,
    Loaded,
    assemble,
    experiment_names,
    find_experiment,
    group_names,
    list_experiments,
    load,
    load_file,
    load_without_files,
    read_job,
)
from ml_playground.configuration.problems import UnnamedFilesError
from ml_playground.core.error_handling import ConfigError

NAMES = sorted(file.parent.name for file in SHIPPED.glob("*/config.toml"))
BASE = '[prepare]\nsource = { kind = "text_file", path = "text.txt" }\n'


def experiment(folder: Path, config: str = "", **presets: str) -> str:
    """A folder with a config.toml, and with groups of its own: `group__name="..."`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(BASE + config)
    for name, text in presets.items():
        group, _, leaf = name.partition("__")
        (folder / "presets" / group).mkdir(parents=True, exist_ok=True)
        (folder / "presets" / group / f"{leaf}.toml").write_text(text)
    return str(folder)


def chain(loaded: Loaded, key: str) -> list[tuple[str, str, Any]]:
    """What happened to a key, without where the files lie."""
    return [(origin.action, origin.layer, origin.value) for origin in loaded.origins[key]]


# Finding


def test_find_experiment_shipped_name_gives_its_folder() -> None:
    """What is shipped needs no path."""
    assert find_experiment("shakespeare") == SHIPPED / "shakespeare"


def test_find_experiment_own_name_hides_shipped_one(home: Path) -> None:
    """Whoever copies an experiment to change it means the copy."""
    experiment(home / "experiments" / "shakespeare")
    assert find_experiment("shakespeare") == home / "experiments" / "shakespeare"
    assert [entry.shipped for entry in list_experiments() if entry.name == "shakespeare"] == [False]


@pytest.mark.parametrize("text", ["demo", "./demo", "demo/", "sub/../demo"])
def test_find_experiment_folder_is_found_from_the_working_directory(tmp_path: Path, text: str) -> None:
    """A folder is an experiment when it holds a config.toml."""
    experiment(tmp_path / "demo")
    assert find_experiment(text, tmp_path) == tmp_path / "demo"


def test_find_experiment_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shells leave `~` alone in quotes."""
    experiment(tmp_path / "demo")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_experiment("~/demo") == tmp_path / "demo"


@pytest.mark.parametrize("text", ["shakespear", "", "../../etc", "a\0b", "nul\0/", "x" * 300])
def test_find_experiment_unknown_is_refused_with_the_list(tmp_path: Path, text: str) -> None:
    """Nothing outside the known places answers to a name."""
    with pytest.raises(ConfigError) as caught:
        find_experiment(text, tmp_path)
    assert f"no experiment {text!r}" in str(caught.value)
    assert f"(experiments: {', '.join(NAMES)}; or name a folder with a config.toml)" in str(caught.value)


def test_find_experiment_misspelt_is_answered_with_the_nearest() -> None:
    """One letter is not worth a look into the documentation."""
    with pytest.raises(ConfigError, match="no experiment 'shakespear'; did you mean 'shakespeare'"):
        find_experiment("shakespear")


def test_find_experiment_folder_without_config_says_what_is_missing(tmp_path: Path) -> None:
    """A folder of that name is there, so the list would mislead."""
    (tmp_path / "demo").mkdir()
    with pytest.raises(ConfigError, match="demo is no experiment: it holds no config.toml"):
        find_experiment("demo", tmp_path)


def test_list_experiments_own_and_shipped_are_told_apart(home: Path) -> None:
    """One list, sorted, with the first sentence of each README."""
    folder = home / "experiments" / "a_own"
    experiment(folder)
    (folder / "README.md").write_text("# Title\n\n## Part\n\nFirst sentence,\nbroken. Second one.\n")
    experiment(home / "experiments" / "-bad name")
    entries = list_experiments()
    assert [entry.name for entry in entries] == ["a_own", *NAMES] == experiment_names()
    assert (entries[0].summary, entries[0].shipped) == ("First sentence, broken.", False)
    assert all(entry.shipped and entry.summary for entry in entries[1:])


def test_list_experiments_without_readme_has_no_summary(home: Path) -> None:
    """A README is a courtesy."""
    experiment(home / "experiments" / "a_own")
    experiment(home / "experiments" / "b_own")
    (home / "experiments" / "b_own" / "README.md").write_text("# Title only\n")
    assert [entry.summary for entry in list_experiments()[:2]] == ["", ""]


# Layers


def test_load_every_layer_is_seen_in_its_order(tmp_path: Path) -> None:
    """The whole chain, lowest first: the order is the contract."""
    name = experiment(
        tmp_path / "demo",
        "[train]\nevaluate_every_steps = 3\n",
        size__small="[train]\nevaluate_every_steps = 2\n",
    )
    over = tmp_path / "over.json"
    over.write_text('{"use": ["size/small"], "train": {"evaluate_every_steps": 4}}')
    environ = {
        "ML_PLAYGROUND_OVERRIDES": '{"train": {"evaluate_every_steps": 5}}',
        "ML_PLAYGROUND_TRAIN_OVERRIDES": '{"evaluate_every_steps": 6}',
    }
    loaded = load(name, sets=["train.evaluate_every_steps=7"], files=[over], environ=environ, cwd=tmp_path)
    assert loaded.job.train.evaluate_every_steps == 7
    assert chain(loaded, "train.evaluate_every_steps") == [
        ("default", "class default", 250),
        ("set", "default_config", 100),
        ("set", "group size/small", 2),
        ("set", "experiment", 3),
        ("set", "--config", 4),
        ("set", "environment variable ML_PLAYGROUND_OVERRIDES", 5),
        ("set", "environment variable ML_PLAYGROUND_TRAIN_OVERRIDES", 6),
        ("set", "--set", 7),
    ]
    assert chain(loaded, "train.max_steps")[1][1] == "default_config"


def test_load_origin_names_file_and_line(tmp_path: Path) -> None:
    """The place to change is one click away."""
    loaded = load(experiment(tmp_path / "demo", "[train]\nmax_steps = 300\n"))
    origin = loaded.origins["train.max_steps"][-1]
    assert (origin.file, origin.line) == (tmp_path / "demo" / "config.toml", 4)
    assert loaded.folder == tmp_path / "demo"


def test_load_origin_of_file_below_working_directory_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long paths hide what matters."""
    monkeypatch.chdir(tmp_path)
    loaded = load(experiment(tmp_path / "demo", "[train]\nmax_steps = 300\n"))
    assert loaded.origins["train.max_steps"][-1].where == "experiment demo/config.toml, line 4"
    assert loaded.origins["model.kind"][-1].where == (
        "default_config ml_playground/experiments/default_config.toml, line 13"
    )


def test_load_name_is_the_folder_unless_set(tmp_path: Path) -> None:
    """Runs of a copied experiment must not be filed under the original."""
    name = experiment(tmp_path / "demo")
    assert load(name).job.name == "demo"
    assert load(name, sets=["name=other"]).job.name == "other"


def test_load_use_from_a_higher_layer_replaces_the_lower_one(tmp_path: Path) -> None:
    """`use` is a value like any other, and decides once."""
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "config.toml").write_text('use = ["model/1m"]\n' + BASE)
    name = str(tmp_path / "demo")
    assert load(name).job.model.model_dump()["n_layer"] == 5
    assert load(name, sets=["use=model/tiny"]).job.model.model_dump()["n_layer"] == 2
    assert load(name, sets=["use=[]"]).job.model.model_dump()["n_layer"] == 4


def test_load_later_group_wins_over_earlier(tmp_path: Path) -> None:
    """The order of the list is the order of the layers."""
    name = experiment(tmp_path / "demo")
    assert load(name, sets=['use=["model/tiny", "model/10m"]']).job.model.model_dump()["n_layer"] == 6


def test_load_own_group_hides_shipped_one(tmp_path: Path) -> None:
    """An experiment may bring its own sizes."""
    name = experiment(tmp_path / "demo", model__tiny="[model]\nn_layer = 9\n", model__own="")
    assert load(name, sets=["use=model/tiny"]).job.model.model_dump()["n_layer"] == 9
    assert "model/own" in group_names(tmp_path / "demo")


@pytest.mark.parametrize(
    ("use", "message"),
    [
        ("model/tny", "use names no group 'model/tny'; did you mean 'model/tiny'? (groups: batch/16x1, "),
        ("../model/tiny", "use names no group '../model/tiny'"),
        ("model", "use names no group 'model'"),
        ("/etc/passwd", "use names no group '/etc/passwd'"),
    ],
)
def test_load_unknown_group_is_refused_with_the_nearest(tmp_path: Path, use: str, message: str) -> None:
    """A group is two names, and cannot leave its folder."""
    with pytest.raises(ConfigError) as caught:
        load(experiment(tmp_path / "demo"), sets=[f"use={use}"])
    assert message in str(caught.value)
    assert str(caught.value).startswith("--set: ")


def test_load_unknown_group_in_a_file_names_its_line(tmp_path: Path) -> None:
    """Every unknown group of the list is named at once."""
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "config.toml").write_text('\nuse = ["a/b", "c/d"]\n' + BASE)
    with pytest.raises(ConfigError) as caught:
        load(str(tmp_path / "demo"))
    lines = str(caught.value).splitlines()
    assert [("config.toml, line 2: use names no group" in line) for line in lines] == [True, True]


def test_load_group_that_uses_groups_is_refused(tmp_path: Path) -> None:
    """It would have no effect, so it is an error."""
    name = experiment(tmp_path / "demo", a__b='use = ["model/tiny"]\n')
    with pytest.raises(ConfigError, match=r"group a/b .*b.toml, line 1: a group cannot use other groups"):
        load(name, sets=["use=a/b"])


def test_load_broken_group_names_its_file(tmp_path: Path) -> None:
    """A group is read like any file."""
    name = experiment(tmp_path / "demo", a__b="x = = 1\n")
    with pytest.raises(ConfigError, match=r"b.toml: is not valid TOML"):
        load(name, sets=["use=a/b"])


@pytest.mark.parametrize("use", ["3", "[3]", "{a=1}"])
def test_load_use_of_wrong_type_is_refused(tmp_path: Path, use: str) -> None:
    """The validation says what is allowed."""
    with pytest.raises(ConfigError, match="use") as caught:
        load(experiment(tmp_path / "demo"), files=[written(tmp_path / "a.toml", f"use = {use}")])
    assert "a.toml, line 1: use" in str(caught.value)


def written(file: Path, text: str) -> Path:
    """The file, with this text in it."""
    file.write_text(text)
    return file


def test_load_all_reading_problems_are_listed(tmp_path: Path) -> None:
    """One run of the command shows all that is to be mended."""
    name = experiment(tmp_path / "demo")
    bad = written(tmp_path / "bad.toml", "x = = 1")
    environ = {"ML_PLAYGROUND_OVERRIDES": "{", "ML_PLAYGROUND_SAMPLE_OVERRIDES": "[]"}
    with pytest.raises(ConfigError) as caught:
        load(name, files=[bad, Path("gone.json")], environ=environ, sets=["nothing"], cwd=tmp_path)
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        f"--config {bad}",
        f"--config {tmp_path / 'gone.json'}",
        "environment variable ML_PLAYGROUND_OVERRIDES, line 1",
        "environment variable ML_PLAYGROUND_SAMPLE_OVERRIDES",
        "--set nothing",
    ]


# Kinds and alternatives


def test_load_another_kind_replaces_its_whole_table(tmp_path: Path) -> None:
    """Keys of the old kind mean nothing to the new one, even where they have the same name."""
    loaded = load(experiment(tmp_path / "demo", "[optimizer]\nlr = 0.5\n"), sets=["optimizer.kind=muon"])
    assert loaded.job.optimizer.kind_name == "muon"
    assert loaded.job.optimizer.model_dump()["lr"] == 0.001
    assert chain(loaded, "optimizer.lr") == [
        ("set", "default_config", 0.001),
        ("set", "experiment", 0.5),
        ("dropped", "--set", None),
        ("default", "class default", 0.001),
    ]


def test_load_same_kind_again_keeps_the_table(tmp_path: Path) -> None:
    """Naming the kind that is already there changes nothing."""
    loaded = load(experiment(tmp_path / "demo", "[optimizer]\nlr = 0.5\n"), sets=["optimizer.kind=adamw"])
    assert loaded.job.optimizer.model_dump()["lr"] == 0.5


def test_load_keys_beside_another_kind_in_one_layer_hold(tmp_path: Path) -> None:
    """The new kind's own keys come with it, in any order."""
    sets = ["optimizer.matrix_lr=0.5", "optimizer.kind=muon", "optimizer.lr=2"]
    assert load(experiment(tmp_path / "demo"), sets=sets).job.optimizer.model_dump()["matrix_lr"] == 0.5


@pytest.mark.parametrize(
    ("sets", "steps", "epochs"),
    [
        (["train.max_epochs=2"], None, 2.0),
        (["train.max_steps=7", "schedule.warmup_steps=1"], 7, None),
        (["train.max_epochs=2", "train.max_steps=none"], None, 2.0),
        (["train.max_epochs=none"], 1000, None),
    ],
)
def test_load_alternative_set_takes_back_the_lower_one(
    tmp_path: Path, sets: list[str], steps: int | None, epochs: float | None
) -> None:
    """Of max_steps and max_epochs the higher layer's choice counts; TOML could not unset the other."""
    train = load(experiment(tmp_path / "demo"), sets=sets).job.train
    assert (train.max_steps, train.max_epochs) == (steps, epochs)


def test_load_alternative_history_shows_what_was_taken_back(tmp_path: Path) -> None:
    """Nobody should wonder where max_steps went."""
    loaded = load(experiment(tmp_path / "demo", "\n[train]\nmax_epochs = 2\n"))
    assert chain(loaded, "train.max_steps")[-2:] == [("set", "default_config", 1000), ("cleared", "experiment", None)]
    assert loaded.origins["train.max_steps"][-1].line == 5


def test_load_word_none_in_toml_is_none(tmp_path: Path) -> None:
    """TOML has no null; keys that take text keep the word as text."""
    config = '[checkpointing]\nevery_minutes = "none"\n[hooks.samples]\nprompt = "none"\n'
    job = load(experiment(tmp_path / "demo", config)).job
    assert job.checkpointing.every_minutes is None
    assert job.hooks["samples"].model_dump()["prompt"] == "none"


def test_load_table_over_scalar_and_back_keeps_histories_apart(tmp_path: Path) -> None:
    """A layer may mend what a lower one got wrong, even the shape."""
    name = experiment(tmp_path / "demo", "[checkpointing]\nevery_steps = 1\n")
    wrong = written(tmp_path / "a.toml", "checkpointing = 3\n")
    right = written(tmp_path / "b.toml", "[checkpointing]\nevery_steps = 4\n")
    loaded = load(name, files=[wrong, right])
    assert chain(loaded, "checkpointing.every_steps") == [("default", "class default", 500), ("set", "--config", 4)]
    with pytest.raises(ConfigError, match=r"a.toml, line 1: checkpointing cannot be 3"):
        load(name, files=[wrong])


# Paths


def test_load_relative_path_counts_from_the_file_that_set_it(tmp_path: Path) -> None:
    """An experiment's folder can be moved as a whole."""
    name = experiment(tmp_path / "demo")
    assert path_of(load(name)) == str(tmp_path / "demo" / "text.txt")
    (tmp_path / "x").mkdir()
    over = written(tmp_path / "x" / "a.yaml", "prepare: {source: {path: ../other.txt}}")
    loaded = load(name, files=[over])
    assert path_of(loaded) == str(tmp_path / "other.txt")
    assert loaded.origins["prepare.source.path"][-1].value == "../other.txt"


def path_of(loaded: Loaded) -> str:
    """The source's path."""
    return str(loaded.job.prepare.source.model_dump(mode="json")["path"])


def test_load_relative_path_without_file_counts_from_the_working_directory(tmp_path: Path) -> None:
    """What is typed or exported is meant from where one stands."""
    name = experiment(tmp_path / "demo")
    environ = {"ML_PLAYGROUND_OVERRIDES": '{"prepare": {"source": {"path": "e.txt"}}}'}
    assert path_of(load(name, environ=environ, cwd=tmp_path)) == str(tmp_path / "e.txt")
    sets = ['prepare.source={kind="text_file", path="s.txt"}']
    assert path_of(load(name, environ=environ, cwd=tmp_path, sets=sets)) == str(tmp_path / "s.txt")
    assert path_of(load(name, cwd=tmp_path, sets=["prepare.source.path=/a/b"])) == "/a/b"


@pytest.mark.parametrize(("text", "expected"), [("~", ""), ("~/a.txt", "/a.txt")])
def test_load_home_folder_in_path_is_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: str
) -> None:
    """In files no shell does it."""
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert (
        path_of(load(experiment(tmp_path / "demo"), sets=[f"prepare.source.path={text}"]))
        == str(tmp_path / "me") + expected
    )


def test_load_home_folder_of_another_user_is_expanded(tmp_path: Path) -> None:
    """As shells do it outside quotes."""
    user = pwd.getpwuid(os.getuid())
    name = experiment(tmp_path / "demo")
    assert path_of(load(name, sets=[f"prepare.source.path=~{user.pw_name}/a"])) == os.path.normpath(f"{user.pw_dir}/a")


def test_load_home_folder_of_nobody_is_refused_everywhere(tmp_path: Path) -> None:
    """It is not taken for a folder named `~...`."""
    name = experiment(tmp_path / "demo")
    with pytest.raises(
        ConfigError,
        match=r"'~no-such-one/a' is no path: this machine has no user 'no-such-one'; for a file of that name write \./~no",
    ):
        load(name, sets=["prepare.source.path=~no-such-one/a"])
    assert path_of(load(name, sets=["prepare.source.path=./~no/a"], cwd=tmp_path)) == str(tmp_path / "~no/a")
    with pytest.raises(ConfigError, match=r"no experiment '~no-such-one/a': this machine has no user 'no-such-one'"):
        find_experiment("~no-such-one/a")
    with pytest.raises(ConfigError, match=r"~no-such-one/a\.toml: no such file"):
        load(name, files=[Path("~no-such-one/a.toml")])


def test_load_prompt_file_counts_from_the_file_that_sets_it(tmp_path: Path) -> None:
    """As every other path; a prompt that is no file stays as it is."""
    name = experiment(tmp_path / "demo", '[sample]\nprompts = ["FILE:a.txt", "file:b", "FILE:/c"]')
    assert load(name).job.sample.prompts == (f"FILE:{tmp_path / 'demo' / 'a.txt'}", "file:b", "FILE:/c")
    job = load(name, sets=["sample.prompts=FILE:a.txt", "hooks.samples.prompt=FILE:~/b"], cwd=tmp_path).job
    assert job.sample.prompts == (f"FILE:{tmp_path / 'a.txt'}",)
    assert job.hooks["samples"].model_dump()["prompt"] == f"FILE:{Path.home() / 'b'}"


def test_load_group_path_counts_from_the_group(tmp_path: Path) -> None:
    """A group may bring a file along."""
    name = experiment(tmp_path / "demo", model__warm='[model]\nweights = "folder"\n')
    loaded = load(name, sets=["use=model/warm"])
    assert loaded.job.model.model_dump(mode="json")["weights"] == str(tmp_path / "demo/presets/model/folder")


def test_load_path_none_stays_none(tmp_path: Path) -> None:
    """A path may be absent."""
    name = experiment(tmp_path / "demo", '[model]\nweights = "folder"\n')
    assert load(name, sets=["model.weights=none"]).job.model.model_dump()["weights"] is None


def test_load_paths_that_are_none_are_listed_with_other_problems(tmp_path: Path) -> None:
    """An empty path would silently mean the folder itself."""
    over = written(tmp_path / "a.json", '{"model": {"weights": "a\\u0000b"}, "seed": -1}')
    with pytest.raises(ConfigError) as caught:
        load(experiment(tmp_path / "demo"), sets=["prepare.source.path="], files=[over])
    lines = str(caught.value).splitlines()
    assert "--set: prepare.source.path = '' is no path: it is empty" in lines
    assert "a.json, line 1: model.weights = 'a\\x00b' is no path: it holds a NUL character" in str(caught.value)
    assert any("seed cannot be -1" in line for line in lines)
    with pytest.raises(ConfigError, match="is no path: it is empty"):
        load(experiment(tmp_path / "demo"), sets=["prepare.source.path="])


# Files and recorded jobs


def test_load_file_beside_a_config_is_laid_over_that_experiment(tmp_path: Path) -> None:
    """A test overlay is checked with what it is meant for."""
    experiment(tmp_path / "demo", "[train]\nmax_steps = 300\n")
    over = written(tmp_path / "demo" / "test_config.toml", "seed = 3\n")
    job = load_file(over).job
    assert (job.seed, job.train.max_steps, job.name) == (3, 300, "demo")


def test_load_file_alone_is_read_as_an_experiment(tmp_path: Path) -> None:
    """Its name is the file's."""
    assert load_file(written(tmp_path / "mine.toml", BASE)).job.name == "mine"


def test_load_file_ignores_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A comparison of files must not depend on who compares."""
    monkeypatch.setenv("ML_PLAYGROUND_OVERRIDES", '{"seed": 3}')
    experiment(tmp_path / "demo")
    assert load_file(tmp_path / "demo" / "config.toml").job.seed == 1337
    assert load(str(tmp_path / "demo")).job.seed == 3


def test_read_job_recorded_job_comes_back_equal(tmp_path: Path) -> None:
    """The record is the job: what was resolved is not resolved again."""
    job = load(experiment(tmp_path / "demo"), sets=["train.max_epochs=2"]).job
    assert read_job(written(tmp_path / "config.json", job.model_dump_json())) == job


def test_read_job_of_another_version_lists_what_is_wrong(tmp_path: Path) -> None:
    """Never a traceback."""
    with pytest.raises(ConfigError, match=r"recorded job .*config.json, line 1: unknown section old_section"):
        read_job(written(tmp_path / "config.json", '{"old_section": {"a": 1}}'))


def test_config_hash_equal_jobs_have_equal_hashes(tmp_path: Path) -> None:
    """It marks the job, not the way it was written."""
    name = experiment(tmp_path / "demo")
    plain = config_hash(load(name).job)
    assert len(plain) == 16
    assert plain == config_hash(load(name, sets=["hooks.control.kind=control", "seed=1337"]).job)
    assert plain != config_hash(load(name, sets=["seed=1338"]).job)


def test_prepare_fingerprint_depends_on_the_prepare_settings_alone(tmp_path: Path) -> None:
    """Another model trains on the same files."""
    name = experiment(tmp_path / "demo")
    same = [load(name, sets=sets).job.prepare for sets in ([], ["model.n_layer=1", "seed=3"])]
    other = load(name, sets=["prepare.val_fraction=0.2"]).job.prepare
    assert prepare_fingerprint(same[0]) == prepare_fingerprint(same[1]) != prepare_fingerprint(other)


def test_assemble_without_experiment_gives_what_all_share() -> None:
    """`config explain` works without an experiment."""
    assert assemble(None).tree["model"]["kind"] == "gpt"
    assert "name" not in assemble(None).tree


@pytest.mark.parametrize("name", NAMES)
def test_load_shipped_experiments_and_overlays_are_valid(name: str) -> None:
    """What is shipped loads, as it is but for files of its user, and in its tiny form as it is."""
    loaded, needs = load_without_files(name)
    tiny = load(name, files=[SHIPPED / name / "test_config.toml"])
    assert (loaded.job.name, tiny.job.name) == (name, name)
    assert load_file(SHIPPED / name / "test_config.toml").job == tiny.job
    theirs = ("prepare.source.path",) if name.startswith(("bundestag", "emoji_think", "got", "speakger")) else ()
    base = ("prepare.tokenizer.path", "model.path") if loaded.job.model.kind_name == "hf_causal_lm" else ()
    assert needs == (*theirs, *base)


def test_load_files_that_only_their_user_has_are_asked_for(tmp_path: Path) -> None:
    """What to type, what it takes, and where it is described; however often the key is missing."""
    with pytest.raises(UnnamedFilesError) as caught:
        load("got_char")
    assert caught.value.problems == (
        "got_char reads what only you have: prepare.source.path must be set.",
        "prepare.source.path takes a file, a folder (all of it that matches `pattern`), or a glob.",
        "Type behind the command: --set prepare.source.path=FILE",
        f"What it must hold: {SHIPPED / 'got_char' / 'README.md'}",
    )
    (tmp_path / "config.toml").write_text(
        "prepare.source = { kind = 'mixture', parts = { a = { kind = 'csv_text' }, b = { kind = 'text_file' } } }\n"
    )
    with pytest.raises(UnnamedFilesError) as caught:
        load(str(tmp_path))
    assert caught.value.problems[-1] == (
        "Type behind the command: --set prepare.source.parts.a.path=FILE --set prepare.source.parts.b.path=FILE"
    )
    assert load_without_files(str(tmp_path))[1] == ("prepare.source.parts.a.path", "prepare.source.parts.b.path")


def test_load_what_else_is_wrong_is_told_beside_a_missing_file() -> None:
    """All problems at once, one line each; also of those that show only when the file is there."""
    with pytest.raises(ConfigError) as caught:
        load("got_char", sets=["train.max_steps=0"])
    assert "prepare.source.path is missing; it takes a path; set it" in str(caught.value)
    assert "train.max_steps cannot be 0" in str(caught.value)


@pytest.mark.parametrize("group", group_names())
def test_load_every_group_works_in_every_shipped_experiment(group: str) -> None:
    """A group sets what it says, alone."""
    # bundestag_char has rows of its own: a group that sets nothing else is refused beside it.
    with_rows = () if group.startswith("batch/") else ("bundestag_char",)
    for name in ("python_stdlib", "shakespeare", *with_rows, "got_char", "got_s1_subword"):
        file = [] if name in ("python_stdlib", "shakespeare") else ["prepare.source.path=FILE"]
        # A group that keeps a mean of the weights itself is refused beside an experiment's own, which says so.
        loaded = load(name, sets=[f"use={group}", "schedule.warmup_steps=1", "train.ema_decay=0", *file])
        assert any(origin.layer == f"group {group}" for origins in loaded.origins.values() for origin in origins)
    assert (PRESETS / f"{group}.toml").is_file()


@pytest.mark.parametrize(
    ("setting", "name"), [("prepare.profile={kind='plain_sft'}", "profile"), ("prepare.chat.user_weight=1", "chat")]
)
def test_load_what_is_for_chats_is_refused_where_a_source_gives_none(setting: str, name: str) -> None:
    """A setting without effect would be a lie."""
    with pytest.raises(
        ConfigError, match=rf"{name} has no effect, for source.kind = 'python_stdlib' gives text and no chats"
    ):
        load("python_stdlib", sets=[setting])
