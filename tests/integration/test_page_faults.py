"""What the allocator is told reaches torch's buffers: a training step faults no memory in again."""

import ctypes
import json
import os
import subprocess
import sys

import pytest

STEPS = """
import ctypes, json, resource, statistics, sys
# Pages of 2 MB, which some systems give to whoever asks for much, are a handful of faults whatever the allocator does.
PR_SET_THP_DISABLE = 41
ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
import torch
from ml_playground.configuration import families
from ml_playground.configuration.loading import load
from ml_playground.core.registry import load_object
from ml_playground.data_pipeline.batches import TokenBatch
from ml_playground.training.building import build_learner, build_model
from ml_playground.training.precision import apply_runtime
ROWS, LENGTH, STEPS = 8, 256, 16
runtime = {"device": "cpu", "dtype": "float32", "attention": "math", "compile": "false", "threads": "1"}
runtime |= {"activation_checkpointing": "false", "allocator": sys.argv[1]}
sets = [f"runtime.{name}={value}" for name, value in runtime.items()]
job = load("python_stdlib", sets=[*sets, "model.n_layer=2", "model.n_head=2", "model.n_embd=128"]).job
device = apply_runtime(job.runtime)
model = build_model(job, {"vocab_size": 65, "sequence_tokens": LENGTH}, device, load_pretrained=False)
learner = build_learner(job, model, load_object(families.OBJECTIVES["next_token"].build)(job.objective))
ids = torch.arange(ROWS * (LENGTH + 1)).view(ROWS, -1) % 65
batch = TokenBatch(ids[:, :-1], ids[:, 1:])
faults = []
for step in range(STEPS):
    learner.train_step([batch], step=step, lr_factor=1.0)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
late = faults[STEPS // 2 :]
json.dump(statistics.median(after - before for before, after in zip(late, late[1:])), sys.stdout)
"""


def faults(allocator: str) -> float:
    """Page faults of a later step of a small training, in a process of its own: of most, for now and then the heap grows once more."""
    # A limit that is set stays: glibc's own slides up with what is freed, and then a "system" that keeps it all had 1 fault, too.
    environment = os.environ | {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=131072"}
    done = subprocess.run(
        [sys.executable, "-c", STEPS, allocator],
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
        env=environment,
    )
    return json.loads(done.stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="only glibc has these switches")
def test_training_that_retains_memory_faults_a_tenth_of_the_pages() -> None:
    """A count, not seconds: the setting comes early enough to matter, and without it there is something to gain."""
    assert 10 * faults("retain") < faults("system")
