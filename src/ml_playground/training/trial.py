"""A short training that leaves nothing behind: what a step, an evaluation and a text cost on this machine, and what is learnt."""

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch

from ml_playground.configuration import families
from ml_playground.configuration.models import JobConfig
from ml_playground.core.deps import Clock
from ml_playground.core.registry import load_object
from ml_playground.core.seeding import seed_for
from ml_playground.core.torch_machine import free_bytes
from ml_playground.planning.memory import planned_bytes
from ml_playground.training.building import build_learner, build_model, build_preview, open_data
from ml_playground.training.deciding import settled
from ml_playground.training.learner import GradientLearner
from ml_playground.training.precision import apply_runtime, device_for, runtime_for
from ml_playground.training.protocols import Data, Objective

GROUPS, LARGEST_GROUP = 8, 8
"""Groups of steps that are timed, and the steps of one at most; the host waits for the device once a group."""
WARM_STEPS = 2
"""Steps that build what later ones find ready, and are not timed."""
LEAST_STEPS = 16
"""Steps that are made at least, however slow the machine."""
DRAWN_TOKENS = 24
"""Length of the text that is drawn to time the drawing."""
WARMUP_STEPS, DECAY_FRACTION = 16, 0.6
"""The learning rate of a trial rises over so many steps and comes down to zero over that share: as in the fit of the loss law."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a trial showed."""

    steps: int
    """How many were made."""
    step_s: float
    """Median over groups of steps."""
    evaluation_s: float
    """Seconds of a validation token."""
    drawing_s: float
    """Seconds of a drawn token, one sequence; 0 where no text was drawn."""
    building_s: float
    """From the settings to a learner."""
    loss: float
    """On validation, when the learning rate had come down to zero."""


def trial(
    job: JobConfig, clock: Clock, *, steps: int, seconds: float, evaluate_tokens: int, draw: bool = False
) -> Measured:
    """Train a job for some steps on its own data, without run folder, hooks or checkpoints.

    Args:
        job: What is trained.
        clock: Measures.
        steps: How many; the learning rate comes down to zero with the last.
        seconds: Fewer steps are made where they would take longer than this, but not below `LEAST_STEPS`.
        evaluate_tokens: Of validation at least one batch, about so many tokens.
        draw: Also draw a text.
    """
    began_s = clock.tick()
    data: Data[Any] = open_data(job)
    job = job.model_copy(update={"runtime": settled(job.runtime, runtime_for(job, data.facts, steps))})
    device = apply_runtime(job.runtime)
    torch.manual_seed(seed_for(job.seed, "weights"))
    model = build_model(job, data.facts, device, load_pretrained=False)
    objective: Objective[Any, Any] = load_object(families.OBJECTIVES[job.objective.kind_name].build)(job.objective)
    learner = build_learner(job, model, objective)
    built_s = clock.tick()
    times = list(_timed_steps(learner, data, clock, steps, began_s + seconds))
    loss, evaluation_s = _evaluated(learner, data, clock, evaluate_tokens)
    preview = build_preview(job, model, learner, data) if draw else None
    drawing_s = 0.0
    if preview is not None:
        # The first text builds what later ones find ready.
        preview(job.sample.prompts[0], max_new_tokens=2, seed=0)
        drawn_s = clock.tick()
        preview(job.sample.prompts[0], max_new_tokens=DRAWN_TOKENS, seed=0)
        drawing_s = (clock.tick() - drawn_s) / DRAWN_TOKENS
    timed = [passed / count for count, passed in times[1:]] or [times[0][1] / times[0][0]]
    return Measured(
        steps=sum(count for count, _ in times),
        step_s=statistics.median(timed),
        evaluation_s=evaluation_s,
        drawing_s=drawing_s,
        building_s=built_s - began_s,
        loss=loss,
    )


def _timed_steps(
    learner: GradientLearner, data: Data[Any], clock: Clock, steps: int, until_s: float
) -> Iterator[tuple[int, float]]:
    """Groups of steps and the seconds that each took; the first group holds what comes only once."""
    step = 0
    while step < steps:
        count = min(steps - step, max(1, min(LARGEST_GROUP, (steps - WARM_STEPS) // GROUPS)) if step else WARM_STEPS)
        started_s = clock.tick()
        losses = [
            learner.train_step([data.train.batch_at(number)], step=number, lr_factor=factor(number, steps)).loss
            for number in range(step, step + count)
        ]
        losses[-1].item()
        passed_s = clock.tick() - started_s
        if step:
            # Decided while the learning rate is still at its peak, so that it comes down over the steps that remain.
            affordable = step + count + int((until_s - clock.tick()) / (passed_s / count))
            steps = min(steps, max(LEAST_STEPS, step + count, affordable))
        step += count
        yield count, passed_s


def _evaluated(learner: GradientLearner, data: Data[Any], clock: Clock, tokens: int) -> tuple[float, float]:
    """Validation loss, and the seconds of a token."""
    first = next(iter(data.split("val", max_batches=1)))
    batches = max(1, tokens // int(first.ids.numel()))
    started_s = clock.tick()
    read = list(islice(data.split("val", max_batches=batches), batches))
    loss = learner.evaluate(read)["loss"]
    return loss, (clock.tick() - started_s) / sum(int(batch.ids.numel()) for batch in read)


def factor(step: int, steps: int) -> float:
    """Share of the peak learning rate at a step of a trial: up, flat, and down to zero."""
    warm = min(WARMUP_STEPS, max(1, steps // 4))
    return min(1.0, (step + 1) / warm, (steps - step) / max(1.0, DECAY_FRACTION * steps))


def fits_in_memory(job: JobConfig, facts: Mapping[str, int], share: float) -> bool:
    """Whether a job is planned to take less than a share of what is free on the device that trains."""
    device = device_for(job.runtime.device)
    free, plan = free_bytes(device), planned_bytes(job, facts)
    return free is None or plan is None or plan.needed_by(device) < share * free
