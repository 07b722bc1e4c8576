"""What a checkpoint folder holds, and how to list, verify and open one without torch.

`step_000500/`: progress.json, config.json, hooks.json, one `<group>.safetensors` for each group of tensors (model, optimizer, and
ema where weights are averaged), attachments (tokenizer/), and MANIFEST.json, written last: names, sizes and sha256 of all others.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError

from ml_playground.core import atomic
from ml_playground.core.checkpoint_manifest import (
    MANIFEST,
    Record,
    checked_sizes,
    damage,
    read_small,
    verify,
)
from ml_playground.core.course import PLAIN, Course
from ml_playground.core.error_handling import CheckpointError
from ml_playground.core.foreign_files import json_table
from ml_playground.core.run_schema import Reason, Step, complaint
from ml_playground.core.values import BY_LOSS, Action, Merit, Progress

PROGRESS = "progress.json"
CONFIG = "config.json"
HOOKS = "hooks.json"
TENSOR_SUFFIX = ".safetensors"

_STEP_FOLDER = re.compile(r"\.?(step_(\d{6,}))(?:\.partial)?")

Owed = Literal["EVALUATE", "SAVE", "FINISH"]
"""Names of actions."""

FiniteOrZero = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ProgressFile(Record):
    """`progress.json`: where a checkpoint was taken, and the few numbers that are neither tensors nor a hook's."""

    step: Step
    max_steps: Step
    epoch: FiniteOrZero
    targets: FiniteOrZero
    elapsed_s: FiniteOrZero
    metrics: dict[str, float] | None
    """The evaluation at this very step; None when there was none."""
    lr_factor: FiniteOrZero
    data_fingerprint: str
    ending: Reason | None = None
    """Why nothing was left to do; None for a run that was to go on."""
    owed: list[Owed] = Field(default_factory=list[Owed])
    """What a stop broke off at this very step, its evaluation; the next start does it before anything else."""
    course: Course = PLAIN
    """Steps undone, batches split, and what the next step was to be judged by."""

    @property
    def progress(self) -> Progress:
        """The part that the loop and the hooks share."""
        return Progress(self.step, self.max_steps, self.epoch, self.targets, self.elapsed_s)


@dataclass(frozen=True)
class CheckpointFolder:
    """A complete checkpoint on disk."""

    path: Path
    progress: Progress
    metrics: Mapping[str, float] | None
    lr_factor: float
    data_fingerprint: str
    groups: Sequence[str]
    """Its groups of tensors: "model", "optimizer", and "ema" where weights are averaged."""
    ending: Reason | None = None
    """Why nothing was left to do; None for a run that was to go on."""
    owed: Action = Action.NONE
    """What a stop broke off at this very step."""
    course: Course = PLAIN
    """Steps undone, batches split, and what the next step was to be judged by."""
    passed_over: Sequence[str] = ()
    """Damaged checkpoints that would have come first, in words."""

    @property
    def reference(self) -> str:
        """What messages call it: its path."""
        return str(self.path)

    @property
    def config(self) -> str:
        """The resolved job as JSON, as it was saved.

        Raises:
            CheckpointError: `config.json` is missing or no text.
        """
        try:
            return read_small(self.path, CONFIG).decode()
        except UnicodeDecodeError as error:
            raise damage(self.path, CONFIG, f"is no text ({error})") from error

    @property
    def hooks(self) -> Mapping[str, Mapping[str, Any]]:
        """State of each hook, by its name.

        Raises:
            CheckpointError: `hooks.json` is missing, or no JSON object of objects.
        """
        try:
            hooks = json_table(read_small(self.path, HOOKS))
        except ValueError as error:
            raise damage(self.path, HOOKS, f"is not what hooks remember ({error})") from error
        for name, state in hooks.items():
            if not isinstance(state, dict):
                raise damage(self.path, HOOKS, f"holds no table for {name!r}")
        return hooks

    def tensor_file(self, group: str) -> Path:
        """The safetensors file of a group.

        Raises:
            CheckpointError: The checkpoint has no such group; lists those it has.
        """
        if group not in self.groups:
            raise CheckpointError(f"{self.path} holds no tensors {group!r} (it holds: {', '.join(self.groups)}).")
        return self.path / f"{group}{TENSOR_SUFFIX}"


def owed_names(owed: Action) -> list[Owed]:
    """As `progress.json` holds them."""
    return [name for name in get_args(Owed) if Action[name] in owed]


def _actions(names: Iterable[Owed]) -> Action:
    actions = Action.NONE
    for name in names:
        actions |= Action[name]
    return actions


def step_folder_name(step: int) -> str:
    """`step_000500`: sorts by step up to a million, and stays readable beyond."""
    return f"step_{step:06d}"


def steps_in(folder: Path) -> dict[int, Path]:
    """Step -> folder of everything that looks like a checkpoint, oldest first; none is opened."""
    found: dict[int, Path] = {}
    for entry in folder.iterdir() if folder.is_dir() else ():
        match = _STEP_FOLDER.fullmatch(entry.name)
        if match and match[1] == step_folder_name(int(match[2])):
            path = atomic.standing(folder / match[1])
            if path.is_dir():
                found[int(match[2])] = path
    return dict(sorted(found.items()))


def open_unverified(path: Path) -> CheckpointFolder:
    """A checkpoint whose files are there and have the right sizes; their content is not read, but for `progress.json`.

    Raises:
        CheckpointError: It is missing or incomplete, or a file is missing, too short or not in the manifest; names the file.
    """
    files = checked_sizes(path)
    for required in (PROGRESS, CONFIG, HOOKS):
        if required not in files:
            raise damage(path, MANIFEST, f"does not list {required}")
    try:
        saved = ProgressFile.model_validate_json(read_small(path, PROGRESS))
    except ValidationError as error:
        raise damage(path, PROGRESS, f"is not as it was written ({complaint(error)})") from error
    named = _STEP_FOLDER.fullmatch(path.name)
    if named and int(named[2]) != saved.step:
        raise CheckpointError(
            f"{path} was saved at step {saved.step}, not {int(named[2])}; rename it to {step_folder_name(saved.step)}."
        )
    return CheckpointFolder(
        path=path,
        progress=saved.progress,
        metrics=saved.metrics,
        lr_factor=saved.lr_factor,
        data_fingerprint=saved.data_fingerprint,
        ending=saved.ending,
        owed=_actions(saved.owed),
        course=saved.course,
        groups=sorted(name.removesuffix(TENSOR_SUFFIX) for name in files if _is_group(name)),
    )


def open_checkpoint(path: Path) -> CheckpointFolder:
    """A checkpoint that was compared with its manifest, byte by byte.

    Raises:
        CheckpointError: As `verify`.
    """
    verify(path)
    return open_unverified(path)


def list_complete(folder: Path) -> list[CheckpointFolder]:
    """The complete checkpoints, oldest first, judged by names and sizes; a flipped byte is found by `latest`, `best`, `verify`."""
    return list(_complete(steps_in(folder).values()))


def latest(folder: Path) -> CheckpointFolder | None:
    """The newest whole checkpoint; `passed_over` names the damaged ones that are newer. None where there is none at all.

    Raises:
        CheckpointError: There are some, and all are damaged; names what is wrong with each.
    """
    return first_whole(reversed(steps_in(folder).values()))


def best(folder: Path, merit: Merit = BY_LOSS) -> CheckpointFolder | None:
    """The whole checkpoint with the best evaluation, the newest of equals. None where none was evaluated.

    Raises:
        CheckpointError: All that were evaluated are damaged; names what is wrong with each.
    """
    evaluated = [(merit.cost_of(checkpoint.metrics), checkpoint) for checkpoint in list_complete(folder)]
    numbers = [(cost, -checkpoint.progress.step, checkpoint) for cost, checkpoint in evaluated if not math.isnan(cost)]
    return first_whole(checkpoint.path for _, _, checkpoint in sorted(numbers, key=lambda row: row[:2]))


def first_whole(paths: Iterable[Path]) -> CheckpointFolder | None:
    """The first of some checkpoints that is whole; None where there are none.

    Raises:
        CheckpointError: There are some, and all are damaged; names what is wrong with each.
    """
    passed_over: list[str] = []
    for path in paths:
        try:
            return replace(open_checkpoint(path), passed_over=tuple(passed_over))
        except CheckpointError as error:
            passed_over.append(str(error))
    if passed_over:
        raise CheckpointError("No whole checkpoint is left. " + " ".join(passed_over))
    return None


def _complete(paths: Iterable[Path]) -> Iterator[CheckpointFolder]:
    for path in paths:
        try:
            yield open_unverified(path)
        except CheckpointError:
            # A listing shows what can be used; whoever opens a damaged one is told what is wrong with it.
            continue


def _is_group(name: str) -> bool:
    return name.endswith(TENSOR_SUFFIX) and "/" not in name
