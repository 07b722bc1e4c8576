"""What Optuna would try next: its tree-structured Parzen estimator over the trials that have ended."""

from collections.abc import Sequence
from typing import Any, cast

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from ml_playground.commands.sweep_record import Trial
from ml_playground.commands.sweep_space import Choices, Range, Space


def suggest(space: Space, trials: Sequence[Trial], number: int, seed: int, *, higher: bool) -> dict[str, Any]:
    """The values of trial `number`: a function of the seed and the trials before, so that a resumed sweep tries the same."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed + number)
    study = optuna.create_study(direction="maximize" if higher else "minimize", sampler=sampler)
    rooms = {key: _distribution(room) for key, room in space.items()}
    for trial in trials:
        state = TrialState.COMPLETE if trial.state == "complete" else TrialState.FAIL
        params = {key: _inner(space[key], value) for key, value in trial.values.items()}
        value = trial.score if trial.state == "complete" else None
        study.add_trial(create_trial(state=state, params=params, distributions=rooms, value=value))
    drawn = study.ask(rooms).params
    return {key: _outer(room, drawn[key]) for key, room in space.items()}


def _distribution(room: Range | Choices) -> BaseDistribution:
    if isinstance(room, Choices):
        # By their place: Optuna takes no lists or tables for choices.
        return CategoricalDistribution(range(len(room.values)))
    if room.whole:
        return IntDistribution(int(room.low), int(room.high), log=room.logarithmic)
    return FloatDistribution(room.low, room.high, log=room.logarithmic)


def _inner(room: Range | Choices, value: Any) -> Any:
    return room.values.index(value) if isinstance(room, Choices) else value


def _outer(room: Range | Choices, drawn: Any) -> Any:
    return room.values[cast(int, drawn)] if isinstance(room, Choices) else room.number(drawn)
