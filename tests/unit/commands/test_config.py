"""`mlp config`: what each command prints, and what it refuses."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ml_playground.cli import main
from ml_playground.commands.config import check, diff, explain, job_of, schema, show
from ml_playground.configuration.families import SOURCES
from ml_playground.configuration.loading import SHIPPED, load
from ml_playground.core.error_handling import ConfigError, PlaygroundError

Capture = pytest.CaptureFixture[str]


def printed(capsys: Capture, command: Any, *args: Any, **options: Any) -> str:
    """What a command prints."""
    command(*args, **options)
    return capsys.readouterr().out


def run_folder(home: Path, experiment: str, **changes: Any) -> Path:
    """A run that recorded its job."""
    folder = home / "runs" / experiment / "20261122-063401-1f3a"
    folder.mkdir(parents=True)
    job = load(experiment, sets=[f"{key}={value}" for key, value in changes.items()]).job
    (folder / "config.json").write_text(job.model_dump_json())
    return folder


def test_show_text_names_the_origin_of_every_line(capsys: Capture) -> None:
    """Value first, origin as a comment."""
    lines = printed(capsys, show, "shakespeare", ["seed=3"]).splitlines()
    assert lines[1] == "seed = 3                                     # --set"
    assert "[prepare.source]" in lines
    assert all("#" in line for line in lines if line and not line.startswith("["))
    assert "# weights = none                             # class default" in lines
    assert 'n_inner = "none"                             # class default' in lines


def test_show_text_is_toml_that_gives_the_same_job(capsys: Capture, tmp_path: Path) -> None:
    """What is shown can be kept as a file."""
    sets = ["train.max_epochs=2", 'hooks."a.b".kind=status', 'sample.stop=["\\u007f\\n\\"é\\\\"]']
    (tmp_path / "config.toml").write_text(printed(capsys, show, "shakespeare", sets))
    assert load(str(tmp_path)).job == load("shakespeare", sets=sets).job


def test_show_without_hooks_is_toml_too(capsys: Capture, tmp_path: Path) -> None:
    """An empty table is printed as one."""
    job = load("shakespeare").job.model_copy(update={"hooks": {}})
    (tmp_path / "config.json").write_text(job.model_dump_json())
    assert job_of(str(tmp_path)).hooks == {}


def test_show_json_holds_job_origins_and_hash(capsys: Capture) -> None:
    """One object for programs."""
    shown = json.loads(printed(capsys, show, "shakespeare", ["seed=3"], json_output=True))
    assert shown["job"] == load("shakespeare", sets=["seed=3"]).job.model_dump(mode="json")
    assert shown["origins"]["seed"] == "--set"
    assert shown["folder"] == str(SHIPPED / "shakespeare")
    assert len(shown["config_hash"]) == 16


def test_show_files_are_laid_over(capsys: Capture) -> None:
    """--config reaches the command."""
    overlay = SHIPPED / "shakespeare" / "test_config.toml"
    assert "max_steps = 20 " in printed(capsys, show, "shakespeare", None, [overlay])


def test_explain_key_tells_meaning_and_the_whole_chain(capsys: Capture) -> None:
    """Who set it, who was overruled."""
    text = printed(capsys, explain, "train.max_steps", "shakespeare", ["train.max_epochs=2"])
    assert text.splitlines()[:4] == [
        "train.max_steps = none",
        "  Optimizer updates in all. Exactly one of max_steps and max_epochs.",
        "",
        "  takes    a whole number of at least 1, or none",
    ]
    assert text.count("2000") == 1
    assert text.count("1000") == 1
    assert text.splitlines()[-1].split("  ")[2] == "--set"
    assert text.endswith("none: an alternative to it was chosen\n")


def test_explain_dropped_key_says_by_what(capsys: Capture) -> None:
    """Another kind takes its table along."""
    text = printed(capsys, explain, "optimizer.lr", None, ["optimizer.kind=muon"])
    assert "dropped: another kind was chosen" in text
    assert text.startswith("optimizer.lr = 0.001\n")


def test_explain_path_shows_the_absolute_value(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As written in the chain, as used in the first line."""
    monkeypatch.chdir(tmp_path)
    sets = ["prepare.source.kind=text_file", "prepare.source.path=a.txt"]
    text = printed(capsys, explain, "prepare.source.path", "shakespeare", sets)
    assert text.startswith(f'prepare.source.path = "{tmp_path}/a.txt"\n')
    assert '--set  "a.txt"' in text
    assert "default  none of its own: it must be set" in text


def test_explain_key_that_must_be_set_and_is_not_has_no_value(capsys: Capture) -> None:
    """Neither value nor history: nothing is made up."""
    shown = json.loads(printed(capsys, explain, "name", json_output=True))
    assert "value" not in shown
    assert "default" not in shown
    assert shown["chain"] == []
    assert "set by" not in printed(capsys, explain, "name")


def test_explain_unset_key_shows_its_default(capsys: Capture) -> None:
    """Nobody set it: the class default is the whole story."""
    shown = json.loads(printed(capsys, explain, "optimizer.eps", json_output=True))
    assert (shown["value"], shown["default"], [step["layer"] for step in shown["chain"]]) == (
        1e-8,
        1e-8,
        ["class default"],
    )


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("train", "max_steps               Optimizer updates in all."),
        ("optimizer", "Adam with decoupled weight decay on matrices only."),
        ("hooks", "console  Progress on the terminal"),
        ("hooks.status", "every_seconds  Shortest time between two writes."),
        ("prepare.source", f"takes    a table with a kind ({', '.join(sorted(SOURCES))})"),
        ("checkpointing", "When to save and what to keep."),
        ("hooks.'status'.kind", 'hooks.status.kind = "status"'),
    ],
)
def test_explain_section_shows_its_keys(capsys: Capture, key: str, expected: str) -> None:
    """A table is explained by what may stand in it."""
    assert expected in printed(capsys, explain, key)


def test_explain_key_of_another_kind_names_the_kind(capsys: Capture) -> None:
    """It is a setting, but has no effect with the kind that is chosen."""
    text = printed(capsys, explain, "optimizer.matrix_lr")
    assert "only of  kind muon, which is not chosen here" in text
    assert printed(capsys, explain, "prepare.source.path").startswith("prepare.source.path\n  A file")


def test_explain_wrong_table_in_a_layer_still_answers(capsys: Capture) -> None:
    """One asks because something is wrong."""
    assert "kinds" in printed(capsys, explain, "hooks", None, ["hooks.x=3"], json_output=True)
    assert "takes" in printed(capsys, explain, "hooks", None, ["hooks=3"])


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("lr", "no setting 'lr'; did you mean optimizer.lr? (sections: name, seed, use, plugins, prepare, data"),
        ("train.max_step", "no setting 'train.max_step'; did you mean 'train.max_steps'?"),
        ("trian", "no setting 'trian'; did you mean 'train'?"),
        ("hooks.nope", "no setting 'hooks.nope'"),
        ("hooks.nope.every_steps", " or hooks.samples.every_steps?"),
        ("seed.x", "no setting 'seed.x'"),
        ("prepare.source.lr", "no setting 'prepare.source.lr'; did you mean optimizer.lr?"),
        ("", "no setting ''"),
        ("...", "no setting '...'"),
    ],
)
def test_explain_unknown_key_is_answered_with_the_nearest(key: str, message: str) -> None:
    """Like every unknown key."""
    with pytest.raises(ConfigError) as caught:
        explain(key)
    assert message in str(caught.value)


def test_diff_experiments_lists_each_key_that_differs(capsys: Capture) -> None:
    """Left and right, `-` where a side has no such key."""
    text = printed(capsys, diff, "shakespeare", "python_stdlib")
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines()}
    assert rows["key"] == ["shakespeare", "python_stdlib"]
    assert rows["prepare.tokenizer.kind"] == ['"char"', '"byte_bpe"']
    assert rows["prepare.source.max_files"] == ["-", rows["prepare.source.max_files"][1]]
    assert "seed" not in rows


def test_diff_equal_jobs_says_so(capsys: Capture) -> None:
    """An empty output would leave one wondering."""
    assert printed(capsys, diff, "shakespeare", "shakespeare") == "equal\n"


def test_diff_json_is_one_object(capsys: Capture, home: Path) -> None:
    """A run against its experiment: what was changed on the command line."""
    folder = run_folder(home, "shakespeare", seed=3)
    shown = json.loads(printed(capsys, diff, "shakespeare", str(folder), json_output=True))
    assert shown["differences"] == [{"key": "seed", "left": 1337, "right": 3}]
    assert shown["right"] == str(folder)


def test_job_of_run_by_id_folder_and_file_is_the_recorded_one(home: Path) -> None:
    """Three ways to name a run."""
    folder = run_folder(home, "shakespeare", seed=3)
    for target in (str(folder), "shakespeare/20261122-063401-1f3a", "20261122", str(folder / "config.json")):
        assert job_of(target).seed == 3
    assert job_of("shakespeare").seed == 1337


def test_job_of_file_and_folder_is_what_they_say(tmp_path: Path) -> None:
    """A file is laid over the experiment beside it; a folder is an experiment."""
    overlay = SHIPPED / "shakespeare" / "test_config.toml"
    assert job_of(str(overlay)).train.max_steps == 20
    assert job_of(str(SHIPPED / "shakespeare")).train.max_steps == 2000


@pytest.mark.parametrize("with_run", [False, True])
def test_job_of_unknown_target_is_refused(home: Path, with_run: bool) -> None:
    """With what there is instead."""
    if with_run:
        run_folder(home, "shakespeare")
    expected = (
        r"no run answers to 'nope'"
        if with_run
        else r"'nope' is no experiment, file or run \(experiments: .*python_stdlib"
    )
    with pytest.raises(PlaygroundError, match=expected):
        job_of("nope")


def test_check_valid_settings_says_ok(capsys: Capture, tmp_path: Path) -> None:
    """An experiment, a folder or a file."""
    assert printed(capsys, check, "shakespeare").startswith("ok: shakespeare, ")
    assert json.loads(printed(capsys, check, "shakespeare", json_output=True))["ok"] is True
    (tmp_path / "mine.yaml").write_text("prepare: {source: {kind: python_stdlib}}\noptimizer: {lr: 1e-3}\n")
    assert printed(capsys, check, str(tmp_path / "mine.yaml")).startswith("ok: mine, ")


def test_check_names_the_files_that_an_experiment_leaves_to_its_user(capsys: Capture) -> None:
    """All else is right, and a hash there is only of a whole job."""
    assert printed(capsys, check, "got_char") == "ok: got_char, but for what only you have: prepare.source.path\n"
    expected = {"ok": True, "config_hash": None, "needs": ["prepare.source.path"]}
    assert json.loads(printed(capsys, check, "got_char", json_output=True)) == expected


def test_check_and_diff_leave_the_environment_out(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An experiment by name, its folder and its file are one thing, whatever the shell has set."""
    config = tmp_path / "demo" / "config.toml"
    config.parent.mkdir()
    config.write_text("[prepare.source]\nkind = 'python_stdlib'\n")
    monkeypatch.setenv("ML_PLAYGROUND_OVERRIDES", '{"seed": 5, "nonsense": 1}')
    targets = (str(config), str(config.parent))
    shown = [json.loads(printed(capsys, check, target, json_output=True)) for target in targets]
    assert shown[0] == shown[1]
    assert printed(capsys, diff, *targets) == "equal\n"
    assert job_of("shakespeare").seed == 1337
    assert printed(capsys, check, "shakespeare").startswith("ok: shakespeare")


def test_check_takes_what_a_job_takes(capsys: Capture, tmp_path: Path) -> None:
    """`--set` and `--config` lie over an experiment or a file, and what they name wrongly is found."""
    file = tmp_path / "mine.toml"
    file.write_text("prepare.source.kind = 'python_stdlib'\n")
    over = tmp_path / "over.toml"
    over.write_text("seed = 5\n")
    for target in ("shakespeare", str(file)):
        plain = printed(capsys, check, target)
        laid = printed(capsys, check, target, files=[over])
        assert laid.startswith("ok: ")
        assert laid != plain
        assert laid == printed(capsys, check, target, sets=["seed=5"])
        with pytest.raises(PlaygroundError, match=r"train\.max_steps"):
            check(target, sets=["train.max_steps=-1"])
    assert printed(capsys, check, "got_char", sets=[f"prepare.source.path={file}"]).startswith("ok: got_char, ")
    assert main(["config", "check", str(file), "--set", "seed=5", "--config", str(over)]) == 0


def test_check_all_problems_are_listed_with_their_lines(tmp_path: Path) -> None:
    """One pass over the file mends it."""
    (tmp_path / "mine.toml").write_text(
        "seed = -1\n[prepare]\nsource = { kind = 'python_stdlib' }\n[train]\nmax_step = 3\n"
    )
    with pytest.raises(ConfigError) as caught:
        check(str(tmp_path / "mine.toml"))
    lines = str(caught.value).splitlines()
    assert [f"mine.toml, line {number}: " in line for number, line in zip((1, 5), lines, strict=True)] == [True, True]


def test_schema_is_printed_as_json(capsys: Capture) -> None:
    """For editors."""
    assert json.loads(printed(capsys, schema))["$schema"].startswith("https://json-schema.org/")


def test_config_through_the_command_tree_ends_with_its_exit_code(capsys: Capture) -> None:
    """Options arrive; errors are one message and 2."""
    assert main(["config", "show", "shakespeare", "--set", "seed=5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["job"]["seed"] == 5
    assert main(["config", "explain", "optimizer.lr", "shakespeare", "--set", "optimizer.lr=5"]) == 0
    assert capsys.readouterr().out.startswith("optimizer.lr = 5")
    assert main(["config", "check", "shakespear"]) == 2
    assert "did you mean 'shakespeare'" in capsys.readouterr().err
    assert main(["config", "show", "shakespeare", "--config", "gone.toml"]) == 2
    assert "gone.toml: no such file" in capsys.readouterr().err


def test_show_piped_into_a_reader_that_leaves_is_quiet() -> None:
    """`mlp config show x | head -1`."""
    command = f"{sys.executable} -m ml_playground.cli config show shakespeare | head -1"
    result = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("name = ")
