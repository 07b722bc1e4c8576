"""Turns the components that a job names into parts, by their kinds; knows none of them by name."""

import json
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from ml_playground.configuration import families
from ml_playground.configuration.base import HookSettings
from ml_playground.configuration.fingerprint import existing_data
from ml_playground.configuration.models import JobConfig
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.registry import load_object
from ml_playground.core.values import ModelContext
from ml_playground.training.checkpoint_protocols import OpenCheckpoint
from ml_playground.training.hook_protocols import Hook, HookContext, Preview
from ml_playground.training.hooks.beside import Beside
from ml_playground.training.hooks.tolerant import Tolerant
from ml_playground.training.learner import GradientLearner
from ml_playground.training.precision import DTYPES
from ml_playground.training.protocols import Data, Objective, Optimizer


def open_data(job: JobConfig) -> Data[Any]:
    """The prepared data of a job, cut into batches.

    Raises:
        DataError: They are not prepared.
    """
    folder = existing_data(job)
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
    warmup_steps = getattr(job.schedule, "warmup_steps", 0)
    if warmup_steps > max_steps:
        raise ConfigError(
            f"schedule.warmup_steps = {warmup_steps} is longer than the run, which has {max_steps} steps; make the warm-up "
            f"shorter (--set schedule.warmup_steps={max_steps // 10}) or the run longer."
        )
    return max_steps


def build_model(job: JobConfig, facts: Mapping[str, int], device: torch.device, *, load_pretrained: bool) -> nn.Module:
    """A model on its device; its random weights are drawn from torch's global stream, which the engine seeds."""
    context = ModelContext(
        facts=facts,
        attention="fused" if job.runtime.attention == "fused" else "math",
        activation_checkpointing=job.runtime.activation_checkpointing is True,
        load_pretrained=load_pretrained,
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
    )


def build_hooks(job: JobConfig, context: HookContext, checkpoint: OpenCheckpoint | None = None) -> dict[str, Hook]:
    """The enabled hooks with what they remembered; those that only watch are made harmless: their errors, and their hanging."""
    former: dict[str, Any] = {} if checkpoint is None else json.loads(checkpoint.config)["hooks"]
    # A name that now stands for another kind of hook remembers nothing.
    same = {name for name, hook in job.hooks.items() if former.get(name, {}).get("kind") == hook.kind_name}
    saved = {} if checkpoint is None else {name: s for name, s in checkpoint.hooks.items() if name in same}
    hooks: dict[str, Hook] = {}
    for name, settings in job.hooks.items():
        if isinstance(settings, HookSettings) and not settings.enabled:
            continue
        built: Hook = load_object(families.HOOKS[settings.kind_name].build)(settings, context)
        hook = built if built.steering else Tolerant(built, name, context)
        if not (built.steering or built.inline):
            hook = Beside(hook, name, context)
        if name in saved:
            hook.load_state_dict(saved[name])
        hooks[name] = hook
    return hooks


def build_preview(job: JobConfig, model: nn.Module, learner: GradientLearner, data: Data[Any]) -> Preview | None:
    """Draws texts with the weights that are evaluated; None where the objective draws none."""
    row = families.PREVIEWS.get(job.objective.kind_name)
    if row is None:
        return None
    draw: Preview = load_object(row.build)(model, data.attachments, job.sample)

    def preview(prompt: str, *, max_new_tokens: int, seed: int) -> str:
        with learner.evaluation_weights():
            return draw(prompt, max_new_tokens=max_new_tokens, seed=seed)

    return preview
