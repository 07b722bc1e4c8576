"""`mlp export --kind hugging_face`: a folder for the transformers library, proved before it gets its name."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ml_playground.core import atomic
from ml_playground.core.atomic import write_file
from ml_playground.core.chat_facts import NAME as FACTS
from ml_playground.core.chat_facts import TEMPLATE_NAME as TEMPLATE
from ml_playground.core.chat_facts import has_chat_facts, read_chat_facts
from ml_playground.core.error_handling import CheckpointError, ConfigError
from ml_playground.core.humanise import json_text
from ml_playground.core.installation import installed_version
from ml_playground.core.registry import load_object
from ml_playground.core.storage_errors import storage_errors
from ml_playground.export.model_folder import Dtype, write_generation, write_model
from ml_playground.export.parity import COMPARED_TOKENS, Parity, Probe, Reopened, Trained, compare, divergence
from ml_playground.models.hugging_face.folder import files_sha256
from ml_playground.models.weights.shards import LARGEST_FILE_BYTES

LIBRARY_FILES = "ml_playground.tokenization.library_files:library_files"
REOPENED = "ml_playground.export.reopened:ReopenedFolder"
MERGE = "ml_playground.models.adapters.merging:merge_adapter"

PARITY, CARD, TOKENIZER_CONFIG = "parity.json", "README.md", "tokenizer_config.json"


@dataclass(frozen=True, slots=True)
class Exportable:
    """A model, and what goes with it."""

    kind: str
    """Of the model, as `model.kind` says."""
    model: nn.Module
    """An adapter beside its weights is merged into them, and they are rounded to the type of the folder, in place."""
    trained: Trained
    """The same model, as it is run."""
    tokenizer: Path | None
    """Its folder; none: the model is exported alone."""
    bos: int | None = None
    pad: int | None = None
    unknown: Sequence[int] = ()
    """Ids that the model has and its tokenizer has not."""
    adapted: bool = False
    """Whether there is an adapter."""


@dataclass(frozen=True, slots=True)
class Rounding:
    """What the type of the folder changes, against the float32 of the checkpoint."""

    largest_change: float
    """Of a logit."""
    divergence_nats: float
    """Of the predictions, a token."""


@dataclass(frozen=True, slots=True)
class Report:
    """What stands in parity.json."""

    compared: str
    """Which rows."""
    dtype: Dtype
    parity: Parity
    rounding: Rounding | None
    """None in float32, which is not rounded."""
    merging: float | None
    """Largest change of a logit by merging the adapter; none: there was no adapter."""
    sha256: Mapping[str, str]
    """Of what it was made of, by name, and of `folder`: what model.files_sha256 of a job says that reads it."""
    versions: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "schema_version": 1,
            "compared": self.compared,
            "dtype": self.dtype,
            **self.parity.as_json(),
            "rounding": self.rounding and asdict(self.rounding),
            "merging": self.merging,
            "sha256": dict(self.sha256),
            "versions": dict(self.versions),
        }


def export_folder(
    what: Exportable,
    out: Path,
    *,
    probes: Sequence[Probe],
    compared: str,
    card: Callable[[Report], str],
    dtype: Dtype = "float32",
    largest_file_bytes: int = LARGEST_FILE_BYTES,
    sources: Mapping[str, str] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Write the folder, open it again with transformers alone, compare, and only then give it its name.

    Args:
        what: The model.
        out: A folder; one that is there is replaced.
        probes: Rows that both sides read, at least one.
        compared: Where they come from, for the report.
        card: The text of README.md.
        dtype: Of the tensors in the folder.
        largest_file_bytes: Of tensors in one file.
        sources: The sha256 of what the model was made of, by name, for the report.
        progress: Told what is done at the moment.

    Raises:
        ConfigError: The library has no such model, or no such tokenizer.
        CheckpointError: What was written is not what was trained; nothing is left.
        StorageError: It could not be written.
    """
    files = {} if what.tokenizer is None else tokenizer_files(what.tokenizer)
    progress("computing what it has to give")
    before, merged = _merged(what, probes)
    with atomic.folder(out) as folder:
        progress("writing the tensors")
        write_model(what.kind, what.model, folder, dtype=dtype, largest_file_bytes=largest_file_bytes)
        write_generation(folder, sorted(what.trained.stop_ids), bos=what.bos, pad=what.pad, unknown=what.unknown)
        for name, content in files.items():
            write_file(folder / name, content)
        parity = _reopened(what, folder, probes, with_tokenizer=bool(files), progress=progress)
        merging = _largest_change(before, merged) if what.adapted else None
        _refuse(parity, merging)
        rounding = None if dtype == "float32" else _rounding(merged, _logits(what.trained, probes))
        hashes = {**(sources or {}), "folder": files_sha256(folder)}
        report = Report(compared, dtype, parity, rounding, merging, hashes, _versions())
        write_file(folder / PARITY, json_text(report.as_json()) + "\n")
        write_file(folder / CARD, card(report))
    return report


def _merged(what: Exportable, probes: Sequence[Probe]) -> tuple[list[Tensor], list[Tensor]]:
    """Logits as they were trained, and with an adapter merged into the weights."""
    before = _logits(what.trained, probes)
    if not what.adapted:
        return before, before
    load_object(MERGE)(what.model)
    return before, _logits(what.trained, probes)


def _reopened(
    what: Exportable, folder: Path, probes: Sequence[Probe], *, with_tokenizer: bool, progress: Callable[[str], None]
) -> Parity:
    """The comparison of what was trained with what transformers opens."""
    progress("opening the folder with transformers")
    with storage_errors(folder):
        reopened: Reopened = load_object(REOPENED)(folder, with_tokenizer=with_tokenizer)
    return compare(what.trained, reopened, probes, lambda done: progress(f"{done} of {len(probes)} rows compared"))


def tokenizer_files(folder: Path) -> dict[str, bytes]:
    """What AutoTokenizer reads, of a tokenizer of ours; with the template of its chats, where it was trained on such, and chat.json.

    Raises:
        ConfigError: The library `tokenizers` has no rules that are equal to this tokenizer's.
        DataError: The folder holds no whole tokenizer.
    """
    files: dict[str, bytes] = load_object(LIBRARY_FILES)(folder)
    if has_chat_facts(folder):
        # What `mlp chat` reads; the held-out chats are data, which are not given away with a model.
        files[FACTS] = read_chat_facts(folder).model_copy(update={"held_out": ()}).text.encode()
    template = folder / TEMPLATE
    if template.is_file():
        files[TEMPLATE] = template.read_bytes()
        # In a rendered chat marks are marks.
        config: dict[str, Any] = json.loads(files[TOKENIZER_CONFIG])
        config.pop("split_special_tokens", None)
        config.pop("chat_template", None)
        files[TOKENIZER_CONFIG] = (json.dumps(config, indent=2, sort_keys=True) + "\n").encode()
    return files


def refuse_place(out: Path, *, force: bool) -> None:
    """Say no before anything is computed.

    Raises:
        ConfigError: Something lies there that is no export, or an export that may not be replaced.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / PARITY).is_file():
        raise ConfigError(
            f"{out} is there and holds something else than an export (there is no {PARITY}); it is left alone. "
            "Name another folder: --out FOLDER"
        )
    if not force:
        raise ConfigError(f"{out} holds an export already; replace it with --force, or name another one: --out FOLDER")


def _logits(trained: Trained, probes: Sequence[Probe]) -> list[Tensor]:
    most = min(COMPARED_TOKENS, trained.max_context or COMPARED_TOKENS)
    return [trained.logits(probe.ids[:most]) for probe in probes]


def _largest_change(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    return max((one - other).abs().max().item() for one, other in zip(before, after, strict=True))


def _rounding(before: Sequence[Tensor], after: Sequence[Tensor]) -> Rounding:
    nats = sum(divergence(one, other) * len(one) for one, other in zip(before, after, strict=True))
    return Rounding(_largest_change(before, after), nats / sum(map(len, before)))


def _refuse(parity: Parity, merging: float | None) -> None:
    problems = list(parity.problems())
    if merging is not None and not merging <= parity.allowed_difference:
        problems.append(
            f"merging the adapter moves logits by {merging:.3g}, rounding explains {parity.allowed_difference:.3g}"
        )
    if problems:
        raise CheckpointError(
            "The folder, opened with transformers alone, is not the model that was trained: "
            + "; ".join(problems)
            + ". It was not kept. If the tokenizer is to blame, --without-tokenizer exports the model alone."
        )


def _versions() -> dict[str, str]:
    names = ("ml-playground", "torch", "transformers", "tokenizers", "safetensors")
    return {name: version for name in names if (version := installed_version(name)) is not None}
