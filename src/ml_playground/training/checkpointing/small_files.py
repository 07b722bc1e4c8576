"""What a checkpoint holds beside its tensors: progress, settings, what hooks remember, attached folders."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_playground.core.checkpoint_format import CONFIG, HOOKS, PROGRESS, ProgressFile, owed_names
from ml_playground.core.error_handling import CheckpointError
from ml_playground.core.foreign_files import MOST_JSON_BYTES, json_table
from ml_playground.core.storage_errors import readable_size
from ml_playground.training.checkpoint_protocols import Snapshot


def small_files_of(snapshot: Snapshot) -> Mapping[str, bytes]:
    """Name -> content of everything but tensors and manifest.

    Raises:
        CheckpointError: A folder to be attached is gone, or what a hook remembers could not be read back.
    """
    progress = snapshot.progress
    record = ProgressFile(
        step=progress.step,
        max_steps=progress.max_steps,
        epoch=progress.epoch,
        targets=progress.targets,
        elapsed_s=progress.elapsed_s,
        metrics=None if snapshot.metrics is None else dict(snapshot.metrics),
        lr_factor=snapshot.lr_factor,
        ending=snapshot.ending,
        owed=owed_names(snapshot.owed),
        course=snapshot.course,
        data_fingerprint=snapshot.data_fingerprint,
    )
    attachments = {
        f"{name}/{file.relative_to(folder).as_posix()}": file.read_bytes()
        for name, folder in sorted(snapshot.attachments.items())
        for file in _files_under(folder)
    }
    return attachments | {
        PROGRESS: record.model_dump_json(indent=1).encode(),
        CONFIG: snapshot.config.encode(),
        HOOKS: _hooks_file(snapshot.hooks),
    }


def _hooks_file(hooks: Mapping[str, Mapping[str, Any]]) -> bytes:
    """What hooks remember, as JSON that a resume will read.

    Raises:
        CheckpointError: It is too much, or nested too deep; names the hook that remembers most.
    """
    texts = {name: json.dumps(state) for name, state in hooks.items()}
    content = "{\n" + ",\n".join(f"{json.dumps(name)}: {text}" for name, text in texts.items()) + "\n}\n"
    if len(content) > MOST_JSON_BYTES:
        most = max(texts, key=lambda name: len(texts[name]))
        raise CheckpointError(
            f"What the hooks remember takes {readable_size(len(content))}, most of it the hook {most!r} "
            f"({readable_size(len(texts[most]))}); a checkpoint holds {readable_size(MOST_JSON_BYTES)} of it at most, else no run "
            f"could go on from it. Switch the hook off (--set hooks.{most}.enabled=false), or let it keep large things in files."
        )
    try:
        json_table(content)
    except ValueError as error:
        raise CheckpointError(f"What the hooks remember could not be read back from a checkpoint: {error}.") from error
    return content.encode()


def _files_under(folder: Path) -> Sequence[Path]:
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder} is gone, and every checkpoint carries a copy of it; restore it, or prepare the data again."
        )
    return sorted(file for file in folder.rglob("*") if file.is_file())
