"""Readers of runs, checkpoints, data sets and tokenizers, each over a folder in which one file is replaced."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from ml_playground.commands.control import takes_requests
from ml_playground.commands.runs import as_json, cells_of
from ml_playground.core.atomic import write_file
from ml_playground.core.checkpoint_format import CheckpointFolder, latest, list_complete, open_checkpoint
from ml_playground.core.deps import Deps, SystemClock
from ml_playground.core.machine_rates import ROWS, _rows
from ml_playground.core.run_folder import RunFolder
from ml_playground.core.torch_tensors import read_tensors, write_tensors
from ml_playground.data_pipeline.books import open_books
from ml_playground.data_pipeline.manifest import open_prepared, read_manifest
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.data_pipeline.text_dataset import TextManifest
from ml_playground.models.weights.hugging_face import load_hugging_face, to_hugging_face
from ml_playground.monitoring.reader import list_runs, read_run
from ml_playground.monitoring.report import report_of
from ml_playground.sampling.recorded import recorded_job
from ml_playground.tokenization.loading import load_tokenizer
from ml_playground.training.hooks.control import ControlHook
from ml_playground.training.hooks.journal import EventJournal
from ml_playground.training.settings import Control
from tests.fakes import run_folder
from tests.fakes.hooks import Told, event, hook_context
from tests.fakes.trained_run import TEXT, job_of, save_run
from tests.fuzzing.sealing import seal
from tests.fuzzing.targets import Target
from tests.unit.models.test_gpt import VARIANTS, model_of


def folder_targets(folder: Path) -> Iterator[Target]:
    """All of them; MLP_HOME must be a folder of their own."""
    yield from _runs(folder / "runs")
    yield from _tokenizers(folder / "tokenizers")
    yield from _data(folder / "data")
    yield from _checkpoints(folder / "checkpoints")
    yield from _tensors(folder / "tensors")


def _replacing(file: Path, read: Callable[[], Any]) -> Callable[[bytes], Any]:
    """Writes an input to a file, then reads what it is part of."""

    def replace_and_read(content: bytes) -> Any:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return read()

    return replace_and_read


def _runs(folder: Path) -> Iterator[Target]:
    """What viewers read: each file of a run, and all that is made of it."""
    job = job_of(folder / "books")
    books = open_books(prepare(job.prepare, Deps()).folder, job.data).as_json()
    for name in ("status", "result", "metrics", "events", "config", "environment", "live", "drawn", "text"):
        run = run_folder.bare_run("fuzzed", f"20260102-030405-{name}")
        _fill(run, books)
        path = {
            "live": run.samples / "live.jsonl",
            "drawn": run.samples / "20260102-000000-aaaa.json",
            "text": run.samples / "20260102-000000-bbbb.txt",
        }.get(name) or getattr(run, name)
        yield Target(f"run.{path.name}", (path.read_bytes(),), _replacing(path, _viewer(run)))
    context = hook_context(folder)
    request = context.run.control / "a.json"
    hook = ControlHook(Control(every_seconds=0), context, Told())
    requests = tuple(json.dumps({"action": "set_lr_factor", "lr_factor": factor}).encode() for factor in (0.5, 2))
    yield Target(
        "control", (*requests, b'{"action": "pause"}'), _replacing(request, lambda: repr(hook.on_step(event(1))))
    )
    journal = hook_context(folder / "journal").run
    wish = {
        "time": "2026-01-02T03:04:05Z",
        "step": 3,
        "kind": "wish",
        "data": {"lr_factor": 0.5, "actions": ["EVALUATE"]},
    }
    rolled_back = {**wish, "kind": "rolled_back", "data": {"step": 3, "batches": [1, 2], "why": "nan", "cut": "c"}}
    split = {**wish, "kind": "split", "data": {"phase": "training", "step": 3, "parts": 2, "cut": "c"}}
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in (wish, rolled_back, split))
    yield Target(
        "journal", (lines, json.dumps(wish).encode() + b"\n"), _replacing(journal.events, lambda: _obeyed(journal))
    )


def _fill(run: RunFolder, books: Mapping[str, Any]) -> None:
    run_folder.put_status(run)
    run_folder.put_result(run, metrics={"loss": 2.5})
    run_folder.put_rows(run, 3, every=1)
    run_folder.put_event(run, "started", parameters="1,234")
    run_folder.put_event(run, "budget", 3, minutes=1.0, used=True, expected=2.5, low=2.0, high=3.0, error=0.1)
    run_folder.put_sample(run, 2, "or not to be")
    run_folder.put_drawn(run, "that is", "20260102-000000-aaaa.json")
    write_file(run.samples / "20260102-000000-bbbb.txt", "the question")
    record = {"packages": {"torch": "2.13.0"}, "device": "cpu", "threads": 2, "seed": 1, "data": books}
    write_file(run.environment, json.dumps(record))


def _viewer(run: RunFolder) -> Callable[[], Any]:
    def look() -> Any:
        for summary in list_runs(run.path.parents[1], "fuzzed"):
            if summary.run == run:
                cells_of(summary)
                json.dumps(as_json(summary))
        takes_requests(run)
        return len(report_of(read_run(run)))

    return look


def _obeyed(run: RunFolder) -> str:
    journal = EventJournal(run, SystemClock())
    last = min(journal.last_step, 1000)
    factors = [journal.recorded(step).lr_factor for step in range(last + 1)]
    if any(factor is not None and not (factor >= 0) for factor in factors):
        raise AssertionError(f"would multiply the learning rate with {factors}")
    return repr(factors)


def _tokenizers(folder: Path) -> Iterator[Target]:
    for kind in ("char", "byte", "ngram", "byte_bpe"):
        made = prepare(job_of(folder / kind, tokenizer=kind).prepare, Deps()).tokenizer_folder / "tokenizer.json"
        file = folder / kind / "read" / "tokenizer.json"
        yield Target(
            f"tokenizer.{kind}",
            (made.read_bytes(),),
            _replacing(file, lambda file=file: _used(file)),
            lambda used: used[1],
        )


def _used(file: Path) -> tuple[str, bytes]:
    """Fingerprint and content of a tokenizer that has done its work."""
    tokenizer = load_tokenizer(file.parent)
    ids = tokenizer.encode(TEXT[:200])
    if any(not 0 <= index < tokenizer.vocab_size for index in ids):
        raise AssertionError(f"ids beyond the vocabulary: {ids}")
    tokenizer.decode(ids)
    if len(tokenizer.token_bytes()) != tokenizer.vocab_size:
        raise AssertionError("not every id has its bytes counted")
    tokenizer.save(file.parent)
    return tokenizer.fingerprint, file.read_bytes()


def _data(folder: Path) -> Iterator[Target]:
    prepared = prepare(job_of(folder).prepare, Deps())
    file = prepared.folder / "dataset.json"
    seeds = (file.read_bytes(),)
    yield Target(
        "dataset.json", seeds, _replacing(file, lambda: read_manifest(prepared.folder).model_dump_json()), str.encode
    )

    def sealed(content: bytes) -> Any:
        """The same from somebody who knows how fingerprints are made."""
        file.write_bytes(content)
        try:
            manifest = TextManifest.model_validate_json(content)
            file.write_text(
                manifest.model_copy(update={"fingerprint": manifest.expected_fingerprint()}).model_dump_json()
            )
        except ValueError:
            pass
        opened = open_prepared(prepared.folder)
        return [len(opened.tokens(split)) for split in opened.manifest.splits]

    yield Target("dataset.json, sealed", seeds, sealed)


def _checkpoints(folder: Path) -> Iterator[Target]:
    run = save_run(job_of(folder), {5: 2.0}, run_id="20260101-000000-fuzz")
    whole = run.checkpoints / "step_000005"
    yield Target(
        "MANIFEST.json",
        ((whole / "MANIFEST.json").read_bytes(),),
        _replacing(whole / "MANIFEST.json", lambda: _opened(whole)),
    )
    for name in ("progress.json", "hooks.json", "config.json"):
        copy = folder / name / "step_000005"
        shutil.copytree(whole, copy)
        seeds = ((copy / name).read_bytes(),)
        if name == "hooks.json":
            seeds = (b'{"a": {"misses": 1, "lowest": 2.5, "mean": null}, "b": {}}', *seeds)
        yield Target(f"{name}, sealed", seeds, _replacing(copy / name, lambda copy=copy: _opened(seal(copy))))
    rates = folder / "machine.json"
    row = {
        "identity": {
            "processor": "p",
            "features": "",
            "usable_cores": 2.0,
            "physical_cores": 2,
            "torch": "2",
            "device": "cpu",
            "asked_threads": "",
        },
        "rates": {
            "device": "cpu",
            "threads": 2,
            "float32_flops_per_s": 1e9,
            "bfloat16_flops_per_s": None,
            "read_bytes_per_s": 1e9,
        },
    }
    yield Target("machine.json", (json.dumps([row]).encode(),), _replacing(rates, lambda: _rows(rates)), ROWS.dump_json)


def _opened(path: Path) -> Any:
    """All that is read of a checkpoint but its tensors."""
    found: CheckpointFolder = open_checkpoint(path)
    # NaN, which a metric may be, is not equal to itself.
    if repr(latest(path.parent)) != repr(found) or [one.path for one in list_complete(path.parent)] != [path]:
        raise AssertionError("is opened by its name, but not found in its folder")
    job = recorded_job(path / "config.json")
    return [found.progress, found.metrics, found.lr_factor, dict(found.hooks), job.model_dump_json(), found.config]


def _tensors(folder: Path) -> Iterator[Target]:
    file = folder / "a.safetensors"
    folder.mkdir(parents=True)
    weight = torch.arange(6.0).reshape(2, 3)
    write_tensors(file, {"a": weight, "tied": weight, "b": torch.ones(2, dtype=torch.bfloat16), "c": torch.zeros(0, 4)})

    def listed(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
        return {name: (str(tensor.dtype), tuple(tensor.shape), tensor.tolist()) for name, tensor in tensors.items()}

    yield Target("safetensors", (file.read_bytes(),), _replacing(file, lambda: listed(read_tensors(file))))
    for variant in ("gpt2", "llama", "qwen3"):
        model = model_of(**VARIANTS[variant])
        to_hugging_face(model.settings, model.state_dict(), folder / variant)
        config = folder / variant / "config.json"
        yield Target(
            f"hugging_face.{variant}",
            (config.read_bytes(),),
            _replacing(config, lambda config=config: load_hugging_face(config.parent).settings.model_dump_json()),
        )
