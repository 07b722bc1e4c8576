"""From a run's name to a model that can write: everything is read from one checkpoint, verified, and nothing guessed."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from ml_playground.configuration import families
from ml_playground.configuration.loading import experiment_names
from ml_playground.configuration.models import JobConfig
from ml_playground.configuration.origins import Layer
from ml_playground.core import checkpoint_format
from ml_playground.core.checkpoint_format import CheckpointFolder
from ml_playground.core.checkpoint_manifest import MANIFEST, checked_sizes
from ml_playground.core.error_handling import CheckpointError, ConfigError, RunError
from ml_playground.core.registry import did_you_mean, load_object
from ml_playground.core.run_folder import RunFolder, all_runs, cache_folder, find_run, runs_folder
from ml_playground.core.tokenizer_protocol import Tokenizer
from ml_playground.core.torch_tensors import read_tensors
from ml_playground.core.values import BY_LOSS
from ml_playground.models.layers.packed_linear import Precision
from ml_playground.models.protocols import Decoder
from ml_playground.sampling.building import build_model, load_weights, refuse_larger_model
from ml_playground.sampling.execution import Execution, choose_execution, choose_precision
from ml_playground.sampling.foreign import (
    foreign_checkpoint,
    foreign_folder,
    foreign_job,
    foreign_model,
    foreign_tokenizer,
)
from ml_playground.sampling.preview import LOAD_TOKENIZER
from ml_playground.sampling.recorded import FOR_SAMPLES, job_on_record, recorded_job

Which = Literal["best", "latest"] | int
"""Which checkpoint of a run: the best by `checkpointing.best_by`, the newest, or the one of a step."""
Weights = Literal["auto", "raw", "ema"]


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
        if not self.checkpoint.groups:
            # A model from elsewhere: no engine but the library that defines it knows its layers, so none exports it.
            return cache_folder() / "export" / "foreign"
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
    """The model of a run or of a checkpoint, or one from elsewhere.

    Args:
        target: A run's folder or id, an experiment (its newest run), a checkpoint's folder, or a Hugging Face folder.
        which: Which of a run's checkpoints; of a checkpoint or a model folder that is named itself no other step can be taken.
        weights: `auto` takes the averaged ones where there are some; none: as `sample.weights` says.
        layers: Laid over the recorded job.
        open_keys: What they may set: keys, or sections as a whole.

    Raises:
        RunError: No such run, or it has no checkpoint yet.
        CheckpointError: No whole checkpoint, no such step, or its parts do not fit together.
        ConfigError: The recorded job or a layer cannot be read.
    """
    if (folder := foreign_folder(target)) is not None:
        _refuse_another_step(str(folder), None, which)
        return _load_foreign(folder, weights, layers, open_keys)
    found = find_checkpoint(target, which)
    checkpoint = found.checkpoint
    job = recorded_job(checkpoint.path / checkpoint_format.CONFIG, layers, open_keys)
    _refuse_classifier(job, found)
    tokenizer = _tokenizer_of(checkpoint)
    execution = _execution_of(job)
    chosen = chosen_weights(checkpoint, weights or job.sample.weights)
    tensors = read_tensors(checkpoint.tensor_file("model"))
    refuse_larger_model(job, tokenizer, tensors, checkpoint.reference)
    model = build_model(job, tokenizer, execution.attention)
    if chosen == "ema":
        tensors |= read_tensors(checkpoint.tensor_file("ema"))
    load_weights(model, tensors, checkpoint.reference)
    return _loaded(model, tokenizer, job, found, chosen, execution)


def _load_foreign(
    folder: Path, weights: Weights | None, layers: Sequence[Layer], open_keys: Sequence[str]
) -> LoadedRun:
    job = foreign_job(folder, layers, open_keys)
    if (weights or job.sample.weights) == "ema":
        raise CheckpointError(f"{folder} holds no averaged weights; use --weights raw or auto.")
    tokenizer = foreign_tokenizer(job)
    execution = _execution_of(job)
    model = foreign_model(job, tokenizer, execution)
    return _loaded(model, tokenizer, job, Found(foreign_checkpoint(folder), None), "raw", execution)


def _execution_of(job: JobConfig) -> Execution:
    if isinstance(job.runtime.threads, int):
        torch.set_num_threads(job.runtime.threads)
    return choose_execution(job.runtime)


def _loaded(
    model: nn.Module,
    tokenizer: Tokenizer,
    job: JobConfig,
    found: Found,
    weights: Literal["raw", "ema"],
    execution: Execution,
) -> LoadedRun:
    """Ready to be run, where the job says."""
    weights_as = choose_precision(job.sample, execution.device)
    model.requires_grad_(requires_grad=False)
    return LoadedRun(
        model=model.to(execution.device).eval(),
        tokenizer=tokenizer,
        job=job,
        checkpoint=found.checkpoint,
        run=found.run,
        weights=weights,
        execution=execution,
        notes=[*found.notes, *execution.notes, *weights_as.notes],
        precision=weights_as.precision,
    )


def find_checkpoint(target: str | Path, which: Which = "best") -> Found:
    """The checkpoint that is meant, compared with its manifest byte by byte; arguments and errors are those of `load_run`."""
    # Unlike pathlib's, these raise for no text: what no file system takes as a name is then no run either.
    path = Path(os.path.expanduser(target))  # noqa: PTH111
    if any(os.path.isfile(path / name) for name in (MANIFEST, checkpoint_format.PROGRESS)):  # noqa: PTH113
        named = checkpoint_format.open_checkpoint(path.absolute())
        _refuse_another_step(named.reference, named.progress.step, which)
        return Found(named, None)
    run = run_meant(str(target))
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


def run_meant(target: str) -> RunFolder:
    """The run that a command means.

    Raises:
        RunError: There is none.
    """
    path = Path(os.path.expanduser(target)).absolute()  # noqa: PTH111 - as above
    if path.parent == runs_folder():
        target = path.name
    try:
        return find_run(target)
    except RunError as error:
        names = experiment_names()
        if target in names:
            raise RunError(f"The experiment {target!r} has no run yet; start one: mlp train {target}") from None
        if "did you mean" not in str(error) and (near := did_you_mean(target, names)):
            raise RunError(f"{error}{near} It is an experiment, which must be trained first.") from None
        raise


def _best(run: RunFolder, notes: list[str]) -> CheckpointFolder | None:
    job = job_on_record(run.config)
    try:
        checkpoint = checkpoint_format.best(run.checkpoints, BY_LOSS if job is None else job.merit)
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


def _refuse_another_step(named: str, step: int | None, which: Which) -> None:
    """One checkpoint or a model from elsewhere was named, so that there is nothing to choose from."""
    if isinstance(which, int) and which != step:
        what = "a model's folder and has no steps" if step is None else f"the checkpoint of step {step} alone"
        raise CheckpointError(
            f"{named} is {what}, so step {which} cannot be taken; leave out --checkpoint, or name a run."
        )


def _no_checkpoint(run: RunFolder) -> str:
    """Why there is nothing to load yet, and where there is."""
    others = [other for other in all_runs(runs_folder()) if other.path.parent == run.path.parent and other != run]
    usable = next((other for other in others if checkpoint_format.list_complete(other.checkpoints)), None)
    older = f" Or use an older run: {usable.id}." if usable else ""
    return (
        f"The run {run.id} has no checkpoint yet. If it is training, ask for one: mlp control {run.id} save; "
        f"if it is not, go on with it: mlp train {run.path.parent.name}.{older}"
    )


def _refuse_classifier(job: JobConfig, found: Found) -> None:
    if job.prepare.source.modality == "images":
        name = found.run.id if found.run else found.checkpoint.reference
        raise ConfigError(
            f"{name} tells images apart (objective.kind = {job.objective.kind_name!r}) and writes no text; to see how well it "
            f"does: mlp evaluate {name}"
        )


def _tokenizer_of(checkpoint: CheckpointFolder) -> Tokenizer:
    folder = checkpoint.path / "tokenizer"
    if not folder.is_dir():
        raise CheckpointError(
            f"{checkpoint.reference} carries no tokenizer, so nobody can say what its ids mean; it was not trained on text."
        )
    return load_object(LOAD_TOKENIZER)(folder)


def chosen_weights(checkpoint: CheckpointFolder, wanted: Weights) -> Literal["raw", "ema"]:
    """The averaged weights where there are some, unless others are wanted.

    Raises:
        CheckpointError: They are wanted, and there are none.
    """
    has_averages = "ema" in checkpoint.groups
    if wanted == "ema" and not has_averages:
        raise CheckpointError(
            f"{checkpoint.reference} holds no averaged weights, for its run had train.ema_decay = 0; "
            "use --weights raw or auto."
        )
    return "ema" if has_averages and wanted != "raw" else "raw"
