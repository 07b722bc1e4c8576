"""How batches reach the model: reading ahead against not, and an evaluation in larger batches against the training's.

Each pair in turn in one process. What is printed here decides `TOKENS_AT_ONCE`, `MOST_TRAINING_BATCHES` and for which devices
batches are read ahead (`data_pipeline/sampling/`).
"""

import argparse
import statistics
import time
from collections.abc import Iterator

import numpy as np
import torch
from shapes import BABY, TINY, Shape
from tables import Row, Table, command_line, progress, publish

from ml_playground.core.values import ModelContext
from ml_playground.data_pipeline.batches import TokenBatch
from ml_playground.data_pipeline.sampling.read_ahead import ReadAhead, Source
from ml_playground.data_pipeline.sampling.token_windows import TrainingBatches, Windows
from ml_playground.data_pipeline.settings import TokenWindows
from ml_playground.models.core.gpt import build as build_gpt
from ml_playground.models.settings import Gpt
from ml_playground.objectives.next_token import build as build_objective
from ml_playground.objectives.settings import NextToken
from ml_playground.training.learner import GradientLearner
from ml_playground.training.optim import adamw
from ml_playground.training.settings import AdamW

TIMES_THE_ROWS = (1, 2, 4, 8)


def learner_of(shape: Shape) -> GradientLearner:
    """The model of a shape in bfloat16, with AdamW."""
    facts = {"vocab_size": shape.vocabulary, "sequence_tokens": shape.context}
    settings = Gpt(n_layer=shape.layers, n_head=shape.heads, n_embd=shape.width)
    model = build_gpt(settings, ModelContext(facts))
    optimizer = adamw.build(AdamW(), model, torch.bfloat16)
    return GradientLearner(model, build_objective(NextToken()), optimizer, seed=1, dtype=torch.bfloat16)


def evaluations(name: str, shape: Shape, rounds: int) -> Iterator[Row]:
    """One evaluation of eight training batches, in groups of several sizes."""
    learner = learner_of(shape)
    rows = shape.rows * max(TIMES_THE_ROWS)
    ids = torch.randint(shape.vocabulary, (rows, shape.context))
    seconds: dict[int, list[float]] = {times: [] for times in TIMES_THE_ROWS}
    for number in range(rounds + 1):
        for times, kept in seconds.items():
            step = times * shape.rows
            batches = [TokenBatch(ids[i : i + step], ids[i : i + step]) for i in range(0, rows, step)]
            began_s = time.perf_counter()
            learner.evaluate(batches)
            # The first round warms up.
            if number:
                kept.append(time.perf_counter() - began_s)
        progress(f"{name}: evaluation {number} of {rounds}")
    for times, kept in seconds.items():
        ratio = statistics.median(one / other for one, other in zip(kept, seconds[1], strict=True))
        yield Row([f"{name}, {times} x {shape.rows} rows", times * shape.tokens, ratio])


def stepped(learner: GradientLearner, source: Source[TokenBatch], first: int, steps: int) -> tuple[float, float]:
    """Milliseconds of a step, and of them waiting for its batch."""
    began_s = time.perf_counter()
    waited_s = 0.0
    for index in range(first, first + steps):
        asked_s = time.perf_counter()
        batch = source.batch_at(index)
        waited_s += time.perf_counter() - asked_s
        learner.train_step([batch], step=index, lr_factor=1.0)
    return (time.perf_counter() - began_s) / steps * 1e3, waited_s / steps * 1e3


def reading_ahead(name: str, shape: Shape, rounds: int, steps: int) -> Iterator[Row]:
    """Blocks of steps with and without a thread, over ten million tokens in memory."""
    tokens = np.random.default_rng(0).integers(0, shape.vocabulary, 10_000_000).astype(np.uint16)
    settings = TokenWindows(sequence_tokens=shape.context, micro_batch_rows=shape.rows)
    plain = TrainingBatches(Windows(tokens, shape.context), settings, 1)
    ahead = ReadAhead(plain, lambda batch: batch)
    learner = learner_of(shape)
    kept: dict[str, list[tuple[float, float]]] = {"plain": [], "ahead": []}
    for number in range(rounds + 1):
        for which, source in (("plain", plain), ("ahead", ahead)):
            measured = stepped(learner, source, number * steps, steps)
            if number:
                kept[which].append(measured)
        progress(f"{name}: read ahead {number} of {rounds}")
    ahead.close()
    median = statistics.median
    ratio = median(one[0] / other[0] for one, other in zip(kept["ahead"], kept["plain"], strict=True))
    for which, measured in kept.items():
        yield Row([f"{name}, {which}", median(m[0] for m in measured), median(m[1] for m in measured), ratio])


def tables(options: argparse.Namespace) -> Iterator[Table]:
    """Both."""
    shapes = {"tiny": TINY} if options.quick else {"tiny": TINY, "baby": BABY}
    threads = f"{torch.get_num_threads()} threads"
    rows = [row for name, shape in shapes.items() for row in evaluations(name, shape, 3 if options.quick else 9)]
    columns = ["batch", "tokens at once", "time against one training batch at a time"]
    yield Table("evaluation_batches", "An evaluation in larger batches", columns, rows, [threads])
    steps = {"tiny": 40, "baby": 4}
    rounds = 3 if options.quick else 15
    rows = [row for name, shape in shapes.items() for row in reading_ahead(name, shape, rounds, steps[name])]
    columns = ["source", "a step, ms", "of it waiting for the batch, ms", "step ahead / plain"]
    yield Table("read_ahead", "Batches made beside the training on the CPU", columns, rows, [threads])


if __name__ == "__main__":
    publish(tables, command_line(__doc__))
