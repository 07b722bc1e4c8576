"""What starts in a blink must load little; what needs no torch must not load it."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from ml_playground.cli import COMMANDS, Group, Row
from tests.architecture.source import PACKAGE, sources

HEAVY = {"torch", "transformers", "tokenizers", "safetensors", "datasets", "peft"}
HEAVY_AND_MODELS = HEAVY | {"pydantic", "numpy", "rich", "tomlkit", "yaml"}

ASK = """
import contextlib, io, json, sys
from ml_playground.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    code = main(sys.argv[1:])
json.dump([code, sorted(sys.modules)], sys.stdout)
"""


def loaded_by(*args: str) -> tuple[int, set[str]]:
    """Exit code and loaded modules of one command line, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", ASK, *args], capture_output=True, text=True, check=True, timeout=120)
    code, modules = json.loads(done.stdout)
    return code, set(modules)


@pytest.mark.parametrize("line", ["--help", "--version", "config --help", "trian"])
def test_help_loads_neither_torch_nor_pydantic(line: str) -> None:
    """Looking around costs nothing."""
    _, modules = loaded_by(*line.split())
    assert modules & HEAVY_AND_MODELS == set()


@pytest.mark.parametrize(
    "line",
    [
        "config show python_stdlib",
        "config check python_stdlib",
        "config explain optimizer.lr python_stdlib",
        "config schema",
        "experiments",
        "runs",
    ],
)
def test_light_command_loads_no_torch(line: str) -> None:
    """Looking at settings and runs must not wait for PyTorch, nor need it."""
    code, modules = loaded_by(*line.split())
    assert code == 0
    assert modules & HEAVY == set()


@pytest.mark.parametrize(
    "line",
    [
        *(name for rows in COMMANDS.values() for name, row in rows.items() if isinstance(row, Row)),
        *(
            f"{name} {leaf}"
            for rows in COMMANDS.values()
            for name, row in rows.items()
            if isinstance(row, Group)
            for leaf in row.rows
        ),
    ],
)
def test_every_command_explains_itself(line: str) -> None:
    """Each row of the tree leads to a function whose help can be shown."""
    done = subprocess.run(
        [sys.executable, "-m", "ml_playground.cli", *line.split(), "--help"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: mlp {line} ")


def test_help_takes_less_than_three_tenths_of_processor_time() -> None:
    """Processor time, the best of three: what other programs do meanwhile does not count."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    seconds: list[float] = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "ml_playground.cli", "--help"],
            capture_output=True,
            check=True,
            timeout=60,
            env=environment,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 0.3


def test_package_is_a_namespace_of_one_folder() -> None:
    """A marker file, or a second folder of the same name, would mix or hide modules."""
    code = (
        "import json, ml_playground, sys; json.dump([ml_playground.__file__, list(ml_playground.__path__)], sys.stdout)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/", timeout=60)
    file, folders = json.loads(done.stdout)
    assert file is None
    assert [Path(folder) for folder in folders] == [PACKAGE]


def test_no_folder_is_named_like_a_library() -> None:
    """A file run by its path puts its folder first on the search path."""
    names = {source.path.stem for source in sources() if source.path.parent in {PACKAGE, PACKAGE / "core"}}
    names |= {folder.name for folder in PACKAGE.iterdir()}
    assert names.isdisjoint(sys.stdlib_module_names)
    assert names.isdisjoint({"tokenizers", "datasets", "torch", "numpy", "rich", "typer"})
