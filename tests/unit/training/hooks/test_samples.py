"""Texts drawn while training."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ml_playground.core.atomic import read_lines
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.seeding import seed_for
from ml_playground.training.hook_protocols import HookContext, LiveSample
from ml_playground.training.hooks.samples import build
from ml_playground.training.settings import Samples
from tests.fakes.hooks import event, hook_context, progress


def rows_of(context: HookContext) -> list[Any]:
    """What lies in samples/live.jsonl."""
    return [json.loads(line) for line in read_lines(context.run.samples / "live.jsonl")]


def test_on_step_every_steps_and_last_step_draw(tmp_path: Path) -> None:
    """At the interval, and at the end of the run whatever the interval."""
    context = hook_context(tmp_path)
    hook = build(Samples(every_steps=25), context)
    hook.on_start(progress(0))
    for step in range(1, 61):
        hook.on_step(event(step))
    hook.on_end(progress(60), "completed", None)
    assert [row["step"] for row in rows_of(context)] == [25, 50, 60]


def test_on_step_text_depends_on_seed_and_step_alone(tmp_path: Path) -> None:
    """A resumed run writes the same samples; the console finds the newest one on the board."""
    context = hook_context(tmp_path)
    hook = build(Samples(every_steps=5, prompt="To be", max_new_tokens=7), context)
    hook.on_step(event(5))
    seed = seed_for(context.job.seed, "preview", 5)
    text = f"<7 tokens after 'To be', seed {seed % 1000}>"
    assert rows_of(context) == [{"step": 5, "prompt": "To be", "text": text}]
    assert context.board.newest_sample == LiveSample(5, "To be", text)


def test_build_no_prompt_of_its_own_takes_the_first_of_the_job(tmp_path: Path) -> None:
    """One prompt for `mlp sample` and for the samples on the way."""
    context = hook_context(tmp_path)
    build(Samples(every_steps=5), context).on_step(event(5))
    assert rows_of(context)[0]["prompt"] == context.job.sample.prompts[0]


def test_on_step_prompt_from_a_file_is_shown_by_its_name(tmp_path: Path) -> None:
    """The preview reads the file; a sample of a long prompt would show nothing else."""
    context = hook_context(tmp_path)
    build(Samples(every_steps=5, prompt="FILE:long.txt"), context).on_step(event(5))
    assert rows_of(context)[0]["prompt"] == "[FILE:long.txt] "
    assert "after 'FILE:long.txt'" in rows_of(context)[0]["text"]


def test_on_step_asked_by_the_board_draws_once(tmp_path: Path) -> None:
    """`mlp control RUN sample` is answered at the next step."""
    context = hook_context(tmp_path)
    hook = build(Samples(every_steps=50), context)
    assert context.board.draws_samples
    context.board.sample_wanted = True
    hook.on_step(event(3))
    hook.on_step(event(4))
    assert [row["step"] for row in rows_of(context)] == [3]


def test_on_end_stopped_early_draws_a_last_one_and_paused_does_not(tmp_path: Path) -> None:
    """The last word of a run that is over; a paused one has not said it yet."""
    context = hook_context(tmp_path)
    hook = build(Samples(every_steps=50), context)
    hook.on_end(progress(7), "paused", None)
    hook.on_end(progress(8), "stopped_early", None)
    hook.on_end(progress(8), "stopped_early", None)
    assert [row["step"] for row in rows_of(context)] == [8]


def test_on_start_resumed_drops_samples_that_will_be_drawn_again(tmp_path: Path) -> None:
    """No step has two samples."""
    context = hook_context(tmp_path)
    hook = build(Samples(every_steps=5), context)
    for step in (5, 10):
        hook.on_step(event(step))
    resumed = build(Samples(every_steps=5), replace(context, first_step=7))
    resumed.on_start(progress(7))
    resumed.on_step(event(10))
    assert [row["step"] for row in rows_of(context)] == [5, 10]


def test_build_objective_draws_no_text_is_refused(tmp_path: Path) -> None:
    """A hook without effect would be a setting without effect."""
    with pytest.raises(ConfigError) as caught:
        build(Samples(), hook_context(tmp_path, preview=None))
    assert str(caught.value) == (
        "a hook of kind 'samples' draws text, but objective.kind = 'next_token' cannot; "
        "remove the hook, or set its enabled = false."
    )


def test_on_end_of_a_start_at_the_step_of_a_sample_draws_none(tmp_path: Path) -> None:
    """Its evaluation was owed and ended the run: the text of this step was drawn by the process before."""
    context = hook_context(tmp_path)
    build(Samples(every_steps=20), context).on_step(event(20))
    later = build(Samples(every_steps=20), replace(context, first_step=20, owes_evaluation=True))
    later.on_start(progress(20))
    later.on_end(progress(20), "stopped_early", None)
    assert [row["step"] for row in rows_of(context)] == [20]
    other = build(Samples(every_steps=20), replace(context, first_step=30, owes_evaluation=True))
    other.on_start(progress(30))
    other.on_end(progress(30), "stopped_early", None)
    assert [row["step"] for row in rows_of(context)] == [20, 30]
