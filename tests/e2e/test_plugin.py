"""The example of a plugin, installed into an environment of its own: found, explained, trained, resumed, sampled, and refused in words."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "plugin"
EXPERIMENT = str(EXAMPLE / "experiment")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a clean environment with the plugin in it; everything else is read from that of the tests."""
    folder = tmp_path_factory.mktemp("plugin")
    # Whatever lies beside the sources of a checkout must not be part of the wheel.
    shutil.copytree(EXAMPLE, folder / "source", ignore=shutil.ignore_patterns("__pycache__", "dist", ".*"))
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder / "dist")]
    subprocess.run(build, cwd=folder / "source", capture_output=True, check=True, timeout=600)
    (wheel,) = (folder / "dist").glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True, timeout=600)
    found = folder / "venv" / "bin" / "python"
    install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--offline", "--no-deps", "--python", found]
    subprocess.run([*install, wheel], check=True, timeout=600)
    (site,) = folder.glob("venv/lib/python*/site-packages")
    (site / "others.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n{ROOT / 'src'}\n")
    return found


def mlp(python: Path, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """One command line, far away from the checkout."""
    return subprocess.run(
        [python, "-m", "ml_playground.cli", *words],
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env=os.environ | {"MLP_HOME": str(home)},
    )


@pytest.fixture(scope="module")
def trained(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a run of 10 steps in it."""
    home = tmp_path_factory.mktemp("home")
    for words in (["prepare"], ["train", "--set", "train.max_steps=10"]):
        done = mlp(python, home, words[0], EXPERIMENT, *words[1:])
        assert done.returncode == 0, done.stderr
    return home


def test_plugin_keeps_its_own_laws(python: Path, tmp_path: Path) -> None:
    """Its tests pass where it is installed."""
    command = [python, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "-c", "/dev/null"]
    done = subprocess.run(
        [*command, "--rootdir", EXAMPLE, EXAMPLE / "tests"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_plugin_experiment_is_checked_and_its_kinds_are_explained_without_torch(python: Path, tmp_path: Path) -> None:
    """A plugin answers as quickly as what is shipped, and says whose it is."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from ml_playground.cli import main\n"
        f"assert main(['config', 'check', {EXPERIMENT!r}]) == 0\n"
        f"sys.exit(main(['config', 'explain', 'model', {EXPERIMENT!r}]))\n"
    )
    done = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ok: dice, ")
    assert "bigram (of ml-playground-dice 0.1.0)" in done.stdout
    assert "of       ml-playground-dice 0.1.0 (entry point ml_playground.model: bigram = " in done.stdout
    assert "init_std  Standard deviation of the logits at the start." in done.stdout


def test_plugin_is_listed_by_doctor(python: Path, tmp_path: Path) -> None:
    """With every kind that it brings."""
    code = "from ml_playground.commands.doctor_plugins import plugins; print(*plugins(), sep='\\n')"
    done = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    (line,) = done.stdout.splitlines()
    assert line.startswith("Finding(level='ok', subject='plugin ml-playground-dice 0.1.0', text='")
    assert {"source loaded_dice", "model bigram", "hook goal"} == set(line.split("text='")[1].split("'")[0].split(", "))


def test_plugin_run_goes_on_reaches_its_goal_and_is_sampled(python: Path, trained: Path) -> None:
    """The recorded job finds the plugin's kinds again: on resume, in an evaluation, and for sampling."""
    (run,) = (trained / "runs" / "dice").iterdir()
    assert json.loads((run / "config.json").read_text())["plugins"] == ["ml-playground-dice"]
    resumed = mlp(python, trained, "train", EXPERIMENT, "--resume", str(run), "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["reason"] == "stopped_early"
    evaluated = mlp(python, trained, "evaluate", str(run), "--json")
    assert evaluated.returncode == 0, evaluated.stderr
    sampled = mlp(
        python, trained, "sample", str(run), "--set", "sample.prompts=1", "--set", "sample.max_new_tokens=200"
    )
    assert sampled.returncode == 0, sampled.stderr
    assert set(sampled.stdout.split()[-1]) <= set("123456\ufffd")


def test_plugin_absent_is_asked_for_by_name(trained: Path) -> None:
    """Where it is not installed, its experiment and its run say which package is missing; everything else works."""
    home_python = Path(sys.executable)
    (run,) = (trained / "runs" / "dice").iterdir()
    message = "plugins names the package 'ml-playground-dice', which is not installed here; install it from where its author gives it."
    for words in (["config", "check", EXPERIMENT], ["sample", str(run)]):
        done = mlp(home_python, trained, *words)
        assert done.returncode == 2
        assert message in done.stderr
    assert mlp(home_python, trained, "config", "check", "python_stdlib").returncode == 0
