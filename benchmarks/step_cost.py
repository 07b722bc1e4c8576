"""Processor time of a training step on one thread: a plain float32 loop and the learner by turns, in one process.

Processor time of one thread hardly sees who else is at work, so this is how a change of a layer or of the learner is judged;
`train_speed.py` says what is left of it on all threads, with the whole system around.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count

import torch
import torch.nn.functional as F
from plain_loop import PlainGpt
from shapes import SHAPES, Shape
from tables import Row, Table, command_line, progress, publish
from torch import nn

from ml_playground.core.machine import retain_freed_memory
from ml_playground.core.values import ModelContext
from ml_playground.data_pipeline.batches import TokenBatch
from ml_playground.models.core.gpt import build
from ml_playground.models.settings import Gpt
from ml_playground.objectives.next_token import NextTokenObjective
from ml_playground.objectives.settings import NextToken
from ml_playground.training.learner import GradientLearner
from ml_playground.training.optim import adamw, muon
from ml_playground.training.settings import AdamW, Muon

NOTHING = Shape(layers=4, heads=4, width=8, context=4, rows=1, vocabulary=65)
"""As many operations as `tiny`, with next to nothing to compute."""
MODERN = {"position": "rotary", "norm": "rms_norm", "qk_norm": True, "bias": False, "feed_forward": "relu2"}


def plain_step(shape: Shape) -> Callable[[], object]:
    """One step of the loop that one writes by hand."""
    torch.manual_seed(0)
    model = PlainGpt(shape)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def step() -> None:
        ids = torch.randint(shape.vocabulary, (shape.rows, shape.context + 1))
        F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def our_step(shape: Shape, dtype: torch.dtype, options: Mapping[str, object], *, by_muon: bool) -> Callable[[], object]:
    """One step of the learner."""
    torch.manual_seed(0)
    sizes = {"n_layer": shape.layers, "n_head": shape.heads, "n_embd": shape.width}
    facts = {"vocab_size": shape.vocabulary, "sequence_tokens": shape.context}
    model = build(Gpt.model_validate(sizes | dict(options)), ModelContext(facts))
    optimizer = muon.build(Muon(), model, dtype) if by_muon else adamw.build(AdamW(), model, dtype)
    objective = NextTokenObjective(NextToken())
    learner = GradientLearner(model, objective, optimizer, seed=1, grad_clip=1.0, dtype=dtype)
    numbers = count()

    def step() -> None:
        ids = torch.randint(shape.vocabulary, (shape.rows, shape.context + 1))
        learner.train_step([TokenBatch(ids[:, :-1], ids[:, 1:].contiguous())], step=next(numbers), lr_factor=1.0)

    return step


def steps_of(shape: Shape) -> dict[str, Callable[[], object]]:
    """What is compared, the plain loop first."""
    rough = torch.bfloat16
    return {
        "plain float32 loop": plain_step(shape),
        "ours, float32": our_step(shape, torch.float32, {}, by_muon=False),
        "ours, bfloat16": our_step(shape, rough, {}, by_muon=False),
        "... gelu_tanh": our_step(shape, rough, {"feed_forward": "gelu_tanh"}, by_muon=False),
        "... modern layout": our_step(shape, rough, MODERN, by_muon=False),
        "... modern layout, Muon": our_step(shape, rough, MODERN, by_muon=True),
    }


def seconds_by_turns(steps: Mapping[str, Callable[[], object]], rounds: int) -> Mapping[str, Sequence[float]]:
    """Processor time of each step, once in each round, after two that do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 2):
        for name, step in steps.items():
            began_s = time.thread_time()
            step()
            if number > 1:
                seconds[name].append(time.thread_time() - began_s)
    return seconds


def table(name: str, shape: Shape, rounds: int) -> Table:
    """One shape; ratios are medians over the rounds."""
    progress(f"step_cost: {name}")
    seconds = seconds_by_turns(steps_of(shape), rounds)
    plain = next(iter(seconds.values()))
    rows = [
        Row([what, 1e3 * statistics.median(own), statistics.median(p / s for p, s in zip(plain, own, strict=True))])
        for what, own in seconds.items()
    ]
    notes = [f"one thread, {rounds} rounds by turns, medians of processor time"]
    return Table(f"step_cost_{name}", f"A step of {name}", ["what", "ms", "times the plain loop"], rows, notes)


def tables(options: argparse.Namespace) -> Iterator[Table]:
    """Next to nothing to compute, then the small shapes; that of GPT-2 where asked for."""
    retain_freed_memory()
    torch.set_num_threads(1)
    yield table("nothing", NOTHING, 60 if options.quick else 200)
    yield table("tiny", SHAPES["tiny"], 20 if options.quick else 60)
    if not options.quick:
        yield table("baby", SHAPES["baby"], 4)
    if options.gpt2:
        yield table("gpt2", SHAPES["gpt2"], 2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="processor time of a step")
    parser.add_argument("--gpt2", action="store_true", help="also the shape of GPT-2: some minutes")
    publish(tables, command_line(__doc__, parser))
