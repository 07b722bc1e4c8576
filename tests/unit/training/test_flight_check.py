"""What the flight check says: which setting, to which value, and in what words."""

from pathlib import Path

import pytest

from ml_playground.configuration.models import JobConfig
from ml_playground.training.flight_ahead import (
    Pace,
    Span,
    measured_before,
    prompts_of,
    time_limit,
    time_to_finish,
    timed_saves,
    tokens_to_draw,
    what_is_ahead,
)
from ml_playground.training.flight_check import DiskNeed, DiskPlan, disk_problem, memory_problem
from ml_playground.training.flight_report import FlightReport, Memory
from tests.fakes.tiny_job import tiny_job

MEGABYTE = 1_000_000
FACTS = {"vocab_size": 65, "sequence_tokens": 16}


def saving(folder: Path, **checkpointing: int | None) -> JobConfig:
    """Saved at each tenth of a hundred steps, evaluated at each twentieth."""
    train = {"max_steps": 100, "evaluate_every_steps": 20}
    return tiny_job(folder, train=train, checkpointing={"every_steps": 10, "keep_last": 2} | checkpointing)


@pytest.mark.parametrize(
    ("rule", "free", "words"),
    [
        ({"keep_last": 6}, 5, "--set checkpointing.keep_last=3 makes it 5.0 MB"),
        ({"keep_last": 1, "keep_best": 5}, 4, "--set checkpointing.keep_best=2 makes it 4.0 MB"),
        ({"keep_every_steps": 20}, 7, "--set checkpointing.keep_every_steps=40 makes it 6.0 MB"),
        ({"keep_every_steps": 50}, 4.5, "--set checkpointing.keep_every_steps=none makes it 4.0 MB"),
        (
            {"keep_last": 5, "keep_best": 5},
            2.5,
            "--set checkpointing.keep_last=1 --set checkpointing.keep_best=0 makes it 2.0 MB",
        ),
        ({}, 1, "no setting of [checkpointing] makes it fit: free some space, or set MLP_HOME to a folder on another"),
    ],
)
def test_disk_problem_names_the_setting_and_a_value_that_fits(
    tmp_path: Path, rule: dict[str, int], free: float, words: str
) -> None:
    """The mildest change that is enough."""
    plan = DiskPlan(saving(tmp_path, **rule), 0, 100, MEGABYTE)
    text = disk_problem(plan, int(free * MEGABYTE) + 100_000, "/runs")
    assert text is not None
    assert words in text


def test_disk_problem_says_what_is_needed_and_what_is_free(tmp_path: Path) -> None:
    """And where."""
    text = disk_problem(DiskPlan(saving(tmp_path), 0, 100, MEGABYTE), 3_500_000, "/runs/tiny")
    assert text is not None
    assert text.startswith(
        "The run needs 4.0 MB of disk (4 checkpoints of 1.0 MB at once at most, and its metrics), "
        "and 3.5 MB are free in /runs/tiny; --set checkpointing.keep_last=1 makes it"
    )


def test_disk_need_of_a_resumed_run_counts_what_is_there_already(tmp_path: Path) -> None:
    """But never less than the checkpoint that is written before another one goes."""
    plan = DiskPlan(saving(tmp_path), 50, 100, MEGABYTE, there=[40, 50])
    assert plan.need().more_bytes - plan.need().records_bytes == 2 * MEGABYTE
    crowded = DiskPlan(saving(tmp_path), 50, 100, MEGABYTE, there=[10, 20, 30, 40, 50])
    assert crowded.need().more_bytes - crowded.need().records_bytes == MEGABYTE


@pytest.mark.parametrize(("seconds", "saves"), [(None, 4), (0, 0), (601, 1), (10_000, 4)])
def test_timed_saves_unknown_time_counts_as_long(tmp_path: Path, seconds: float | None, saves: int) -> None:
    """Saves by time matter up to the number that is kept."""
    rule = saving(tmp_path, every_minutes=10).checkpointing
    assert timed_saves(rule, seconds) == saves
    assert timed_saves(rule.model_copy(update={"every_minutes": None}), seconds) == 0


def test_memory_problem_names_rows_and_micro_batches(tmp_path: Path) -> None:
    """The same step, in parts that fit."""
    job = tiny_job(tmp_path, data={"micro_batch_rows": 1 << 20}, runtime={"activation_checkpointing": False})
    text = memory_problem(job, FACTS, 1_000_000_000)
    assert text is not None
    assert text.startswith("Training is planned to take ")
    assert "1.0 GB are free on cpu; --set data.micro_batch_rows=" in text
    assert "makes the same step in" in text


def test_memory_problem_one_row_too_many_says_to_make_the_model_smaller(tmp_path: Path) -> None:
    """No batch helps where the weights alone do not fit."""
    job = tiny_job(tmp_path, model={"n_embd": 1 << 14})
    text = memory_problem(job, FACTS, 1_000_000_000)
    assert text is not None
    assert "even one row at a time takes" in text
    assert "make the model or data.sequence_tokens smaller." in text


def test_memory_problem_unknown_memory_refuses_nothing(tmp_path: Path) -> None:
    """Nobody is stopped on a guess."""
    assert memory_problem(tiny_job(tmp_path, data={"micro_batch_rows": 1 << 40}), FACTS, None) is None


def test_memory_problem_of_a_run_that_splits_counts_single_rows(tmp_path: Path) -> None:
    """On a GPU it would come down to them by itself."""
    rows, split = {"micro_batch_rows": 1 << 20}, {"on_out_of_memory": "split", "device": "cuda"}
    assert memory_problem(tiny_job(tmp_path, data=rows, runtime=split), FACTS, 1_000_000_000) is None


def test_memory_problem_of_a_run_that_splits_on_a_cpu_counts_all_rows(tmp_path: Path) -> None:
    """The kernel would kill it before it could split; the advice is that of a run which does not."""
    rows, split = {"micro_batch_rows": 1 << 20}, {"on_out_of_memory": "split"}
    text = memory_problem(tiny_job(tmp_path, data=rows, runtime=split), FACTS, 1_000_000_000)
    assert text is not None
    assert (
        "(on a CPU runtime.on_out_of_memory = 'split' would hear of it too late); --set data.micro_batch_rows=" in text
    )


def test_tokens_to_draw_are_those_of_enabled_hooks_and_the_last_step(tmp_path: Path) -> None:
    """Texts take time too."""
    live = {"kind": "samples", "every_steps": 30, "max_new_tokens": 7}
    job = tiny_job(tmp_path, hooks={"live": live, "off": live | {"enabled": False}})
    assert tokens_to_draw(job, 0, 100) == 4 * 7
    assert tokens_to_draw(job, 60, 100) == 2 * 7


def test_prompts_are_those_that_will_be_used_each_once(tmp_path: Path) -> None:
    """Of texts while training first: they come first."""
    live = {"kind": "samples", "prompt": "b"}
    job = tiny_job(tmp_path, hooks={"live": live, "plain": {"kind": "samples"}}, sample={"prompts": ["a", "b"]})
    assert prompts_of(job) == ["b", "a"]


def test_time_budget_limits_the_time_and_a_plan_was_measured_before(tmp_path: Path) -> None:
    """A run by the clock ends by the clock; a planned one is not tried twice."""
    budget = {"kind": "time_budget", "minutes": 2.0, "train_seconds": 90.0}
    job = tiny_job(tmp_path, hooks={"budget": budget})
    assert (time_limit(job), measured_before(job)) == (90.0, False)
    assert measured_before(tiny_job(tmp_path, hooks={"budget": budget | {"expected_loss": 1.5}}))
    assert time_limit(tiny_job(tmp_path)) is None


def test_time_to_finish_adds_up_all_that_takes_time(tmp_path: Path) -> None:
    """Ten times a step, five evaluations, eleven saves; the best is likely, the slower quarter comes with a margin."""
    job = saving(tmp_path)
    ahead = what_is_ahead(job.train, job.checkpointing, 0, 100)
    found = time_to_finish(ahead, Pace([2.0, 1.0, 3.0], evaluation=10.0, texts=4.0, save=0.5, last_save=6.0))
    assert found.likely_s == 100 * 2.0 + 5 * 10.0 + 4.0 + 10 * 0.5 + 6.0
    assert found.low_s < 100 * 1.0 + 5 * 10.0 + 4.0 + 6.0
    assert found.high_s > 100 * 3.0 + 5 * 10.0 + 4.0 + 10 * 0.5 + 6.0


TRIED = ("one training step", "an evaluation", "a text")
SEEN = Memory(300 * MEGABYTE, 23_000 * MEGABYTE, measured=True)
PLANNED = Memory(300 * MEGABYTE, None, measured=False)
SPAN = Span(130.0, 110.0, 160.0)


@pytest.mark.parametrize(
    ("tried", "memory", "span", "line"),
    [
        (
            TRIED,
            SEEN,
            SPAN,
            (
                "one training step, an evaluation and a text tried, peak 300.0 MB of 23.0 GB, checkpoints 9.7 MB, "
                "needs 29.2 MB of 50.0 GB disk, about 2m 10s (1m 50s to 2m 40s)"
            ),
        ),
        ((), None, None, "peak unknown, checkpoints 9.7 MB, needs 29.2 MB of 50.0 GB disk"),
        ((), PLANNED, None, "peak about 300.0 MB, checkpoints 9.7 MB, needs 29.2 MB of 50.0 GB disk"),
    ],
)
def test_report_line_says_what_was_tried_and_what_is_needed(
    tmp_path: Path, tried: tuple[str, ...], memory: Memory | None, span: Span | None, line: str
) -> None:
    """One line for whoever starts a run; a planned figure is called one."""
    job = saving(tmp_path)
    report = FlightReport(
        parameters=1234,
        trained=1234,
        unit="token",
        tried=tried,
        memory=memory,
        host=None,
        disk=DiskNeed(9_700_000, 3, 100_000),
        free_disk_bytes=50_000 * MEGABYTE,
        ahead=what_is_ahead(job.train, job.checkpointing, 0, 100),
        speed=None,
        time=span,
        written=None,
        notes=(),
    )
    assert report.line == line
