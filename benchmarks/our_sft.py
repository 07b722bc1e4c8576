"""Fine-tunes with the whole system and all monitoring on, as `mlp train` does; `--prepare` writes the rows for the others.

Prints what `print_figures` of sft_rows.py says.
"""

import argparse
import json
import os
from typing import Any

from sft_rows import NO_TARGET, ROWS, Counted, add_sft, peak_mb, print_figures

from ml_playground.configuration.loading import load
from ml_playground.configuration.models import JobConfig
from ml_playground.core.deps import Deps
from ml_playground.core.run_folder import RunFolder
from ml_playground.data_pipeline.preparer import prepare


def job_of(options: argparse.Namespace) -> JobConfig:
    """A fine-tuning of the folder's model on the folder's chats; everything else as users have it."""
    model, steps = options.folder / "model", options.warmup + options.steps
    adapter = ', adapter={kind="lora", r=16, alpha=32.0}' if options.lora else ""
    settings = [
        f'prepare.source={{kind="jsonl_chat", path="{options.folder / "chats.jsonl"}"}}',
        f'prepare.tokenizer={{kind="hugging_face", path="{model}"}}',
        "prepare.split_by=hash",
        "prepare.val_fraction=0.05",
        f'data={{kind="{options.layout}_examples", sequence_tokens={options.length}, micro_batch_rows={options.rows}, order="sequential"}}',
        f'model={{kind="hf_causal_lm", path="{model}"{adapter}}}',
        'optimizer={kind="adamw", lr=1e-4}',
        'schedule={kind="warmup_constant", warmup_steps=1}',
        f"train.max_steps={steps}",
        "train.evaluation_batches=1",
        "train.evaluate_every_steps=100000",
        "train.log_every_steps=1",
        "hooks.samples.every_steps=100000",
        "checkpointing.every_minutes=60",
        "checkpointing.every_steps=100000",
        f"runtime.dtype={options.dtype}",
        "runtime.compile=false",
    ]
    return load("python_stdlib", sets=settings).job


def write_rows(job: JobConfig, options: argparse.Namespace) -> None:
    """The prepared training rows as ids and labels, for trainers that take such."""
    from ml_playground.data_pipeline.chats.chat_dataset import open_chats

    rows = open_chats(prepare(job.prepare, Deps()).folder).rows("train")
    with (options.folder / ROWS).open("w", encoding="utf-8") as file:
        for number in range(len(rows)):
            ids, weights = rows.ids(number).tolist(), rows.weights(number).tolist()
            labels = [one if weight > 0 else NO_TARGET for one, weight in zip(ids, weights, strict=True)]
            file.write(json.dumps({"input_ids": ids, "labels": labels}) + "\n")


def main() -> None:
    """Train, and read metrics.jsonl."""
    parser = argparse.ArgumentParser(description="fine-tuning with the whole system")
    add_sft(parser)
    parser.add_argument("--prepare", action="store_true", help="write the rows and end")
    options = parser.parse_args()
    os.environ["MLP_HOME"] = str(options.folder / "home")
    job = job_of(options)
    if options.prepare:
        write_rows(job, options)
        return
    # Everything that a training imports, as the other side has imported all of its own by then.
    import ml_playground.models.core.hf_causal_lm  # noqa: F401
    from ml_playground.training.building import open_data
    from ml_playground.training.engine import run_job
    from ml_playground.training.resume import Choice

    before_mb = peak_mb()
    # A run of the same job from an earlier round is finished, and there would be nothing to do.
    result = run_job(job, Deps(), Choice("new"))
    after_mb = peak_mb()
    rows = [json.loads(line) for line in RunFolder(result.run).metrics.read_text().splitlines()]
    ends_s = [row["timing"]["elapsed_s"] for row in rows if row["kind"] == "train" and row["timing"]]
    data: Any = open_data(job)
    steps = [data.rows_at(step) for step in range(options.warmup + options.steps)]
    batches = [Counted(*(sum(row[what] for row in step) for what in ("tokens", "targets"))) for step in steps]
    print_figures(batches, ends_s, options, memory_mb=(before_mb, after_mb))


if __name__ == "__main__":
    main()
