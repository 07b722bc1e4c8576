"""Breaks the pure modules on purpose, one small change at a time: a test must notice each.

Works on a copy under .cache/mutants, so the checkout is never touched. `--sample 60` takes some minutes on two cores;
`--sample 0` tries every change.
"""

import argparse
import os
import random
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_db import use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome

ROOT = Path(__file__).parent.parent
COPIES = ROOT / ".cache" / "mutants"
TIMEOUT_SECONDS = 60.0
# Unions are written with `|` in annotations: changing those only breaks the import.
UNINTERESTING = "core/ReplaceBinaryOperator_BitOr"

# Module -> the tests that must notice. Only what decides without reaching out: a mutant costs a second or two there.
PURE = {
    "core/registry.py": ["tests/unit/core/test_registry.py"],
    "core/seeding.py": ["tests/property/test_seeding.py"],
    "core/values.py": ["tests/unit/core/test_values.py"],
    "core/installation.py": ["tests/unit/core/test_installation.py"],
    "core/machine.py": ["tests/unit/core/test_machine.py"],
    "configuration/origins.py": ["tests/unit/configuration"],
    "configuration/problems.py": ["tests/unit/configuration"],
    "configuration/overrides.py": ["tests/unit/configuration"],
    "training/loop.py": ["tests/unit/training/test_loop.py"],
    "training/optim/schedules.py": ["tests/unit/training/test_schedules.py"],
    "training/checkpointing/retention.py": [
        "tests/unit/training/checkpointing/test_retention.py",
        "tests/property/test_retention.py",
    ],
    "sampling/filters.py": ["tests/property/test_filters_laws.py"],
    "data_pipeline/ledger.py": ["tests/unit/data_pipeline/test_ledger.py"],
    "data_pipeline/survey.py": ["tests/property/test_survey_laws.py"],
    "data_pipeline/transforms/dedupe.py": ["tests/property/test_survey_laws.py"],
    "data_pipeline/lost_places.py": ["tests/property/test_survey_laws.py", "tests/property/test_ledger_laws.py"],
    "data_pipeline/loss_limit.py": ["tests/unit/data_pipeline/test_loss_limit.py"],
    "data_pipeline/sampling/fates.py": ["tests/property/test_fates_laws.py"],
}


class Mutant(NamedTuple):
    """One change, and the tests that are to notice it."""

    spec: MutationSpec
    tests: list[str]


class Verdict(NamedTuple):
    """What became of a mutant."""

    survived: bool
    diff: str


def copy_of(number: int) -> Path:
    """A fresh copy of source and tests for one worker."""
    folder = COPIES / str(number)
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("src", "tests", "docs", "tools"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "constraints.txt", "Makefile"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def all_mutants() -> Iterator[Mutant]:
    """Every change of every pure module that is there, paths below a copy."""
    os.chdir(copy_of(0))
    for module, tests in PURE.items():
        path = Path("src/ml_playground") / module
        present = [test for test in tests if Path(test).exists()]
        if not path.is_file() or not present:
            print(f"no mutants of {module}: it or its tests are missing")
            continue
        with use_db(COPIES / "work.sqlite") as work:
            init([path], work, {})
            specs = [spec for item in work.work_items for spec in item.mutations]
        yield from (Mutant(spec, present) for spec in specs if not spec.operator_name.startswith(UNINTERESTING))


def judge(mutant: Mutant) -> Verdict:
    """Apply the change in this worker's copy, run the tests, take it back."""
    # Our installed source is on the path too; the copy comes first.
    os.environ["PYTHONPATH"] = str(Path.cwd() / "src")
    os.environ["OMP_NUM_THREADS"] = "1"
    command = f"{sys.executable} -m pytest -x -q {' '.join(mutant.tests)}"
    result = mutate_and_test([mutant.spec], command, TIMEOUT_SECONDS)
    return Verdict(result.test_outcome == TestOutcome.SURVIVED, result.diff or "")


def enter_copy() -> None:
    """Give each worker process a copy of its own."""
    os.chdir(copy_of(os.getpid()))


def main() -> int:
    """Try the mutants and print those that nobody noticed; the exit code is 1 when they are too many."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, default=60, help="how many mutants, drawn evenly; 0: all")
    parser.add_argument("--threshold", type=float, default=0.85, help="share that tests must notice")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw")
    parser.add_argument("--workers", type=int, default=2, help="processes, each with its own copy")
    options = parser.parse_args()
    started_s = time.monotonic()
    shutil.rmtree(COPIES, ignore_errors=True)
    mutants = list(all_mutants())
    if 0 < options.sample < len(mutants):
        mutants = random.Random(options.seed).sample(mutants, options.sample)
    with ProcessPoolExecutor(options.workers, initializer=enter_copy) as pool:
        verdicts = list(pool.map(judge, mutants))
    survivors = [verdict for verdict in verdicts if verdict.survived]
    for verdict in survivors:
        print(verdict.diff)
    share = 1 - len(survivors) / max(1, len(verdicts))
    took_s = time.monotonic() - started_s
    print(f"{len(verdicts)} mutants, {share:.0%} noticed ({options.threshold:.0%} asked for), {took_s:.0f} s")
    return int(share < options.threshold)


if __name__ == "__main__":
    sys.exit(main())
