"""Trains the same model as plain_loop.py with the whole system, all monitoring on, as `mlp train` does.

Prints {"tokens_per_s": ..., "vocabulary": ...}: the median of what the run itself reports after the warm-up.
"""

import argparse
import json
import os
import statistics
import tempfile

from ml_playground.configuration.loading import load
from ml_playground.core.deps import Deps
from ml_playground.core.run_folder import RunFolder
from ml_playground.data_pipeline.preparer import prepare


def main() -> None:
    """Prepare a little text, train, and read metrics.jsonl."""
    parser = argparse.ArgumentParser()
    for name, default in {"layers": 6, "heads": 6, "width": 384, "context": 256, "rows": 16}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["MLP_HOME"] = home
        sets = [
            "prepare.source.max_files=60",
            "prepare.split_by=position",
            'prepare.tokenizer={kind="char"}',
            f"data.sequence_tokens={options.context}",
            f"data.micro_batch_rows={options.rows}",
            f'model={{kind="gpt", n_layer={options.layers}, n_head={options.heads}, n_embd={options.width}}}',
            'optimizer={kind="adamw"}',
            'schedule={kind="warmup_constant", warmup_steps=1}',
            f"train.max_steps={options.warmup + options.steps}",
            "train.evaluation_batches=1",
            "train.log_every_steps=1",
            "checkpointing.every_minutes=60",
            "checkpointing.every_steps=100000",
            *options.set,
        ]
        job = load("python_stdlib", sets=sets).job
        prepared = prepare(job.prepare, Deps())
        from ml_playground.training.engine import run_job

        result = run_job(job, Deps())
        rows = [json.loads(line) for line in RunFolder(result.run).metrics.read_text().splitlines()]
    speeds = [row["timing"]["targets_per_s"] for row in rows if row["kind"] == "train"]
    figures = {"tokens_per_s": statistics.median(speeds[options.warmup :]), "vocabulary": prepared.manifest.vocab_size}
    print(json.dumps(figures))


main()
