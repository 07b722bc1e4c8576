"""What starts in a blink must load little; what needs no torch must not load it."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from ml_playground.commands.table import COMMANDS, Group, Row
from tests.architecture.source import PACKAGE, sources

HEAVY = {"torch", "transformers", "tokenizers", "safetensors", "datasets", "peft"}
HEAVY_AND_MODELS = HEAVY | {"pydantic", "numpy", "rich", "tomlkit", "yaml"}

# What a training of characters has no use for: torch's compiler, 2 s; other tokenizers; what reads YAML and writes TOML.
NOT_FOR_TRAINING = {
    "torch._dynamo",
    "torch._inductor",
    "torch.distributed.fsdp",
    "torch.utils.tensorboard",
    "sympy",
    "transformers",
    "peft",
    "datasets",
    "tokenizers",
    "tomlkit",
    "yaml",
}

# Modules that a command loads, without torch's own, which change with its version: a third more than when this was written.
MOST_MODULES = {"--help": 200, "config show python_stdlib": 400, "runs": 400, "train": 850}

ASK = """
import contextlib, io, json, sys
from ml_playground.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    code = main(sys.argv[1:])
json.dump([code, sorted(sys.modules)], sys.stdout)
"""


def loaded_by(*args: str, home: Path | None = None) -> tuple[int, set[str]]:
    """Exit code and loaded modules of one command line, in a process of its own."""
    # What measures the coverage of these tests would load modules of its own into each child.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    environment |= {} if home is None else {"MLP_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", ASK, *args], capture_output=True, text=True, check=True, timeout=600, env=environment
    )
    code, modules = json.loads(done.stdout)
    return code, set(modules)


def few(modules: set[str]) -> int:
    """How many modules that are not torch's."""
    return sum(name.partition(".")[0] != "torch" for name in modules)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Modules that a whole training has loaded: steps, an evaluation, a sample, a checkpoint."""
    home = tmp_path_factory.mktemp("home")
    (home / "text.txt").write_text("to be or not to be, that is the question\n" * 200)
    values = [
        f"prepare.source={{kind='text_file', path='{home / 'text.txt'}'}}",
        "prepare.tokenizer={kind='char'}",
        "prepare.split_by=position",
        "data.sequence_tokens=16",
        "model={kind='gpt', n_layer=1, n_head=1, n_embd=16}",
        "schedule.warmup_steps=0",
        "train.max_steps=2",
        "hooks.samples={kind='samples', prompt='to', every_steps=1}",
    ]
    words = ["python_stdlib", *(word for value in values for word in ("--set", value))]
    assert loaded_by("prepare", *words, home=home)[0] == 0
    code, modules = loaded_by("train", *words, home=home)
    assert code == 0
    return modules


def test_training_loads_nothing_that_it_has_no_use_for(trained: set[str]) -> None:
    """The first step waits for every import before it; torch's compiler alone takes longer than torch."""
    assert "torch" in trained
    assert {name for name in trained if name in NOT_FOR_TRAINING} == set()


def test_training_loads_few_modules(trained: set[str]) -> None:
    """A count, not seconds: whoever adds a library to the start learns of it here."""
    assert few(trained) <= MOST_MODULES["train"]


@pytest.mark.parametrize("line", sorted(MOST_MODULES.keys() - {"train"}))
def test_light_command_loads_few_modules(line: str, tmp_path: Path) -> None:
    """The same for what must answer at once."""
    assert few(loaded_by(*line.split(), home=tmp_path)[1]) <= MOST_MODULES[line]


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
    assert modules & (HEAVY | {"urllib.request"}) == set()


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
        timeout=600,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: mlp {line} ")


def test_help_takes_less_than_three_tenths_of_processor_time() -> None:
    """Processor time, the best of a few: what other programs do meanwhile does not count."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    seconds: list[float] = []
    while len(seconds) < 10 and min(seconds, default=1.0) >= 0.3:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-m", "ml_playground.cli", "--help"],
            capture_output=True,
            check=True,
            timeout=600,
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
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/", timeout=600
    )
    file, folders = json.loads(done.stdout)
    assert file is None
    assert [Path(folder) for folder in folders] == [PACKAGE]


def test_no_folder_is_named_like_a_library() -> None:
    """A file run by its path puts its folder first on the search path."""
    names = {source.path.stem for source in sources() if source.path.parent in {PACKAGE, PACKAGE / "core"}}
    names |= {folder.name for folder in PACKAGE.iterdir()}
    assert names.isdisjoint(sys.stdlib_module_names)
    assert names.isdisjoint({"tokenizers", "datasets", "torch", "numpy", "rich", "typer"})
