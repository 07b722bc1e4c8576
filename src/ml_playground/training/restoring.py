"""From a checkpoint to the place where the loop goes on."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from ml_playground.configuration.models import JobConfig
from ml_playground.configuration.problems import recorded
from ml_playground.core.course import PLAIN, RollBack, Split
from ml_playground.core.error_handling import CheckpointError, ConfigError, DataError
from ml_playground.core.run_folder import RunFolder
from ml_playground.core.run_schema import Result, complaint
from ml_playground.core.values import Action, Merit
from ml_playground.training.checkpoint_protocols import OpenCheckpoint, Saved
from ml_playground.training.checkpointing.best import BestSoFar
from ml_playground.training.guard import Guard, cut_of, recipe_of
from ml_playground.training.protocols import JobResult, Learner
from ml_playground.training.resume import differences
from ml_playground.training.stretch import Ending, Start, WentBack


def finished_before(run: RunFolder) -> JobResult:
    """How a run that is finished had ended."""
    result = Result.model_validate_json(run.result.read_bytes())
    return JobResult(
        result.reason, run.path, result.step, result.max_steps, result.metrics, result.message, nothing_to_do=True
    )


def ended_before(checkpoint: OpenCheckpoint | None, job: JobConfig) -> Ending | None:
    """The end of a run that was killed between its last save and its result; none where other settings send it on.

    Raises:
        CheckpointError: The job in the checkpoint cannot be read.
    """
    if checkpoint is None or checkpoint.ending is None or _branches(checkpoint, job):
        return None
    return Ending(checkpoint.ending, checkpoint.progress.step, checkpoint.metrics or {})


def owed_by(start: Start, checkpoint: OpenCheckpoint | None, job: JobConfig) -> Start:
    """Where other settings send a run on, it does not end for what the former ones owed; the evaluation is made all the same.

    Raises:
        CheckpointError: The job in the checkpoint cannot be read.
    """
    if checkpoint is None or Action.FINISH not in checkpoint.owed or not _branches(checkpoint, job):
        return start
    return replace(start, owed=start.owed & ~Action.FINISH)


def _branches(checkpoint: OpenCheckpoint, job: JobConfig) -> bool:
    """Whether a run goes on from a checkpoint under other settings than it was saved with."""
    try:
        saved = recorded(checkpoint.config, checkpoint.reference)
    except ValidationError as error:
        raise CheckpointError(
            f"The job in {checkpoint.reference} cannot be read ({complaint(error)}); restore it from a copy."
        ) from error
    # Not what the run folder says: a branch that is killed before its first save has left its own settings there.
    return any(difference.lock != "free" for difference in differences(saved, job))


def guard_of(
    job: JobConfig,
    checkpoint: OpenCheckpoint | None,
    roll_backs: Sequence[RollBack],
    splits: Sequence[Split],
    went_back: WentBack | None,
) -> Guard:
    """The guard of a run that goes on from a checkpoint.

    Args:
        job: The resolved job.
        checkpoint: Knows the course up to its step; none: the run begins.
        roll_backs: Those of the journal, in their order; what the checkpoint knows may be among them.
        splits: The same of splits.
        went_back: Whence this process comes: what a full disk kept from the journal is not forgotten, and not tried for ever.
    """
    saved = PLAIN if checkpoint is None else checkpoint.course
    later = PLAIN if went_back is None else went_back.course
    # A batch is set aside once, whoever remembers it.
    undone = {one.batches: one for one in (*saved.roll_backs, *roll_backs, *later.roll_backs)}
    split = dict.fromkeys((*saved.splits, *splits, *later.splits))
    course = saved.model_copy(update={"roll_backs": tuple(undone.values()), "splits": tuple(split)})
    return Guard(job.train, cut_of(job), course, recipe_of(job))


def going_on(start: Start, went_back: WentBack | None) -> Start:
    """Where the loop goes on; the seconds that an undone step took are spent."""
    return start if went_back is None else replace(start, elapsed_s=max(start.elapsed_s, went_back.elapsed_s))


def restore(
    learner: Learner[Any],
    checkpoint: OpenCheckpoint | None,
    saved: Sequence[Saved],
    data_fingerprint: str,
    max_steps: int,
    merit: Merit,
) -> Start:
    """Load a checkpoint into the learner; where the loop is to go on, and what is the best so far by that merit.

    Raises:
        ConfigError: The run is to end before the step of the checkpoint.
        DataError: It was trained on other data.
        CheckpointError: Its tensors do not fit the learner.
    """
    if checkpoint is None:
        return Start(best=BestSoFar(merit))
    progress = checkpoint.progress
    if progress.step > max_steps:
        raise ConfigError(
            f"{checkpoint.reference} was taken at step {progress.step}, but the run is now to end at step {max_steps}; "
            f"set train.max_steps to {progress.step} or more, or begin a new run: --fresh."
        )
    if checkpoint.data_fingerprint != data_fingerprint:
        raise DataError(
            f"{checkpoint.reference} was trained on other data (fingerprint {checkpoint.data_fingerprint[:12]}, "
            f"the prepared data now have {data_fingerprint[:12]}); prepare the former data again, or start with --fresh."
        )
    learner.load_state_dict(checkpoint.tensors())
    costs = [merit.cost_of(one.metrics) for one in saved]
    return Start(
        step=progress.step,
        targets=progress.targets,
        elapsed_s=progress.elapsed_s,
        lr_factor=checkpoint.lr_factor,
        best=BestSoFar(merit, min((cost for cost in costs if not math.isnan(cost)), default=math.inf)),
        metrics=checkpoint.metrics or {},
        owed=checkpoint.owed,
    )
