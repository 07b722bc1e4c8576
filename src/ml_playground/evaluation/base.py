"""The model from which a run's training began."""

from dataclasses import replace
from typing import Any

from ml_playground.configuration import families
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.registry import load_object
from ml_playground.core.values import ModelContext
from ml_playground.sampling.runner import LoadedRun


def has_base(run: LoadedRun) -> bool:
    """Whether a run trained a model further, and did not begin with random weights."""
    return any(getattr(run.job.model, name, None) is not None for name in ("path", "weights"))


def base_of(run: LoadedRun) -> LoadedRun:
    """A run with the weights that its training began with, on the same device.

    Raises:
        ConfigError: It began with random weights; or the folder of its base is gone, or another one by now.
        CheckpointError: The base's tensors are not those of its config.json.
    """
    settings: Any = run.job.model
    if not has_base(run):
        raise ConfigError(
            f"{run.job.name!r} began with random weights, so there is no base to compare with; name a run instead: --against RUN"
        )
    if getattr(settings, "adapter", None) is not None:
        settings = settings.model_copy(update={"adapter": None})
    facts = {"vocab_size": run.tokenizer.vocab_size}
    if run.model.max_context is not None:
        facts["sequence_tokens"] = run.model.max_context
    context = ModelContext(facts, attention=run.execution.attention)
    model = load_object(families.MODELS[settings.kind_name].build)(settings, context)
    model.requires_grad_(requires_grad=False)
    return replace(run, model=model.to(run.execution.device).eval())
