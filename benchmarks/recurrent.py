"""Recurrent models on one thread: ways to compute the recurrence of a minimal GRU, a step of each kind, and, with `--text FILE`, the loss
of each kind in equal time.

Processor time of one thread hardly sees who else is at work. The kinds have about as many weights in their matrices; each has its best of
three learning rates.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import torch
from step_cost import seconds_by_turns
from tables import Row, Table, command_line, progress, publish
from torch import Tensor

from ml_playground.configuration import families
from ml_playground.core.machine import retain_freed_memory
from ml_playground.core.registry import load_object
from ml_playground.core.values import ModelContext
from ml_playground.data_pipeline.batches import TokenBatch
from ml_playground.models.recurrent.scan import doubled, scanned
from ml_playground.objectives.next_token import NextTokenObjective
from ml_playground.objectives.settings import NextToken
from ml_playground.training.learner import GradientLearner
from ml_playground.training.optim import adamw, muon
from ml_playground.training.settings import AdamW, Muon

SHAPES = ((16, 256, 288), (16, 256, 576), (4, 1024, 576))
"""(B, T, H) of the recurrences."""
MODELS: Mapping[str, Mapping[str, Any]] = {
    "gpt": {
        "kind": "gpt", "n_layer": 4, "n_head": 4, "n_embd": 192,
        "position": "rotary", "norm": "rms_norm", "qk_norm": True, "bias": False, "feed_forward": "relu2",
    },
    "min_gru": {"kind": "min_gru", "n_layer": 4, "n_embd": 192},
    "min_gru without convolution": {"kind": "min_gru", "n_layer": 4, "n_embd": 192, "conv_tokens": 0},
    "LSTM": {"kind": "char_rnn", "cell": "lstm", "n_layer": 2, "n_hidden": 336},
    "GRU": {"kind": "char_rnn", "cell": "gru", "n_layer": 2, "n_hidden": 384},
    "RNN": {"kind": "char_rnn", "cell": "rnn", "n_layer": 2, "n_hidden": 672},
}  # fmt: skip
"""1.6 to 1.8 million weights in matrices each."""
ROWS, LENGTH = 16, 256
LEARNING_RATES = (1e-3, 2e-3, 4e-3)
ADAMW_OR_MUON = {"adamw": adamw, "muon": muon}


def with_autograd(keep: Tensor, add: Tensor) -> Tensor:
    """Token by token, as one writes it first."""
    states = [add[:, 0]]
    for at in range(1, add.shape[1]):
        states.append(torch.addcmul(add[:, at], keep[:, at], states[-1]))
    return torch.stack(states, dim=1)


def by_logarithms(keep: Tensor, add: Tensor) -> Tensor:
    """Two cumulative sums in log space; source: Heinsen 2023, arXiv 2311.06281."""
    shares = keep.log().cumsum(1)
    return (shares + (add.log() - shares).logcumsumexp(1)).exp()


def in_chunks(keep: Tensor, add: Tensor, size: int = 16) -> Tensor:
    """All chunks side by side, then the chunks' last states, then what each chunk inherits."""
    rows, length, width = add.shape
    keep, add = (part.view(rows, length // size, size, width) for part in (keep, add))
    inside, shares = [add[:, :, 0]], [keep[:, :, 0]]
    for at in range(1, size):
        inside.append(torch.addcmul(add[:, :, at], keep[:, :, at], inside[-1]))
        shares.append(shares[-1] * keep[:, :, at])
    last, share = inside[-1], shares[-1]
    before = [torch.zeros_like(last[:, 0])]
    for chunk in range(1, length // size):
        before.append(torch.addcmul(last[:, chunk - 1], share[:, chunk - 1], before[-1]))
    inherited = torch.stack(before, dim=1)[:, :, None]
    return torch.addcmul(torch.stack(inside, 2), torch.stack(shares, 2), inherited).view(rows, length, width)


WAYS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ours: in place, way back by hand": scanned,
    "loop with autograd": with_autograd,
    "cumulative sums of logarithms": by_logarithms,
    "doubling": doubled,
    "chunks of 16": in_chunks,
}


def there_and_back(way: Callable[[Tensor, Tensor], Tensor], keep: Tensor, add: Tensor) -> Callable[[], object]:
    """One pass in both directions."""

    def step() -> None:
        way(keep, add).sum().backward()

    return step


def scans(rounds: int) -> Table:
    """Every way at every shape."""
    rows: list[Row] = []
    for shape in SHAPES:
        progress(f"recurrent: scan {shape}")
        gates, adds = torch.randn(shape), torch.rand(shape) + 0.01
        keep, add = torch.sigmoid(gates).requires_grad_(), adds.requires_grad_()
        exact = scanned(keep.detach().double(), add.detach().double())
        steps = {name: there_and_back(way, keep, add) for name, way in WAYS.items()}
        for name, seconds in seconds_by_turns(steps, rounds).items():
            apart = float(((WAYS[name](keep, add).detach() - exact) / exact).abs().max())
            rows.append(Row([str(shape), name, 1e3 * statistics.median(seconds), f"{apart:.1e}"]))
    notes = [f"one thread, float32, forward and backward, {rounds} rounds by turns, medians of processor time"]
    columns = ["(B, T, H)", "way", "ms", "largest relative error"]
    return Table("recurrent_scan", "h_t = a_t h_{t-1} + b_t for all t", columns, rows, notes)


class Trainee:
    """A model in training, without a run around it."""

    def __init__(self, options: Mapping[str, Any], dtype: torch.dtype, vocabulary: int, lr: float, by: str) -> None:
        torch.manual_seed(0)
        kind = families.MODELS[options["kind"]]
        settings = load_object(kind.settings).model_validate(dict(options))
        facts = {"vocab_size": vocabulary, "sequence_tokens": LENGTH}
        model = load_object(kind.build)(settings, ModelContext(facts))
        self.matrices = sum(matrix.numel() for matrix in model.hidden_matrices())
        chosen = AdamW(lr=lr) if by == "adamw" else Muon(lr=lr)
        optimizer = ADAMW_OR_MUON[by].build(chosen, model, dtype)
        objective = NextTokenObjective(NextToken())
        self.learner = GradientLearner(model, objective, optimizer, seed=1, grad_clip=1.0, dtype=dtype)
        self.steps, self.seconds = 0, 0.0

    def step(self, ids: Tensor, lr_factor: float = 1.0) -> None:
        """One update on (B, T + 1) ids, its processor time counted."""
        began_s = time.thread_time()
        batch = TokenBatch(ids[:, :-1], ids[:, 1:].contiguous())
        self.learner.train_step([batch], step=self.steps, lr_factor=lr_factor)
        self.steps += 1
        self.seconds += time.thread_time() - began_s


def random_step(trainee: Trainee, vocabulary: int) -> Callable[[], object]:
    """One update on random ids."""

    def step() -> None:
        trainee.step(torch.randint(vocabulary, (ROWS, LENGTH + 1)))

    return step


def step_costs(rounds: int, vocabulary: int = 4096) -> Table:
    """A step of every kind in both precisions."""
    progress("recurrent: steps")
    trainees = {
        (name, dtype): Trainee(options, dtype, vocabulary, 1e-3, "adamw")
        for name, options in MODELS.items()
        for dtype in (torch.float32, torch.bfloat16)
    }
    steps = {f"{name}, {str(dtype)[6:]}": random_step(one, vocabulary) for (name, dtype), one in trainees.items()}
    seconds = seconds_by_turns(steps, rounds)
    rows = [
        Row([what, trainees[key].matrices / 1e6, 1e3 * (middle := statistics.median(own)), ROWS * LENGTH / middle])
        for key, (what, own) in zip(trainees, seconds.items(), strict=True)
    ]
    notes = [
        f"one thread, {ROWS} rows of {LENGTH} tokens, {vocabulary} tokens, AdamW; {rounds} rounds by turns, medians"
    ]
    return Table("recurrent_step", "A training step", ["model", "M in matrices", "ms", "tokens/s"], rows, notes)


def losses(text: Path, seconds: float) -> Table:
    """Loss on the last tenth of a text after equal processor time: a linear descent to zero, no dropout."""
    letters = text.read_text(encoding="utf-8")
    places = {letter: number for number, letter in enumerate(sorted(set(letters)))}
    ids = torch.tensor([places[letter] for letter in letters])
    train, held_out = ids[: len(ids) * 9 // 10], ids[len(ids) * 9 // 10 :]
    windows = held_out[: (len(held_out) - 1) // LENGTH * LENGTH]
    batches = [
        TokenBatch(some, labels)
        for some, labels in zip(
            windows.view(-1, LENGTH).split(32), held_out[1 : len(windows) + 1].view(-1, LENGTH).split(32), strict=True
        )
    ]
    rows: list[Row] = []
    for name, options in MODELS.items():
        for by in ADAMW_OR_MUON:
            found = [_trained(options, by, lr, train, batches, len(places), seconds, name) for lr in LEARNING_RATES]
            loss, lr, steps = min(found)
            rows.append(Row([name, by, lr, steps, loss, loss / math.log(2)]))
    notes = [
        f"one thread, bfloat16, {seconds:g} s of processor time each, {ROWS} rows of {LENGTH} characters; the best of {LEARNING_RATES}"
    ]
    columns = ["model", "optimizer", "lr", "steps", "nats", "bits"]
    return Table("recurrent_loss", f"Loss on the held-out tenth of {text.name}", columns, rows, notes)


def _trained(
    options: Mapping[str, Any],
    by: str,
    lr: float,
    train: Tensor,
    held_out: Sequence[TokenBatch],
    vocabulary: int,
    seconds: float,
    name: str,
) -> tuple[float, float, int]:
    """Loss, learning rate and steps of one training."""
    progress(f"recurrent: {name}, {by}, {lr:g}")
    trainee = Trainee(options, torch.bfloat16, vocabulary, lr * (5 if by == "muon" else 1), by)
    drawn = torch.Generator().manual_seed(2)
    for step in count():
        done = trainee.seconds / seconds
        if done >= 1:
            break
        starts = torch.randint(len(train) - LENGTH - 1, (ROWS,), generator=drawn)
        rows = torch.stack([train[start : start + LENGTH + 1] for start in starts.tolist()])
        trainee.step(rows, min(1.0, (step + 1) / 20) * (1 - done))
    return trainee.learner.evaluate(held_out)["loss"], lr, trainee.steps


def tables(options: argparse.Namespace) -> Iterator[Table]:
    """The scan and the steps; losses where a text is given."""
    retain_freed_memory()
    torch.set_num_threads(1)
    yield scans(5 if options.quick else 20)
    yield step_costs(3 if options.quick else 9)
    if options.text is not None:
        yield losses(options.text, options.seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, help="a text; without it no losses are measured")
    parser.add_argument("--seconds", type=float, default=30.0, help="processor time of each training")
    publish(tables, command_line(__doc__, parser))
