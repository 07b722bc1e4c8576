"""Small random models of Qwen3's shape learn to solve symbolic problems: exact match on problems never seen, and the minutes it took.

Each row is what a user types: `mlp prepare`, `mlp train`, `mlp evaluate --profile --split test` of the experiment regime3. The last row
trains an adapter (LoRA) on a base that an earlier row trained and `mlp export` wrote: it learns the marks and the form of regime3 from
one that answered without.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tables import Row, Table, command_line, progress, publish

PLAIN = "prepare.profile={kind='plain_sft', system_prompt=''}"
QUICK = ("prepare.source.count=400", "train.max_steps=20", "train.evaluate_every_steps=20")


@dataclass(frozen=True)
class Proof:
    """What one row trained."""

    minutes: float
    """Of preparing and training, by the clock."""
    questions: int
    exact: float
    """Share of the test problems that were answered to the letter."""
    matched: float
    """Share that mean the same."""
    low: float
    """Lower end of the interval of `exact` that holds with 95 % confidence."""


def mlp(*words: str) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "ml_playground.cli", *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"mlp {' '.join(words)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def proof(name: str, sets: Sequence[str]) -> Proof:
    """Prepare, train and evaluate."""
    settings = [word for text in sets for word in ("--set", text)]
    began_s = time.monotonic()
    mlp("prepare", "regime3", *settings)
    run = json.loads(mlp("train", "regime3", "--fresh", "--json", *settings))["run"]
    minutes = (time.monotonic() - began_s) / 60
    found = json.loads(mlp("evaluate", run, "--profile", "--split", "test", "--json"))
    shares = found["shares"]
    progress(f"{name}: {shares['exact']['value']:.1%} after {minutes:.1f} minutes")
    return Proof(
        minutes, found["questions"], shares["exact"]["value"], shares["matched"]["value"], shares["exact"]["low"]
    )


def tables(options: argparse.Namespace) -> Iterator[Table]:
    """One table, a row each way to learn."""
    with tempfile.TemporaryDirectory(prefix="learning_proof_") as home:
        os.environ |= {"MLP_HOME": home, "HF_HUB_OFFLINE": "1"}
        more = QUICK if options.quick else ()
        full = {"plain_sft": proof("plain_sft", [PLAIN, *more])}
        base = Path(home) / "base"
        mlp("export", "regime3", "--kind", "hugging_face", "--out", str(base))
        full["regime3"] = proof("regime3", more)
        adapter = [
            f"prepare.tokenizer={{kind='hugging_face', path='{base}'}}",
            f"model={{kind='hf_causal_lm', path='{base}', adapter={{kind='lora', r=16, alpha=32}}}}",
            "optimizer={kind='adamw', lr=2e-3}",
            "train.max_steps=800",
        ]
        lora = proof("regime3, LoRA", [*adapter, *more])
        letter, minutes = "problems solved to the letter", "minutes to solve them"
        rows = [Row(cells(name, found), letter, found.exact) for name, found in full.items()]
        rows.append(Row(cells("regime3, LoRA on the base of plain_sft", lora), f"{letter}, LoRA", lora.exact))
        slowest = max(found.minutes for found in full.values())
        rows.append(Row(["the slower of the first two", *[None] * 4, slowest], minutes, slowest))
        columns = ["profile", "problems", "exact", "at least (95 %)", "same meaning", "minutes"]
        note = (
            "0.8 million parameters, 4 layers, 128 wide. Test problems occur neither in training nor in validation; minutes of preparing "
            "and training."
        )
        yield Table("learning_proof", "Symbolic problems solved", columns, rows, [note])


def cells(name: str, found: Proof) -> list[str | int | float]:
    """Of a row."""
    return [name, found.questions, found.exact, found.low, found.matched, found.minutes]


if __name__ == "__main__":
    publish(tables, command_line(__doc__))
