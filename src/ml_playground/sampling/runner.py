"""From a run's name to a model that can write: everything is read from one checkpoint, verified, and nothing guessed."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ml_playground.configuration import families
from ml_playground.configuration.loading import experiment_names
from ml_playground.configuration.models import JobConfig
from ml_playground.configuration.origins import Layer
from ml_playground.core import checkpoint_format
from ml_playground.core.checkpoint_format import CheckpointFolder
from ml_playground.core.checkpoint_manifest import MANIFEST, checked_sizes
from ml_playground.core.error_handling import CheckpointError, RunError
from ml_playground.core.registry import load_object
from ml_playground.core.run_folder import RunFolder, all_runs, cache_folder, find_run, runs_folder
from ml_playground.core.tokenizer_protocol import Tokenizer
from ml_playground.core.torch_tensors import read_tensors
from ml_playground.core.values import ModelContext
from ml_playground.models.layers.packed_linear import Precision
from ml_playground.models.protocols import Decoder
from ml_playground.sampling.execution import Execution, choose_execution, choose_precision
from ml_playground.sampling.preview import LOAD_TOKENIZER
from ml_playground.sampling.recorded import FOR_SAMPLES, recorded_job

Which = Literal["best", "latest"] | int
"""Which checkpoint of a run: the one with the lowest validation loss, the newest, or the one of a step."""
Weights = Literal["auto", "raw", "ema"]
HARMLESS_PARAMETERS = 10_000_000
"""40 MB: what may be built only to say what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Found:
    """A verified checkpoint, the run it belongs to, and what there is to say about the choice."""

    checkpoint: CheckpointFolder
    run: RunFolder | None
    """None when the checkpoint itself was named."""
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class LoadedRun:
    """A trained model, ready to be run."""

    model: Any
    """A `NextTokenModel` in evaluation mode, its weights in float32 on `execution.device`."""
    tokenizer: Tokenizer
    job: JobConfig
    """As recorded, with what was laid over it."""
    checkpoint: CheckpointFolder
    run: RunFolder | None
    weights: Literal["raw", "ema"]
    execution: Execution
    """The precision in it is that of an evaluation, as in training."""
    notes: Sequence[str]
    """What its user should know: what was passed over, or replaced."""
    precision: Precision = "float32"
    """Of the weights of `decoder`."""

    def decoder(self) -> Decoder:
        """What texts are drawn with: the engine that `sample.engine` names.

        Raises:
            ConfigError: The engine cannot run this model, or is not installed.
            StorageError: The model could not be exported.
        """
        return load_object(families.ENGINES[self.job.sample.engine].build)(self.model, self.precision, self.export)

    @property
    def export(self) -> Path:
        """Where an engine keeps these weights in its own form; other weights have another name.

        Never in the run's folder: that may come from elsewhere, and what an engine's native code reads must be our own work.
        """
        records = checked_sizes(self.checkpoint.path)
        weights = [records[self.checkpoint.tensor_file(group).name].sha256 for group in self._groups]
        key = hashlib.sha256("".join(weights).encode()).hexdigest()[:12]
        return cache_folder() / "export" / f"step_{self.checkpoint.progress.step:06d}_{key}"

    @property
    def _groups(self) -> Sequence[str]:
        return ("model", "ema") if self.weights == "ema" else ("model",)


def load_run(
    target: str | Path,
    *,
    which: Which = "best",
    weights: Weights | None = None,
    layers: Sequence[Layer] = (),
    open_keys: Sequence[str] = FOR_SAMPLES,
) -> LoadedRun:
    """The model of a run or of a checkpoint.

    Args:
        target: A run's folder or id, an experiment (its newest run), or a checkpoint's folder.
        which: Which of a run's checkpoints; a checkpoint that is named itself is taken as it is.
        weights: `auto` takes the averaged ones where there are some; none: as `sample.weights` says.
        layers: Laid over the recorded job.
        open_keys: What they may set: keys, or sections as a whole.

    Raises:
        RunError: No such run, or it has no checkpoint yet.
        CheckpointError: No whole checkpoint, no such step, or its parts do not fit together.
        ConfigError: The recorded job or a layer cannot be read.
    """
    found = find_checkpoint(target, which)
    checkpoint = found.checkpoint
    job = recorded_job(checkpoint.path / checkpoint_format.CONFIG, layers, open_keys)
    tokenizer = _tokenizer_of(checkpoint)
    execution = choose_execution(job.runtime)
    if isinstance(job.runtime.threads, int):
        torch.set_num_threads(job.runtime.threads)
    weights_as = choose_precision(job.sample, execution.device)
    chosen = _weights_of(checkpoint, weights or job.sample.weights)
    tensors = read_tensors(checkpoint.tensor_file("model"))
    refuse_larger_model(job, tokenizer, tensors, checkpoint.reference)
    model = build_model(job, tokenizer, execution.attention)
    if chosen == "ema":
        tensors |= read_tensors(checkpoint.tensor_file("ema"))
    load_weights(model, tensors, checkpoint.reference)
    model.requires_grad_(requires_grad=False)
    return LoadedRun(
        model=model.to(execution.device).eval(),
        tokenizer=tokenizer,
        job=job,
        checkpoint=checkpoint,
        run=found.run,
        weights=chosen,
        execution=execution,
        notes=[*found.notes, *execution.notes, *weights_as.notes],
        precision=weights_as.precision,
    )


def find_checkpoint(target: str | Path, which: Which = "best") -> Found:
    """The checkpoint that is meant, compared with its manifest byte by byte; arguments and errors are those of `load_run`."""
    # Unlike pathlib's, these raise for no text: what no file system takes as a name is then no run either.
    path = Path(os.path.expanduser(target))  # noqa: PTH111
    if any(os.path.isfile(path / name) for name in (MANIFEST, checkpoint_format.PROGRESS)):  # noqa: PTH113
        return Found(checkpoint_format.open_checkpoint(path.absolute()), None)
    run = _find_run(str(target))
    if isinstance(which, int):
        return Found(_at_step(run, which), run)
    notes: list[str] = []
    checkpoint = _best(run, notes) if which == "best" else None
    if checkpoint is None:
        checkpoint = checkpoint_format.latest(run.checkpoints)
    if checkpoint is None:
        raise RunError(_no_checkpoint(run))
    notes += [f"passed over: {damage}" for damage in checkpoint.passed_over]
    return Found(checkpoint, run, notes)


def build_model(job: JobConfig, tokenizer: Tokenizer, attention: Literal["math", "fused"] = "math") -> nn.Module:
    """The job's model on the CPU; its weights are random until `load_weights`."""
    context = ModelContext(facts=_facts(job, tokenizer), attention=attention, load_pretrained=False)
    return load_object(families.MODELS[job.model.kind_name].build)(job.model, context)


def refuse_larger_model(job: JobConfig, tokenizer: Tokenizer, tensors: Mapping[str, Tensor], reference: str) -> None:
    """Compare the model that a job describes with the weights that there are: building it would allocate what it says.

    Raises:
        CheckpointError: It has so many more parameters than were saved that it is no mistake worth describing.
    """
    cost = families.COSTS.get(job.model.kind_name)
    if cost is None:
        return
    described = load_object(cost)(job.model, _facts(job, tokenizer)).parameters
    saved = sum(tensor.numel() for tensor in tensors.values())
    # A model that is only of another shape is built, so that `load_weights` can name every tensor that does not fit.
    if described > 4 * saved + HARMLESS_PARAMETERS:
        raise CheckpointError(
            f"The config.json in {reference} describes a model of {described} parameters, but {saved} were saved; "
            "they do not belong together. Restore the checkpoint from a copy."
        )


def _facts(job: JobConfig, tokenizer: Tokenizer) -> dict[str, int]:
    """What the data would tell the model, from what the checkpoint carries."""
    return {"vocab_size": tokenizer.vocab_size} | {name: value for name, value in job.data if name == "sequence_tokens"}


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], reference: str) -> None:
    """Fill a model.

    Raises:
        CheckpointError: A name or a shape does not fit; all are listed.
    """
    wanted = model.state_dict()
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
    model.load_state_dict(tensors)


def _find_run(target: str) -> RunFolder:
    path = Path(os.path.expanduser(target)).absolute()  # noqa: PTH111 - as above
    if path.parent == runs_folder():
        target = path.name
    try:
        return find_run(target)
    except RunError:
        if target in experiment_names():
            raise RunError(f"The experiment {target!r} has no run yet; start one: mlp train {target}") from None
        raise


def _best(run: RunFolder, notes: list[str]) -> CheckpointFolder | None:
    try:
        checkpoint = checkpoint_format.best(run.checkpoints)
    except CheckpointError as error:
        notes.append(f"no evaluated checkpoint is whole, so the newest is taken. {error}")
        return None
    if checkpoint is None:
        notes.append(f"no checkpoint of {run.id} has been evaluated, so the newest is taken")
    return checkpoint


def _at_step(run: RunFolder, step: int) -> CheckpointFolder:
    steps = checkpoint_format.steps_in(run.checkpoints)
    if step not in steps:
        there = f"it has: {', '.join(map(str, steps))}" if steps else "it has none yet"
        raise CheckpointError(f"{run.id} has no checkpoint of step {step} ({there}); name one of them, best or latest.")
    return checkpoint_format.open_checkpoint(steps[step])


def _no_checkpoint(run: RunFolder) -> str:
    """Why there is nothing to load yet, and where there is."""
    others = [other for other in all_runs(runs_folder()) if other.path.parent == run.path.parent and other != run]
    usable = next((other for other in others if checkpoint_format.list_complete(other.checkpoints)), None)
    older = f" Or use an older run: {usable.id}." if usable else ""
    return (
        f"The run {run.id} has no checkpoint yet. If it is training, ask for one: mlp control {run.id} save; "
        f"if it is not, go on with it: mlp train {run.path.parent.name}.{older}"
    )


def _tokenizer_of(checkpoint: CheckpointFolder) -> Tokenizer:
    folder = checkpoint.path / "tokenizer"
    if not folder.is_dir():
        raise CheckpointError(
            f"{checkpoint.reference} carries no tokenizer, so nobody can say what its ids mean; it was not trained on text."
        )
    return load_object(LOAD_TOKENIZER)(folder)


def _weights_of(checkpoint: CheckpointFolder, wanted: Weights) -> Literal["raw", "ema"]:
    has_averages = "ema" in checkpoint.groups
    if wanted == "ema" and not has_averages:
        raise CheckpointError(
            f"{checkpoint.reference} holds no averaged weights, for its run had train.ema_decay = 0; "
            "use --weights raw or auto."
        )
    return "ema" if has_averages and wanted != "raw" else "raw"
