"""How long training stands still for a checkpoint: 124 million parameters with their AdamW state, 1.49 GB.

Ours beside itself without a thread, `torch.save` and `safetensors`, each to the same disk and flushed, in turn. Then the steps
of a model while such a checkpoint is being written against those while none is.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from shapes import GPT2, TINY, Shape
from tables import Row, Table, command_line, progress, publish
from torch import Tensor

from ml_playground.configuration.models import CheckpointingSettings
from ml_playground.core.values import Progress
from ml_playground.training.checkpoint_protocols import Saved, Snapshot
from ml_playground.training.checkpointing.directory_store import DirectoryStore
from ml_playground.training.checkpointing.snapshot_buffer import SnapshotBuffer, snapshot_bytes
from ml_playground.training.protocols import TensorGroups

FREE_BYTES = 6 * 10**9
"""Two checkpoints, one that is being written, and room for the peers' file."""

KEEP_ONE = CheckpointingSettings(keep_last=1, keep_best=0)


def tensors_of(shape: Shape) -> TensorGroups:
    """Weights of a GPT-2 of this shape, and what AdamW keeps of them."""
    width = shape.width
    block = {"qkv": (3 * width, width), "out": (width, width), "up": (4 * width, width), "down": (width, 4 * width)}
    weights = {f"{name}.{layer}": torch.randn(size) for layer in range(shape.layers) for name, size in block.items()}
    weights |= {f"norm.{layer}.{i}": torch.ones(width) for layer in range(shape.layers) for i in range(2)}
    weights |= {"tokens": torch.randn(shape.vocabulary, width), "positions": torch.randn(shape.context, width)}
    state = {f"{what}/{name}": torch.randn_like(t) for what in ("exp_avg", "exp_avg_sq") for name, t in weights.items()}
    return {"model": weights, "optimizer": state}


def snapshot_of(tensors: TensorGroups, step: int) -> Snapshot:
    """A snapshot as the loop takes it."""
    return Snapshot(Progress(step, 1000, 0.0, 0.0, 0.0), tensors, hooks={}, config="{}", data_fingerprint="")


def saved_s(store: DirectoryStore, tensors: TensorGroups, step: int) -> tuple[float, float]:
    """Seconds that a save keeps its caller, and until it is durable."""
    began_s = time.perf_counter()
    store.begin_save(snapshot_of(tensors, step))
    kept_s = time.perf_counter() - began_s
    outcomes = store.drain()
    if not all(isinstance(outcome, Saved) for outcome in outcomes):
        raise SystemExit(f"not saved: {outcomes}")
    return kept_s, time.perf_counter() - began_s


def peer_s(write: Callable[[Mapping[str, Tensor], Path], object], tensors: TensorGroups, path: Path) -> float:
    """Seconds until a peer's one file is flushed to the disk."""
    flat = {f"{group}/{name}": tensor for group, named in tensors.items() for name, tensor in named.items()}
    began_s = time.perf_counter()
    write(flat, path)
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
    elapsed_s = time.perf_counter() - began_s
    path.unlink()
    return elapsed_s


def standstill(folder: Path, tensors: TensorGroups, rounds: int, *, judged: bool) -> Table:
    """Ours and the peers in turn."""
    beside = DirectoryStore(folder / "beside", KEEP_ONE)
    inline = DirectoryStore(folder / "inline", KEEP_ONE, buffer=SnapshotBuffer(most_bytes=0))
    began_s = time.perf_counter()
    beside.prepare(tensors)
    prepare_s = time.perf_counter() - began_s
    beside.drain()
    ready_s = time.perf_counter() - began_s
    kept, durable, at_once, torch_s, safetensors_s = ([] for _ in range(5))
    for number in range(rounds):
        kept_s, durable_s = saved_s(beside, tensors, number)
        kept.append(kept_s)
        durable.append(durable_s)
        at_once.append(saved_s(inline, tensors, number)[0])
        torch_s.append(peer_s(torch.save, tensors, folder / "peer.pt"))
        safetensors_s.append(peer_s(save_file, tensors, folder / "peer.safetensors"))
        progress(f"checkpoint {number + 1} of {rounds}: stood still for {kept_s:.3f} s")
    target = "standstill for a checkpoint of 1.5 GB" if judged else ""
    median = statistics.median
    rows = [
        Row(["ours, first save", kept[0], durable[0]], target, kept[0]),
        Row(["ours", median(kept), median(durable)], target, median(kept)),
        Row(["ours without a buffer", median(at_once), median(at_once)]),
        Row(["torch.save", median(torch_s), median(torch_s)]),
        Row(["safetensors", median(safetensors_s), median(safetensors_s)]),
    ]
    size = snapshot_bytes(tensors) / 1e9
    notes = [
        f"{size:.2f} GB, {torch.get_num_threads()} threads, medians of {rounds} in turn, all flushed to the disk.",
        f"The block was made beside the training in {ready_s:.2f} s, for which it stood still {prepare_s * 1e3:.1f} ms.",
    ]
    columns = ["save", "training stands still, s", "durable after, s"]
    return Table("checkpoint_stall", f"Seconds that training stands still for {size:.2f} GB", columns, rows, notes)


def step_of(shape: Shape) -> Callable[[], float]:
    """A step of training that waits for its loss, as seconds."""
    width, layers = shape.width, shape.layers
    model = torch.nn.Sequential(*(torch.nn.Linear(width, width) for _ in range(6 * layers)))
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    batch = torch.randn(shape.tokens, width)

    def step() -> float:
        began_s = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(batch).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        return time.perf_counter() - began_s

    return step


def steps_while_writing(folder: Path, tensors: TensorGroups, rounds: int) -> Table:
    """Steps while a checkpoint is written, and as many after it is durable."""
    store = DirectoryStore(folder / "steps", KEEP_ONE)
    store.prepare(tensors)
    store.drain()
    step = step_of(TINY)
    for _ in range(20):
        step()
    ratios, written_s = [], []
    for number in range(rounds):
        began_s = time.perf_counter()
        store.begin_save(snapshot_of(tensors, number))
        writing = []
        while not store.poll():
            writing.append(step())
        written_s.append(time.perf_counter() - began_s)
        alone = [step() for _ in writing]
        ratios.append(sum(writing) / sum(alone))
        progress(f"writing {number + 1} of {rounds}: {len(writing)} steps, {ratios[-1]:.2f} times as long")
    rows = [Row(["while a checkpoint is written", statistics.median(ratios), statistics.median(written_s)])]
    notes = [
        f"{torch.get_num_threads()} threads; medians of {rounds}. The writing thread has a lower priority than training."
    ]
    columns = ["a step", "times as long as without", "durable after, s"]
    return Table("checkpoint_writing", "Steps of a small model beside a checkpoint", columns, rows, notes)


def tables(options: argparse.Namespace) -> Iterator[Table]:
    """Both tables; the quick one with the tiny model's tensors says nothing about the target."""
    shape = TINY if options.quick else GPT2
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="checkpoint_stall_") as name:
        free = shutil.disk_usage(name).free
        if not options.quick and free < FREE_BYTES:
            problem = f"{FREE_BYTES / 1e9:.0f} GB must be free under {name}, {free / 1e9:.1f} are (--folder FOLDER)"
            yield Table("checkpoint_stall", "Seconds that training stands still", ["save"], [], problems=[problem])
            return
        tensors = tensors_of(shape)
        yield standstill(Path(name), tensors, rounds=3 if options.quick else 5, judged=not options.quick)
        yield steps_while_writing(Path(name), tensors, rounds=3)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, help="where to write; none: where temporary files go")
    publish(tables, command_line(__doc__, parser))
