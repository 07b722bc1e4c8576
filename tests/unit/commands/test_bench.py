"""`mlp bench` as its user meets it."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from ml_playground.cli import main
from ml_playground.commands.bench import lines, share_of_limit
from ml_playground.core.machine_rates import Rates
from ml_playground.core.values import ModelCost
from ml_playground.planning.memory import MemoryPlan
from ml_playground.training.anatomy import Anatomy
from tests.fakes.tiny_job import TEXT, tiny_job

COST = ModelCost(
    parameters=2_500_000,
    matrix_parameters=2_000_000,
    flops_per_token=10_000_000,
    vocab_size=65,
    sequence_tokens=16,
)
RATES = Rates("cpu", 2, 1e11, 4e11, 5e10, undisturbed=False)
PLAN = MemoryPlan(
    program=0,
    weights=4,
    gradients=4,
    optimizer=8,
    averaged=0,
    copies=2,
    activations=1_000_000,
    working=0,
    logits=0,
    snapshot=12,
)


def anatomy(folder: Path, peak_bytes: int | None = 2_000_000) -> Anatomy:
    """A step of half a second, 1,000 tokens."""
    runtime = {"device": "cpu", "dtype": "bfloat16", "attention": "math", "compile": True, "threads": 2}
    return Anatomy(
        job=tiny_job(folder, runtime=runtime),
        facts={"vocab_size": 65, "sequence_tokens": 16},
        unit="token",
        targets=1000,
        steps=7,
        step_s=0.5,
        first_step_s=12.34,
        parts={"forward": 0.125, "backward": 0.25, "Python, and waiting": 0.125},
        work={"matrix products": 0.5},
        peak_bytes=peak_bytes,
    )


@pytest.fixture
def experiment(tmp_path: Path) -> str:
    """A folder with a config.toml over the tiny text."""
    folder = tmp_path / "bottles"
    folder.mkdir()
    (folder / "text.txt").write_text(TEXT)
    (folder / "config.toml").write_text(
        """
[prepare]
source = { kind = "text_file", path = "text.txt" }
tokenizer = { kind = "char" }
[data]
sequence_tokens = 16
micro_batch_rows = 4
[model]
kind = "gpt"
n_layer = 1
n_head = 2
n_embd = 16
[runtime]
device = "cpu"
dtype = "float32"
compile = false
[schedule]
warmup_steps = 5
[train]
max_steps = 50
"""
    )
    return str(folder)


def test_bench_lines_say_how_many_weights_work_on_a_token(tmp_path: Path) -> None:
    """Experts are stored all and used a few at a time."""
    cost = replace(COST, active_parameters=1_200_000)
    first = next(iter(lines(anatomy(tmp_path), cost, RATES, PLAN)))
    assert first.startswith("tiny: 2.50 M parameters, 1.20 M of them for any one token, on cpu (")


def test_bench_lines_say_speed_limit_memory_and_shares(tmp_path: Path) -> None:
    """Each figure with its unit, and what it is compared with; bars as long as their share."""
    text = "\n".join(lines(anatomy(tmp_path), COST, RATES, PLAN))
    for line in (
        "tiny: 2.50 M parameters on cpu (bfloat16, 2 threads, math attention, compiled)",
        "speed   2.00 k tokens/s: 500 ms for a step of 1,000",
        "        (median of 7; the first took 12.3 s)",
        "limit   5% of 400 GFLOP/s, what large matrix products reach here; a token takes 10.0 MFLOP",
        "        (other programs ran while the limit was measured: the machine can do more)",
        "memory  2.00 MB at most; planned 1.00 MB: activations 1.00 MB, optimizer 8B, weights 4B, gradients 4B, copies 2B",
        "run     30 s for 60 steps, evaluations and checkpoints aside",
        "the parts of a step:",
        "the work in them:",
    ):
        assert line in text.splitlines()
    assert re.search(r"^  forward +25\.0% +125 ms  (.)\1{7}$", text, flags=re.MULTILINE)
    assert re.search(r"^  backward +50\.0% +250 ms  (.)\1{15}$", text, flags=re.MULTILINE)


def test_bench_lines_unknown_peak_is_said(tmp_path: Path) -> None:
    """On macOS nobody can tell the peak of a part of a program."""
    text = "\n".join(lines(anatomy(tmp_path, peak_bytes=None), COST, RATES, PLAN))
    assert "memory  unknown here; planned" in text


def test_bench_lines_kind_that_nobody_can_plan_is_named(tmp_path: Path) -> None:
    """No plan is better than a wrong one."""
    text = "\n".join(lines(anatomy(tmp_path), COST, RATES, None))
    assert "memory  2.00 MB at most; not planned for models of kind gpt" in text.splitlines()


def test_share_of_limit_is_that_of_the_precision_in_use(tmp_path: Path) -> None:
    """A bfloat16 run is held against bfloat16 products."""
    found = anatomy(tmp_path)
    assert share_of_limit(found, COST, RATES) == pytest.approx(2000 * 1e7 / 4e11)


def test_bench_of_a_real_job_prints_one_object_and_makes_no_run(
    experiment: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What machines read holds all that people see."""
    assert main(["prepare", experiment]) == 0
    capsys.readouterr()
    assert main(["bench", experiment, "--set", "data.micro_batch_rows=2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["experiment"] == "bottles"
    assert found["targets"] == pytest.approx(32, rel=0.05)
    assert found["targets_per_s"] == pytest.approx(found["targets"] / found["step_s"])
    assert sum(found["parts"].values()) == pytest.approx(found["step_s"])
    assert found["runtime"]["dtype"] == "float32"
    assert 0 < found["share_of_limit"] < 1
    assert found["planned_bytes"]["total"] > found["planned_bytes"]["device"] > 0
    assert not (home / "runs").exists()


def test_bench_unprepared_data_says_what_to_type(experiment: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before torch is loaded, with the settings as typed."""
    assert main(["bench", experiment, "--set", "train.max_steps=20"]) == 2
    message = f"The data of 'bottles' are not prepared; run: mlp prepare {experiment} --set train.max_steps=20"
    assert message in capsys.readouterr().err
