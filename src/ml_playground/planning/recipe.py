"""The settings of a planned run: the best recipe known, at the size and for the time that were chosen."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from ml_playground.planning.budget import (
    EVALUATION_SHARE,
    EVALUATIONS,
    GENEROUS,
    LEAST_EVALUATED,
    Candidate,
    Choice,
    DataFacts,
)
from ml_playground.planning.scaling import MEGA, Forecast

HOOK = "time_budget"
"""Name and kind of the hook that keeps the time."""
BIGRAM_ROWS = 8192
"""Rows of the table of token pairs: all pairs of 90 characters; more rows cost more in the optimizer than they gain."""
LR, LR_WIDTH = 0.02, 128
"""Peak of the Adam part at that width; it falls as the root of the width. 0.01 to 0.04 differ by 0.01 nats (docs/LOG.md)."""
MATRIX_LR = 0.02
"""Peak of Muon, whose steps are of equal size at every width."""
WARMUP_STEPS = 20
"""Steps of warm-up of a run that has at least ten times as many."""
DECAY_FRACTION = 0.85
"""Share of the time in which the learning rate comes down: 0.01 nats better than 0.6."""


@dataclass(frozen=True, slots=True)
class Time:
    """How the minutes are shared out."""

    minutes: float
    """Of the whole command."""
    train_seconds: float
    """Of them for training, evaluating and saving."""


def settings_of(choice: Choice, facts: DataFacts, time: Time) -> dict[str, Any]:
    """The tables of a job that the plan sets."""
    candidate, steps = choice.candidate, choice.steps
    every_steps, batches = evaluation_of(choice, facts, time.train_seconds)
    table = recipe_of(candidate, steps, dropout=choice.dropout)
    table["train"] |= {
        "max_steps": GENEROUS * steps,
        "evaluate_every_steps": every_steps,
        "evaluation_batches": batches or "none",
    }
    table["checkpointing"] = {"every_steps": "none"}
    # "auto" would weigh it against all steps that are allowed, not those that fit.
    table["runtime"] = {"compile": False}
    table["hooks"] = {HOOK: hook_of(time, choice.expected), "samples": {"every_steps": every_steps}}
    return table


def tried_as(candidate: Candidate, steps: int) -> dict[str, Any]:
    """The tables of a short training that tells what a candidate takes."""
    # As the planned run is made; and on a machine that is busy "auto" would spend the minutes on the compiler.
    return recipe_of(candidate, steps) | {"runtime": {"compile": False}}


def recipe_of(candidate: Candidate, steps: int, *, dropout: float = 0.0) -> dict[str, Any]:
    """Model, batches, optimizer and schedule."""
    return {
        "data": {"sequence_tokens": candidate.sequence_tokens, "micro_batch_rows": candidate.rows},
        "model": {
            "kind": "gpt",
            "n_layer": candidate.layers,
            "n_head": candidate.heads,
            "n_kv_head": "none",
            "n_embd": candidate.width,
            "head_dim": "none",
            "n_inner": "none",
            "block_size": "none",
            "position": "rotary",
            "norm": "rms_norm",
            "feed_forward": "relu2",
            "qk_norm": True,
            "bias": False,
            "tied_head": False,
            "zero_init": True,
            "bigram_rows": BIGRAM_ROWS,
            "dropout": dropout,
        },
        "optimizer": {
            "kind": "muon",
            "lr": round(LR * math.sqrt(LR_WIDTH / candidate.width), 4),
            "matrix_lr": MATRIX_LR,
            "weight_decay": 0.0,
        },
        "schedule": {"kind": "warmup_constant", "warmup_steps": max(1, min(WARMUP_STEPS, steps // 10))},
        "train": {"max_steps": steps, "micro_batches_per_step": 1},
    }


def hook_of(time: Time, expected: Forecast) -> dict[str, Any]:
    """The settings of the hook that keeps the time."""
    return {
        "kind": HOOK,
        "minutes": time.minutes,
        "train_seconds": round(time.train_seconds, 1),
        "decay_fraction": DECAY_FRACTION,
        "expected_loss": round(expected.loss, 4),
        "expected_low": round(expected.low, 4),
        "expected_high": round(expected.high, 4),
    }


def evaluation_of(choice: Choice, facts: DataFacts, seconds: float) -> tuple[int, int | None]:
    """Steps between evaluations, and the batches of each; None where each reads the whole validation part.

    Two evaluations at least, for the first tells how long the last will take; all of them within `EVALUATION_SHARE`.
    """
    spendable_s = EVALUATION_SHARE * seconds
    whole_s = facts.validation_tokens * choice.timing.evaluation_s
    count = int(min(EVALUATIONS, max(2, spendable_s // max(whole_s, 1e-9))))
    every_steps = max(1, choice.steps // count)
    if count * whole_s <= spendable_s:
        return every_steps, None
    tokens = max(LEAST_EVALUATED, spendable_s / count / choice.timing.evaluation_s)
    return every_steps, max(1, int(tokens / choice.candidate.step_tokens))


def recorded(job: Mapping[str, Any]) -> dict[str, Any]:
    """The plan that a recorded job was made with: its values at the keys that plans set."""
    model = {name: value for name, value in job["model"].items() if name not in ("weights", "vocab_size")}
    train = ("max_steps", "micro_batches_per_step", "evaluate_every_steps", "evaluation_batches")
    table = {
        "data": {name: job["data"][name] for name in ("sequence_tokens", "micro_batch_rows")},
        "model": model,
        "optimizer": job["optimizer"],
        "schedule": job["schedule"],
        "train": {name: job["train"][name] for name in train},
        "checkpointing": {"every_steps": job["checkpointing"]["every_steps"]},
        "runtime": {"compile": job["runtime"]["compile"]},
        "hooks": {HOOK: job["hooks"][HOOK], "samples": {"every_steps": job["hooks"]["samples"]["every_steps"]}},
    }
    return _with_words(table)


def _with_words(table: Mapping[str, Any]) -> dict[str, Any]:
    """JSON's null as the word that a layer writes."""
    return {
        name: _with_words(cast(Mapping[str, Any], value))
        if isinstance(value, Mapping)
        else "none"
        if value is None
        else value
        for name, value in table.items()
    }


def without(table: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
    """The plan without what its user has set; of a component whose user has chosen another kind, nothing is left."""
    return _without(table, fixed, "")


def _without(table: Mapping[str, Any], fixed: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in table.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            inner = cast(Mapping[str, Any], value)
            if fixed.get(f"{path}.kind", inner.get("kind")) == inner.get("kind"):
                kept[name] = _without(inner, fixed, f"{path}.")
        elif path not in fixed:
            kept[name] = value
    return kept


def reasons(choice: Choice, facts: DataFacts) -> list[str]:
    """Why this candidate, in words."""
    candidate = choice.candidate
    training = candidate.training(facts, choice.steps)
    others = sorted((loss, other) for other, loss in choice.tried.items() if other != candidate)
    dropout = f", dropout {choice.dropout:g}" if choice.dropout else ""
    lines = [
        f"{candidate}: {candidate.parameters / MEGA:.2g} M weights in its blocks{dropout}",
        (
            f"{choice.steps:,} steps of {1000 * choice.timing.step_s:.1f} ms: {training.tokens / MEGA:.2g} M tokens, "
            f"{training.epochs:.2g} epochs"
        ),
    ]
    lines += [f"measured too: {other}, expected {loss:.3f}" for loss, other in others]
    return lines
