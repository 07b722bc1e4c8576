"""An evaluation: how often the host asks the device, and that the grouping of its rows is no matter."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ml_playground.core.values import ModelContext
from ml_playground.data_pipeline.batches import NO_TARGET, TokenBatch
from ml_playground.models.core.gpt import build as build_gpt
from ml_playground.models.settings import Gpt
from ml_playground.objectives.next_token import build as build_objective
from ml_playground.objectives.settings import NextToken
from ml_playground.training.learner import GradientLearner
from ml_playground.training.optim import adamw
from ml_playground.training.settings import AdamW

# What makes a host wait for a number of the device.
READS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::item", "aten::equal")


class Reads(TorchDispatchMode):
    """Counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run what was asked, and count what reads."""
        name = function.name().partition(".")[0]
        self.counts[name] += name in READS
        return function(*args, **(kwargs or {}))


def learner() -> GradientLearner:
    """A small GPT."""
    torch.manual_seed(0)
    facts = {"vocab_size": 11, "sequence_tokens": 8}
    model = build_gpt(Gpt(n_layer=2, n_head=2, n_embd=16), ModelContext(facts))
    objective = build_objective(NextToken())
    return GradientLearner(model, objective, adamw.build(AdamW(), model, torch.float32), seed=1)


def batches(rows: int) -> list[TokenBatch]:
    """24 rows with unequally many targets, so many at once."""
    ids = torch.randint(0, 11, (24, 9), generator=torch.Generator().manual_seed(3))
    labels = ids[:, 1:].clone()
    for row in range(0, 24, 5):
        labels[row, row % 8 :] = NO_TARGET
    return [TokenBatch(ids[i : i + rows, :-1], labels[i : i + rows]) for i in range(0, 24, rows)]


@pytest.mark.parametrize("rows", [2, 5, 12, 24])
def test_evaluate_rows_grouped_differently_gives_the_same_mean(rows: int) -> None:
    """Larger batches are faster and nothing else; the mean is over targets, not over batches."""
    one_by_one = learner().evaluate(batches(1))["loss"]
    assert learner().evaluate(batches(rows))["loss"] == pytest.approx(one_by_one, rel=1e-6)


@pytest.mark.parametrize("rows", [1, 4, 24])
def test_evaluate_any_number_of_batches_reads_nothing_while_it_runs(rows: int) -> None:
    """The sums stay on the device until the last batch; then they go over in one copy."""
    subject, parts = learner(), batches(rows)
    with Reads() as reads:
        subject.evaluate(parts)
    assert reads.counts.total() == 0


def test_reads_counts_what_it_is_meant_to_count() -> None:
    """The guard above can fail."""
    with Reads() as reads:
        float(torch.ones(3).sum())
    assert reads.counts["aten::_local_scalar_dense"] == 1
