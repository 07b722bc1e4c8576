"""From a recorded job and its tensors to a model: what does not belong together is refused before it takes memory."""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from ml_playground.configuration import families
from ml_playground.configuration.models import JobConfig
from ml_playground.core.error_handling import CheckpointError
from ml_playground.core.image_facts import ImageFacts
from ml_playground.core.registry import load_object
from ml_playground.core.tokenizer_protocol import Tokenizer
from ml_playground.core.values import ModelContext

Carried = Tokenizer | ImageFacts
"""What a checkpoint carries of its data."""
HARMLESS_PARAMETERS = 10_000_000
"""40 MB: what may be built only to say what is wrong with it."""


def build_model(job: JobConfig, carried: Carried, attention: Literal["math", "fused"] = "math") -> nn.Module:
    """The job's model on the CPU; its weights are random until `load_weights`."""
    context = ModelContext(facts=_facts(job, carried), attention=attention, load_pretrained=False)
    return load_object(families.MODELS[job.model.kind_name].build)(job.model, context)


def refuse_larger_model(job: JobConfig, carried: Carried, tensors: Mapping[str, Tensor], reference: str) -> None:
    """Compare the model that a job describes with the weights that there are: building it would allocate what it says.

    Raises:
        CheckpointError: It has so many more parameters than were saved that it is no mistake worth describing.
    """
    cost = families.cost_of(job.model, _facts(job, carried))
    if cost is None:
        return
    described = cost.parameters
    saved = sum(tensor.numel() for tensor in tensors.values())
    # A model that is only of another shape is built, so that `load_weights` can name every tensor that does not fit.
    if described > 4 * saved + HARMLESS_PARAMETERS:
        raise CheckpointError(
            f"The config.json in {reference} describes a model of {described} parameters, but {saved} were saved; "
            "they do not belong together. Restore the checkpoint from a copy."
        )


def _facts(job: JobConfig, carried: Carried) -> dict[str, int]:
    """What the data would tell the model, from what the checkpoint carries."""
    if isinstance(carried, ImageFacts):
        return dict(carried.for_model)
    return {"vocab_size": carried.vocab_size} | {name: value for name, value in job.data if name == "sequence_tokens"}


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], reference: str) -> None:
    """Fill a model.

    Raises:
        CheckpointError: A name or a shape does not fit; all are listed.
    """
    # Of tied weights only the first name is saved, and frozen ones are no part of a checkpoint.
    wanted = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    wanted |= {
        name: tensor
        for name, tensor in model.state_dict(keep_vars=True).items()
        if not isinstance(tensor, nn.Parameter)
    }
    problems = [f"{name} is missing" for name in wanted if name not in tensors]
    problems += [f"{name} is unknown to the model" for name in tensors if name not in wanted]
    problems += [
        f"{name} has shape {tuple(tensors[name].shape)}, the model's has {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    problems += [
        f"{name} holds {tensors[name].dtype}, the model {tensor.dtype}"
        for name, tensor in wanted.items()
        if name in tensors and tensors[name].is_floating_point() != tensor.is_floating_point()
    ]
    if problems:
        raise CheckpointError(
            f"The weights in {reference} do not fit the model that its config.json describes: {'; '.join(problems)}. "
            "Use the version of ml-playground that wrote it."
        )
    model.load_state_dict(tensors, strict=False)
