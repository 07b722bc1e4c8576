"""The best evaluation of a run so far."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ml_playground.core.values import BY_LOSS, Merit


@dataclass(frozen=True, slots=True)
class BestSoFar:
    """How good it was, by the number that `checkpointing.best_by` names."""

    merit: Merit = BY_LOSS
    cost: float = math.inf
    """Lower is better; infinity before the first evaluation."""

    def after(self, metrics: Mapping[str, float]) -> "BestSoFar":
        """This very object where an evaluation is not better; what is no number is never better."""
        cost = self.merit.cost_of(metrics)
        return replace(self, cost=cost) if cost < self.cost else self
