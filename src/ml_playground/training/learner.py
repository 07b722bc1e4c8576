"""The gradient learner: one optimizer update, one evaluation. Tensors only; no time, files or hooks."""

from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ml_playground.core.seeding import seed_for
from ml_playground.training.ema import averages_of
from ml_playground.training.gradients import Leaves, clipped_norm
from ml_playground.training.memory import not_in_parts
from ml_playground.training.protocols import Movable, Objective, Optimizer, StepNumbers, TensorGroups
from ml_playground.training.readings import mean_of, not_finite
from ml_playground.training.weights import refuse_misfits, weights_of


class GradientLearner:
    """Sums gradients over the micro-batches of a step and divides the loss once, by the targets of all of them."""

    def __init__(
        self,
        model: nn.Module,
        objective: Objective[Any, Any],
        optimizer: Optimizer,
        *,
        seed: int,
        grad_clip: float = 0.0,
        ema_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
        compiled: bool = False,
        skips_bad: bool = False,
    ) -> None:
        """With `skips_bad` a step whose loss or gradient is not finite changes nothing, which the device decides."""
        self._model = model
        self._objective = objective
        self._optimizer = optimizer
        self._seed = seed
        self._grad_clip = grad_clip
        self._dtype = dtype
        self._skips_bad = skips_bad
        self._averaged = averages_of(model, optimizer, ema_decay)
        self._device = next(model.parameters()).device
        self._leaves = Leaves(model, dtype)
        # The whole loss is compiled, not model.__call__: the objective enters the model through `hidden` and `head`.
        self._loss_sum: Callable[[Any, Any], Tensor] = (
            torch.compile(objective.loss_sum, dynamic=False) if compiled else objective.loss_sum
        )

    def train_step(self, batches: Sequence[Movable], *, step: int, lr_factor: float) -> StepNumbers:
        """One optimizer update from the micro-batches of step number `step` (from 0).

        Randomness (dropout) is a function of seed, step and micro-batch, so that nothing of it must be saved.
        """
        if not self._model.training:
            self._model.train()
        targets = sum(self._objective.targets(batch) for batch in batches)
        loss = torch.zeros((), device=self._device)
        with self._leaves.in_place():
            for number, batch in enumerate(batches):
                self._seed_draws(seed_for(self._seed, "step", step, number))
                with self._precision():
                    part = self._loss_sum(self._model, batch.to(self._device)) / (targets or 1.0)
                part.backward()
                loss = loss + part.detach()
                self._leaves.collect(self._optimizer.gradients, first=number == 0)
        with not_in_parts():
            grad_norm = clipped_norm(self._optimizer.gradient_buffers, self._grad_clip)
            bad = not_finite(loss, grad_norm) if self._skips_bad else None
            self._optimizer.step(lr_factor, bad)
            if self._averaged is not None:
                self._averaged.update(step, bad)
        return StepNumbers(loss, grad_norm, targets, self._optimizer.lr * lr_factor)

    def evaluate(self, batches: Iterable[Movable]) -> Mapping[str, float]:
        """Means over all targets of the batches, with the averaged weights where there are some."""
        parts: dict[str, list[Tensor]] = defaultdict(list)
        with self.evaluation_weights(), torch.no_grad(), self._precision():
            for batch in batches:
                for name, part in self._objective.sums(self._model, batch.to(self._device)).items():
                    parts[name].append(part)
        # Read after the last batch, so that no batch waits for the one before it.
        return {name: mean_of(sums) for name, sums in parts.items()}

    @contextmanager
    def evaluation_weights(self) -> Generator[None]:
        """The model as it is evaluated, sampled and exported: averaged where configured, dropout off."""
        was_training = self._model.training
        with self._averaged.in_place() if self._averaged is not None else nullcontext():
            self._model.eval()
            try:
                yield
            finally:
                self._model.train(was_training)

    def state_dict(self) -> TensorGroups:
        """Weights, optimizer state and averaged weights, by reference."""
        groups: dict[str, Mapping[str, Tensor]] = {
            "model": weights_of(self._model),
            "optimizer": self._optimizer.state_tensors(),
        }
        if self._averaged is not None:
            groups["ema"] = self._averaged.state_tensors()
        return groups

    def load_state_dict(self, state: TensorGroups) -> None:
        """Restore what `state_dict` gave.

        Raises:
            CheckpointError: A group, a name or a shape does not fit; all are listed.
        """
        weights = weights_of(self._model)
        refuse_misfits("model", weights, state.get("model", {}))
        if self._averaged is not None:
            refuse_misfits("ema", self._averaged.state_tensors(), state.get("ema", {}))
            self._averaged.load_state_tensors(state["ema"])
        self._optimizer.load_state_tensors(state.get("optimizer", {}))
        with torch.no_grad():
            for name, tensor in weights.items():
                tensor.copy_(state["model"][name])

    def _seed_draws(self, seed: int) -> None:
        # torch.manual_seed also notes for a CUDA that may start later who asked: 0.3 ms for the text of the stack.
        if self._device.type == "cpu":
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)

    def _precision(self) -> Any:
        if self._dtype is torch.float32:
            return nullcontext()
        return torch.autocast(self._device.type, dtype=self._dtype)
