"""Laws of the flight check's decisions: what is on the disk at once, what is ahead, and that advice fits."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.configuration.models import CheckpointingSettings, JobConfig, TrainSettings
from ml_playground.planning.memory import planned_bytes
from ml_playground.training.checkpointing.retention import Kept, to_drop
from ml_playground.training.flight_ahead import Pace, time_to_finish, what_is_ahead
from ml_playground.training.flight_check import (
    DiskPlan,
    disk_problem,
    memory_problem,
    micro_batch_rows,
    with_rows,
)
from tests.fakes.tiny_job import tiny_job

RULES = st.builds(
    CheckpointingSettings,
    every_steps=st.none() | st.integers(1, 12),
    every_minutes=st.none(),
    keep_last=st.integers(1, 5),
    keep_best=st.integers(0, 4),
    keep_every_steps=st.none() | st.integers(1, 15),
)
EVALUATING = st.integers(1, 12).map(lambda every: TrainSettings(max_steps=1, evaluate_every_steps=every))
SPANS = st.tuples(st.integers(0, 30), st.integers(1, 60)).map(lambda pair: (pair[0], pair[0] + pair[1]))
FACTS = {"vocab_size": 65, "sequence_tokens": 16}


def saving_steps(train: TrainSettings, rule: CheckpointingSettings, first: int, last: int) -> list[int]:
    """Every step at which the schedule or a new best evaluation may save, one by one."""

    def saves(step: int) -> bool:
        scheduled = rule.every_steps is not None and step % rule.every_steps == 0
        best = rule.keep_best > 0 and step % train.evaluate_every_steps == 0
        return scheduled or best or step == last

    return [step for step in range(first + 1, last + 1) if saves(step)]


def most_on_disk(rule: CheckpointingSettings, saves: Sequence[tuple[int, float | None]]) -> int:
    """Checkpoints at once while these are written one after the other, and each time the rule drops what may go."""
    there: dict[int, float | None] = {}
    most = 0
    for step, loss in saves:
        most = max(most, len(there) + 1)
        there[step] = loss
        dropped = to_drop(
            [Kept(*item) for item in there.items()],
            keep_last=rule.keep_last,
            keep_best=rule.keep_best,
            keep_every_steps=rule.keep_every_steps,
        )
        there = {kept: loss for kept, loss in there.items() if kept not in dropped - {step}}
    return most


def job_with(train: TrainSettings, rule: CheckpointingSettings, folder: Path) -> JobConfig:
    """The tiny job under other rules."""
    return tiny_job(folder).model_copy(update={"train": train, "checkpointing": rule})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all examples."""
    return tmp_path_factory.mktemp("flight")


@given(train=EVALUATING, rule=RULES, span=SPANS)
def test_what_is_ahead_counts_what_a_loop_over_all_steps_counts(
    train: TrainSettings, rule: CheckpointingSettings, span: tuple[int, int]
) -> None:
    """Computed for a million steps as quickly as for ten."""
    first, last = span
    steps = range(first + 1, last + 1)
    every, evaluating = rule.keep_every_steps, train.evaluate_every_steps
    saves = saving_steps(train, rule, first, last)
    ahead = what_is_ahead(train, rule, first, last)
    assert ahead.evaluations == sum(step % evaluating == 0 or step == last for step in steps)
    assert (ahead.steps, ahead.saves) == (len(steps), len(saves))
    assert ahead.lasting_saves == (sum(step % every == 0 for step in saves) if every else 0)


@given(train=EVALUATING, rule=RULES, span=SPANS, draws=st.data())
def test_disk_need_is_never_exceeded_whatever_the_losses(
    folder: Path, train: TrainSettings, rule: CheckpointingSettings, span: tuple[int, int], draws: st.DataObject
) -> None:
    """The law of the disk: the rule of retention itself, played through with any losses, never takes more."""
    first, last = span
    saves = saving_steps(train, rule, first, last)
    losses = draws.draw(st.lists(st.none() | st.floats(0, 9), min_size=len(saves), max_size=len(saves)))
    needed = DiskPlan(job_with(train, rule, folder), first, last, checkpoint_bytes=1).need()
    assert most_on_disk(rule, list(zip(saves, losses, strict=True))) <= needed.at_once


@given(rule=RULES, steps=st.integers(1, 40))
def test_disk_need_is_reached_by_losses_that_rise_without_lasting_checkpoints(
    folder: Path, rule: CheckpointingSettings, steps: int
) -> None:
    """No byte is asked for that no run takes: the best are the first, the newest the last, and one is being written."""
    rule = rule.model_copy(update={"keep_every_steps": None, "every_steps": 1})
    train = TrainSettings(max_steps=1, evaluate_every_steps=1)
    needed = DiskPlan(job_with(train, rule, folder), 0, steps, checkpoint_bytes=1).need()
    assert most_on_disk(rule, [(step, float(step)) for step in range(1, steps + 1)]) == needed.at_once


@given(train=EVALUATING, rule=RULES, span=SPANS, free=st.integers(0, 30), there=st.integers(0, 3))
def test_disk_advice_fits_or_nothing_does(
    folder: Path, train: TrainSettings, rule: CheckpointingSettings, span: tuple[int, int], free: int, there: int
) -> None:
    """Whoever types what the message says is not refused again."""
    size = 1_000_000
    plan = DiskPlan(job_with(train, rule, folder), *span, checkpoint_bytes=size, there=range(1, there + 1))
    text = disk_problem(plan, free * size, "there")
    assert (text is None) == (plan.need().more_bytes <= free * size)
    if text is None:
        return
    advised: dict[str, Any] = dict(re.findall(r"--set checkpointing\.(\w+)=(\w+)", text))
    least = advised or {"keep_last": "1", "keep_best": "0", "keep_every_steps": "none"}
    changed = rule.model_copy(update={key: None if value == "none" else int(value) for key, value in least.items()})
    assert (plan.need(changed).more_bytes <= free * size) == bool(advised)


def device_bytes(job: JobConfig) -> int:
    """The plan of a job."""
    plan = planned_bytes(job, FACTS)
    assert plan is not None
    return plan.device


@given(rows=st.integers(1, 4096), count=st.integers(1, 8), free=st.integers(1 << 20, 1 << 32))
def test_memory_advice_fits_and_is_the_same_step(folder: Path, rows: int, count: int, free: int) -> None:
    """Equally many rows a step, never a larger micro-batch, and no smaller one than needed without recomputation."""
    job = with_rows(tiny_job(folder), rows)
    job = job.model_copy(update={"train": job.train.model_copy(update={"micro_batches_per_step": count})})
    text = memory_problem(job, FACTS, free)
    if text is None:
        assert device_bytes(job) <= 1.1 * free
        return
    found = re.search(r"micro_batch_rows=(\d+) --set train\.micro_batches_per_step=(\d+)", text)
    if found is None:
        assert "even one row at a time takes" in text
        assert device_bytes(with_rows(job, 1)) > 0.9 * free
        return
    fewer, more = map(int, found.groups())
    assert fewer * more == rows * count
    assert fewer <= micro_batch_rows(job)
    recomputing = "activation_checkpointing=true" in text
    assert device_bytes(with_rows(job, fewer, recomputing=recomputing)) <= 0.9 * free


TIMES = st.floats(0, 100, allow_nan=False)


@given(
    train=EVALUATING,
    rule=RULES,
    span=SPANS,
    pace=st.builds(Pace, st.lists(TIMES, min_size=1, max_size=9), TIMES, TIMES, TIMES, TIMES),
    limit=st.none() | TIMES,
)
def test_time_to_finish_likely_lies_in_its_span(
    train: TrainSettings, rule: CheckpointingSettings, span: tuple[int, int], pace: Pace, limit: float | None
) -> None:
    """And a time budget is never exceeded."""
    found = time_to_finish(what_is_ahead(train, rule, *span), pace, limit)
    assert 0 <= found.low_s <= found.likely_s <= found.high_s
    assert limit is None or found.high_s <= limit
    assert math.isfinite(found.high_s)
