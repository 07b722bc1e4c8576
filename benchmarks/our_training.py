"""Trains a shape with the whole system and all monitoring on, as `mlp train` does.

Prints {"tokens_per_s": ..., "first_step_s": ...}: the median over the intervals between readings after the warm-up, from the
wall clock of the run itself, so that hooks, metrics and status are inside; and what the first step took more.
"""

import argparse
import json
import os
import random
import statistics
import tempfile
from itertools import pairwise
from pathlib import Path

from shapes import Shape, add_shape, characters, shape_of

from ml_playground.configuration.loading import load
from ml_playground.configuration.models import JobConfig
from ml_playground.core.deps import Deps
from ml_playground.core.run_folder import RunFolder
from ml_playground.data_pipeline.preparer import prepare

# As plain_loop.py and the peers compute it; the experiment beneath has a modern layout.
GPT2_LAYOUT = 'position="learned", norm="layer_norm", feed_forward="gelu", qk_norm=false, bias=true, tied_head=true, zero_init=false'
# An evaluation of the largest shape needs a thousand tokens of validation text.
TEXT_CHARACTERS = 200_000


def random_text(vocabulary: int, file: Path) -> None:
    """Every character once, then random ones."""
    letters = characters(vocabulary)
    text = "".join([*letters, *random.Random(0).choices(letters, k=TEXT_CHARACTERS)])
    file.write_text(text, encoding="utf-8")


def job_of(shape: Shape, text: Path, *, steps: int, sets: list[str]) -> JobConfig:
    """GPT-2's layout, unless `sets` bring a whole model, and AdamW; everything else as users have it."""
    sizes = f'kind="gpt", n_layer={shape.layers}, n_head={shape.heads}, n_embd={shape.width}'
    few = ["train.log_every_steps=1"] if steps < 50 else []
    settings = [
        f'prepare.source={{kind="text_file", path="{text}"}}',
        'prepare.tokenizer={kind="char"}',
        "prepare.split_by=position",
        f"data.sequence_tokens={shape.context}",
        f"data.micro_batch_rows={shape.rows}",
        *([] if any(word.startswith("model=") for word in sets) else [f"model={{{sizes}, {GPT2_LAYOUT}}}"]),
        'optimizer={kind="adamw"}',
        'schedule={kind="warmup_constant", warmup_steps=1}',
        f"train.max_steps={steps}",
        "train.evaluation_batches=1",
        f'hooks.samples.prompt="{characters(2)[0]}"',
        # As default_config.toml has it: the demo draws more often, for its steps take ten times as long.
        "hooks.samples.every_steps=500",
        *few,
        "checkpointing.every_minutes=60",
        "checkpointing.every_steps=100000",
        *sets,
    ]
    return load("python_stdlib", sets=settings).job


def main() -> None:
    """Prepare a little text, train, and read metrics.jsonl."""
    parser = argparse.ArgumentParser(description="training with the whole system")
    add_shape(parser)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    shape = shape_of(options)
    with tempfile.TemporaryDirectory() as home:
        os.environ["MLP_HOME"] = home
        text = Path(home) / "text.txt"
        random_text(shape.vocabulary, text)
        sets = [f"runtime.compile={'true' if options.compile else 'false'}", *options.set]
        job = job_of(shape, text, steps=options.warmup + options.steps, sets=sets)
        prepared = prepare(job.prepare, Deps())
        if prepared.manifest.vocab_size != shape.vocabulary:
            raise SystemExit(f"prepared a vocabulary of {prepared.manifest.vocab_size}, not {shape.vocabulary}")
        from ml_playground.training.engine import run_job

        result = run_job(job, Deps())
        rows = [json.loads(line) for line in RunFolder(result.run).metrics.read_text().splitlines()]
    read = [(row["step"], row["timing"]["elapsed_s"]) for row in rows if row["kind"] == "train" and row["timing"]]
    intervals = [((until - since) / (end - begin), begin) for (begin, since), (end, until) in pairwise(read)]
    step_s = statistics.median(seconds for seconds, begin in intervals if begin >= options.warmup)
    first_s = max(0.0, read[0][1] - read[0][0] * step_s)
    print(json.dumps({"tokens_per_s": shape.tokens / step_s, "first_step_s": first_s}))


if __name__ == "__main__":
    main()
