"""Turns the components that a job names into parts, by their kinds; knows none of them by name."""

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import nn

from ml_playground.configuration import families
from ml_playground.configuration.base import HookSettings
from ml_playground.configuration.fingerprint import existing_data
from ml_playground.configuration.models import JobConfig
from ml_playground.core.error_handling import CheckpointError, ConfigError
from ml_playground.core.foreign_files import json_table
from ml_playground.core.registry import load_object
from ml_playground.core.run_schema import complaint
from ml_playground.core.values import ModelContext
from ml_playground.training.checkpoint_protocols import OpenCheckpoint
from ml_playground.training.hook_protocols import Hook, HookContext, Preview
from ml_playground.training.hooks.beside import Beside
from ml_playground.training.hooks.tolerant import Tolerant
from ml_playground.training.learner import GradientLearner
from ml_playground.training.precision import DTYPES
from ml_playground.training.protocols import Data, Objective, Optimizer
from ml_playground.training.settings import Schedule


def open_data(job: JobConfig) -> Data[Any]:
    """The prepared data of a job, cut into batches.

    Raises:
        DataError: They are not prepared, or more of the text is lost than the job allows.
    """
    folder = existing_data(job)
    load_object(families.BOOKS)(folder, job.data).check(job.prepare.max_loss_fraction)
    return load_object(families.DATA[job.data.kind_name].build)(job.data, folder, job.seed)


def steps_of(job: JobConfig, micro_batches_per_epoch: float) -> int:
    """Optimizer updates in all: as set, or computed from the epochs, rounded up.

    Raises:
        ConfigError: The warm-up is longer than the run.
    """
    max_steps = job.train.max_steps
    if max_steps is None:
        passes = (job.train.max_epochs or 0) * micro_batches_per_epoch
        max_steps = max(1, math.ceil(passes / job.train.micro_batches_per_step))
    warmup_steps = job.schedule.warmup(max_steps) if isinstance(job.schedule, Schedule) else 0
    if warmup_steps > max_steps:
        raise ConfigError(
            f"schedule.warmup_steps = {warmup_steps} is longer than the run, which has {max_steps} steps; make the warm-up "
            f"shorter (--set schedule.warmup_steps={max_steps // 10}) or the run longer."
        )
    return max_steps


def with_decided_warmup(job: JobConfig, max_steps: int) -> JobConfig:
    """The job, an "auto" of its warm-up replaced by the steps that it comes to."""
    if not isinstance(job.schedule, Schedule):
        return job
    schedule = job.schedule.model_copy(update={"warmup_steps": job.schedule.warmup(max_steps)})
    return job.model_copy(update={"schedule": schedule})


def shortened_warmup(job: JobConfig, max_steps: int) -> int | None:
    """The steps of an "auto" warm-up where the run is too short for the usual one."""
    if not isinstance(job.schedule, Schedule) or not job.schedule.shortened(max_steps):
        return None
    return job.schedule.warmup(max_steps)


def build_model(job: JobConfig, facts: Mapping[str, int], device: torch.device, *, load_pretrained: bool) -> nn.Module:
    """A model on its device; its random weights are drawn from torch's global stream, which the engine seeds."""
    context = ModelContext(
        facts=facts,
        attention="fused" if job.runtime.attention == "fused" else "math",
        activation_checkpointing=job.runtime.activation_checkpointing is True,
        load_pretrained=load_pretrained,
        compute_dtype="bfloat16" if job.runtime.dtype == "bfloat16" else "float32",
    )
    model: nn.Module = load_object(families.MODELS[job.model.kind_name].build)(job.model, context)
    return model.to(device)


def build_optimizer(job: JobConfig, model: nn.Module) -> Optimizer:
    """The optimizer of a job over a model's parameters."""
    dtype = DTYPES[job.runtime.dtype]
    return load_object(families.OPTIMIZERS[job.optimizer.kind_name].build)(job.optimizer, model, dtype)


def build_learner(
    job: JobConfig, model: nn.Module, objective: Objective[Any, Any], optimizer: Optimizer | None = None
) -> GradientLearner:
    """The learner of a job; `optimizer` is what `build_optimizer` makes, or stands before it."""
    return GradientLearner(
        model,
        objective,
        optimizer or build_optimizer(job, model),
        seed=job.seed,
        grad_clip=job.train.grad_clip,
        ema_decay=job.train.ema_decay,
        dtype=DTYPES[job.runtime.dtype],
        compiled=job.runtime.compile is True,
        skips_bad=job.train.on_bad_step == "skip",
    )


def build_hooks(job: JobConfig, context: HookContext, checkpoint: OpenCheckpoint | None = None) -> dict[str, Hook]:
    """The enabled hooks with what they remembered; those that only watch are made harmless: their errors, and their hanging."""
    saved: Mapping[str, Mapping[str, Any]] = {} if checkpoint is None else _remembered(job, checkpoint)
    hooks: dict[str, Hook] = {}
    for name, settings in job.hooks.items():
        if isinstance(settings, HookSettings) and not settings.enabled:
            continue
        built: Hook = load_object(families.HOOKS[settings.kind_name].build)(settings, context)
        hook = built if built.steering else Tolerant(built, name, context)
        if not (built.steering or built.inline):
            hook = Beside(hook, name, context)
        if checkpoint is not None and name in saved:
            _restore(hook, name, saved[name], checkpoint)
        hooks[name] = hook
    return hooks


def _remembered(job: JobConfig, checkpoint: OpenCheckpoint) -> Mapping[str, Mapping[str, Any]]:
    """The state of each hook of a job, by name; one that now stands for another kind of hook remembers nothing."""
    try:
        former: Any = json_table(checkpoint.config).get("hooks")
    except ValueError as error:
        raise CheckpointError(
            f"The job in {checkpoint.reference} cannot be read ({error}); restore it from a copy."
        ) from error
    hooks = cast(dict[str, Any], former) if isinstance(former, dict) else {}
    kinds = {name: cast(dict[str, Any], hook).get("kind") for name, hook in hooks.items() if isinstance(hook, dict)}
    same = {name for name, hook in job.hooks.items() if kinds.get(name) == hook.kind_name}
    return {name: state for name, state in checkpoint.hooks.items() if name in same}


def _restore(hook: Hook, name: str, state: Mapping[str, Any], checkpoint: OpenCheckpoint) -> None:
    try:
        hook.load_state_dict(state)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"What the hook {name!r} remembered in {checkpoint.reference} is not what it writes "
            f"({complaint(error) if isinstance(error, ValueError) else error}); restore the checkpoint from a copy."
        ) from error


def build_preview(job: JobConfig, model: nn.Module, learner: GradientLearner, data: Data[Any]) -> Preview | None:
    """Draws texts with the weights that are evaluated; None where the objective draws none."""
    row = families.PREVIEWS.get(job.objective.kind_name)
    if row is None:
        return None
    return _EvaluatedPreview(load_object(row.build)(model, data.attachments, job.sample), learner)


class _EvaluatedPreview:
    """Another preview, with the weights that are evaluated."""

    def __init__(self, preview: Preview, learner: GradientLearner) -> None:
        self._preview = preview
        self._learner = learner
        self.notes = preview.notes

    def __call__(self, prompt: str, *, max_new_tokens: int, seed: int) -> str:
        """The continuation of a prompt, without it."""
        with self._learner.evaluation_weights():
            return self._preview(prompt, max_new_tokens=max_new_tokens, seed=seed)
