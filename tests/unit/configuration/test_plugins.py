"""`plugins` of a job: files that bring kinds, packages that must be there, and who may have a file run."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ml_playground.cli import main
from ml_playground.configuration.loading import load, load_file, read_job
from ml_playground.configuration.plugins import bring, brought
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.run_folder import RunFolder
from ml_playground.training.resume import read_job as read_run

PLUGIN = """
from pathlib import Path
from typing import Literal
from ml_playground.configuration.base import Component
from ml_playground.core.registry import Kind

Path(__file__).with_name("was_run").touch()

class Own(Component):
    \"\"\"As it is.\"\"\"
    kind: Literal["NAME"] = "NAME"
    \"\"\"Flat.\"\"\"

KINDS = {"schedule": {"NAME": Kind(f"{__file__}:Own", f"{__file__}:build")}}
"""


def experiment(folder: Path, kind: str, text: str = PLUGIN, named: str = '"plugin.py"') -> str:
    """A folder with an experiment whose schedule is of a kind that its plugin brings."""
    folder.mkdir(parents=True)
    (folder / "plugin.py").write_text(text.replace("NAME", kind))
    (folder / "config.toml").write_text(
        f"plugins = [{named}]\n"
        f'prepare.source.kind = "python_stdlib"\nprepare.tokenizer.kind = "char"\n'
        f'data = {{ kind = "token_windows", sequence_tokens = 8, micro_batch_rows = 2 }}\nmodel.kind = "gpt"\n'
        f'train.max_steps = 2\noptimizer.kind = "adamw"\nschedule.kind = "{kind}"\n'
    )
    return str(folder)


def test_plugin_file_is_found_beside_the_experiment_and_recorded_by_its_path(home: Path, tmp_path: Path) -> None:
    """A run lies elsewhere than its experiment, and must find the file again."""
    loaded = load(experiment(tmp_path / "mine", "own_one"), environ={}, cwd=tmp_path)
    assert loaded.job.schedule.kind_name == "own_one"
    assert loaded.job.plugins == (str(tmp_path / "mine" / "plugin.py"),)
    record = tmp_path / "config.json"
    record.write_text(loaded.job.model_dump_json())
    assert read_job(record) == loaded.job


@pytest.mark.parametrize("turn", [1, 2])
def test_kind_that_a_test_brings_is_gone_with_it(turn: int, tmp_path: Path) -> None:
    """The second brings one of the same name from elsewhere."""
    assert load(experiment(tmp_path / "mine", "own_again"), environ={}).job.schedule.kind_name == "own_again"


def test_recorded_plugin_that_nobody_here_named_is_not_run(home: Path, tmp_path: Path) -> None:
    """Whoever reads a run that a stranger sent must not obey it; an experiment is named on purpose."""
    folder = experiment(tmp_path / "theirs", "own_two")
    job = load("python_stdlib", environ={}).job.model_dump(mode="json")
    record = tmp_path / "config.json"
    plugin = tmp_path / "theirs" / "plugin.py"
    text = json.dumps(job | {"plugins": [str(plugin)], "schedule": {"kind": "own_two"}})
    record.write_text(text)
    with pytest.raises(ConfigError, match=r"names the file .*plugin.py, which no experiment has used here, so it is"):
        read_job(record)
    assert not plugin.with_name("was_run").exists()
    load(folder, environ={})
    assert plugin.with_name("was_run").exists()
    assert read_job(record).schedule.kind_name == "own_two"


@pytest.mark.parametrize(
    ("plugin", "said"),
    [
        (
            "no-such-package",
            "plugins names the package 'no-such-package', which is not installed here; install it from where its author gives it. (A",
        ),
        (
            "/gone/plugin.py",
            "plugins names the file /gone/plugin.py, which is not here. Bring it there, read it, and: mlp config check EXPERIMENT,",
        ),
        ("plugin", "plugins names the package 'plugin', which is not installed here; install it from where its"),
        # What may not be looked for, as in the home of somebody else, answers in the same way; root may look everywhere.
        (f"/{'long' * 75}/plugin.py", "/plugin.py, which is not here. Bring it there, read it, and: mlp config check"),
    ],
)
def test_run_whose_plugin_is_not_here_is_named_with_the_kinds_that_are_missed(
    plugin: str, said: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody knows where a plugin can be had by its name alone: no command is made up that would install somebody else's package."""
    table = load("python_stdlib", environ={}).job.model_dump(mode="json")
    run = home / "runs" / "theirs" / "20260101-000000-abcd"
    run.mkdir(parents=True)
    table |= {"plugins": [plugin], "schedule": {"kind": "own_seven"}, "hooks": {"goal": {"kind": "their_goal"}}}
    (run / "config.json").write_text(json.dumps(table))
    assert main(["config", "diff", "python_stdlib", str(run)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: recorded job {run / 'config.json'}")
    assert said in told
    assert told.endswith(" Nothing else here knows schedule.kind = 'own_seven' and hooks.goal.kind = 'their_goal'.\n")
    assert "pip" not in told
    with pytest.raises(
        ConfigError, match=r"^recorded job .*/20260101-000000-abcd/config.json: plugins names .* knows schedule.kind"
    ):
        read_run(RunFolder(run))


def test_run_whose_plugin_is_not_here_is_named_also_where_its_settings_are_deeper_than_ours(home: Path) -> None:
    """The plugin's own settings may be: without it nobody knows, and it is what is missing."""
    table = load("python_stdlib", environ={}).job.model_dump(mode="json")
    deep: Any = 1
    for _ in range(60):
        deep = [deep]
    run = home / "runs" / "theirs" / "20260101-000000-abcd"
    run.mkdir(parents=True)
    table |= {"plugins": ["no-such-package"], "hooks": {"goal": {"kind": "their_goal", "deep": deep}}}
    (run / "config.json").write_text(json.dumps(table))
    with pytest.raises(
        ConfigError, match=r"not installed here; .* Nothing else here knows hooks\.goal\.kind = 'their_goal'"
    ):
        read_run(RunFolder(run))


def test_recorded_plugin_is_not_run_where_its_file_is_named_as_a_layer(home: Path, tmp_path: Path) -> None:
    """`mlp config check RUN/config.json` and `--config RUN/config.json` read what a stranger may have sent."""
    experiment(tmp_path / "theirs", "own_four")
    job = load("python_stdlib", environ={}).job.model_dump(mode="json")
    record = tmp_path / "config.json"
    plugin = tmp_path / "theirs" / "plugin.py"
    record.write_text(json.dumps(job | {"plugins": [str(plugin)], "schedule": {"kind": "own_four"}}))
    for read in (partial(load_file, record), partial(load, "python_stdlib", files=[record], environ={})):
        with pytest.raises(ConfigError, match="which no experiment has used here, so it is not run"):
            read()
    assert not plugin.with_name("was_run").exists()
    load(str(tmp_path / "theirs"), environ={})
    assert load_file(record).job.schedule.kind_name == "own_four"


def test_group_brings_a_plugin_beside_it(home: Path, tmp_path: Path) -> None:
    """A group of an experiment's own names files from its own folder."""
    folder = tmp_path / "mine"
    experiment(folder, "own_six", named='"plugin.py"')
    group = folder / "presets" / "schedule"
    group.mkdir(parents=True)
    (group / "own.toml").write_text('plugins = ["../../plugin.py"]\n')
    config = folder / "config.toml"
    config.write_text(config.read_text().replace('plugins = ["plugin.py"]', 'use = ["schedule/own"]'))
    assert load(str(folder), environ={}).job.schedule.kind_name == "own_six"


def test_plugins_named_at_once_are_all_known(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts two experiments together finds the runs of both; half a file is never read."""
    files = [
        str(Path(experiment(tmp_path / f"mine_{number}", f"at_once_{number}")) / "plugin.py") for number in range(8)
    ]
    for file in files:
        bring([file])
    monkeypatch.setenv("MLP_HOME", str(tmp_path / "another"))
    with ThreadPoolExecutor(len(files)) as pool:
        list(pool.map(lambda file: bring([file]), files))
    assert brought(tuple(files)) == tuple(files)


def test_plugin_that_prints_leaves_the_answer_of_a_command_alone(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--json` is read by programs."""
    load(experiment(tmp_path / "mine", "own_five", f"print('loaded')\n{PLUGIN}"), environ={})
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "loaded\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import sys\nsys.exit(0)", "plugin.py does not load: it ends the program."),
        ("1 / 0", "plugin.py does not load: ZeroDivisionError: division by zero"),
        ("", "plugin.py has no 'KINDS'."),
        ("KINDS = 3", "KINDS is a table of families, each a table of kinds, but has ''"),
        ("KINDS = {'modle': {}}", "but has 'modle'; did you mean 'model'? (families: source, "),
        ("KINDS = {'model': {'mine': 'a:b'}}", "KINDS['model']['mine'] is a str, not a Kind."),
        (
            "from ml_playground.core.registry import Kind\nKINDS = {'model': {'gpt': Kind('a:b', 'a:c')}}",
            "plugin.py brings the model kind 'gpt', which is one of ml-playground's own; give it another name.",
        ),
    ],
)
def test_plugin_file_that_is_broken_is_one_message(home: Path, tmp_path: Path, text: str, message: str) -> None:
    """Which file, and what is wrong with it."""
    with pytest.raises(ConfigError) as caught:
        load(experiment(tmp_path / "mine", "warmup_cosine", text), environ={})
    assert message in str(caught.value)
    assert str(tmp_path / "mine" / "plugin.py") in str(caught.value)


def test_plugin_file_that_is_missing_is_named(home: Path, tmp_path: Path) -> None:
    """By its path, as it was looked for."""
    with pytest.raises(
        ConfigError, match=r"plugins names .*/gone.py, which cannot be used: there is no file .*/gone.py"
    ):
        load(experiment(tmp_path / "mine", "warmup_cosine", named='"gone.py"'), environ={})


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (
            '"no-such-package"',
            "plugins names the package 'no-such-package', which is not installed here; install it from where its",
        ),
        (
            '"my plugin; rm -rf"',
            "plugins names 'my plugin; rm -rf', which is no name of a package, nor of a file, which ends in",
        ),
        (
            '"pydantic"',
            "the package 'pydantic', which is installed and brings no kinds: it has no entry point in a group",
        ),
        ("3", "plugins[0] cannot be 3 (allowed: a list, each text that is not empty)"),
    ],
)
def test_plugin_package_that_does_not_help_is_named(home: Path, tmp_path: Path, named: str, message: str) -> None:
    """Before anything is missed by its kind."""
    with pytest.raises(ConfigError) as caught:
        load(experiment(tmp_path / "mine", "warmup_cosine", named=named), environ={})
    assert message in str(caught.value)


def test_kind_of_two_plugin_files_is_refused_by_name(home: Path, tmp_path: Path) -> None:
    """In one job, the second file that claims it is named, and the first."""
    second = tmp_path / "mine" / "second.py"
    folder = experiment(tmp_path / "mine", "own_three", named='"plugin.py", "second.py"')
    second.write_text((tmp_path / "mine" / "plugin.py").read_text())
    with pytest.raises(ConfigError) as caught:
        load(folder, environ={})
    assert str(caught.value) == (
        f"{second} brings the schedule kind 'own_three', which {tmp_path / 'mine' / 'plugin.py'} brings too; "
        "give it another name."
    )


@pytest.mark.parametrize(
    "line", ["--help", "config show python_stdlib", "config check python_stdlib", "experiments", "runs"]
)
def test_commands_that_choose_shipped_kinds_do_not_look_at_installed_packages(line: str, tmp_path: Path) -> None:
    """Reading the metadata of every package takes longer than such a command."""
    code = (
        "import sys; from ml_playground.cli import main; code = main(sys.argv[1:])\n"
        "sys.exit(code or 'ml_playground.core.installed_kinds' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, *line.split()], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0
