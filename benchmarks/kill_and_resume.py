"""Kills runs at random moments, resumes them, and compares every bit with a run that was left alone.

A cycle is one run of one job: killed one to three times (SIGKILL mostly; SIGTERM and SIGINT, which it may answer with a save; each
of them again before it has), at a random moment of its life, some milliseconds after a random step, or in the midst of a
save; resumed each time; and compared at its end. The jobs are the shipped experiments with the settings of their test_config.toml and
variants of them. `--folder` keeps what is done: the same command goes on after the last finished cycle. A run that ends
with other bits is kept, and the command that repeats its draws is printed (the moments of a clock are never quite the same).
"""

import argparse
import json
import os
import random
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from forked import Child, ChildError, load_all
from killed_jobs import STEPS, tiny_jobs
from tables import Row, Table, command_line, progress, publish

from ml_playground.commands.train import exit_code_of, train_job
from ml_playground.commands.training_process import saved_step, written_step
from ml_playground.configuration.models import JobConfig
from ml_playground.core.atomic import append_lines, read_lines, write_file
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import PlaygroundError
from ml_playground.core.run_folder import RunFolder, runs_folder
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.monitoring.comparison import compare_runs
from ml_playground.monitoring.reader import read_result
from ml_playground.training.resume import read_job

SIGNALS = (*["SIGKILL"] * 6, "SIGTERM", "SIGINT", "SIGTERM twice", "SIGINT twice")
"""What a kill is drawn from."""
OF_IMAGES = ("AdamW", "averaged weights")
"""Variants for experiments with images, whose batches and models are others and whose engine is the same."""
MOMENTS = ("of its life", "after a step", "in a save")
MOST_KILLS = 3


@dataclass(frozen=True)
class Kill:
    """One of a cycle."""

    signal: str
    moment: str
    written_step: int
    saved_step: int
    in_save: bool


@dataclass(frozen=True)
class Cycle:
    """One run, and what became of it."""

    number: int
    experiment: str
    variant: str
    kills: list[Kill] = field(default_factory=list)
    problem: str = ""
    """What differed or went wrong, in words; empty where every bit is equal."""


def train(run: RunFolder) -> int:
    """What `mlp train` does with the job of a run folder."""
    return exit_code_of(train_job(read_job(run), resume=str(run.path)))


def prepared(job: JobConfig) -> int:
    """What `mlp prepare` does."""
    prepare(job.prepare, Deps())
    return 0


@dataclass(frozen=True)
class Whole:
    """A run that was left alone."""

    run: RunFolder
    seconds: float
    """From the start of its process to its end."""
    steps: int
    """Early stopping may have ended it."""


class Campaign:
    """The runs that were left alone, one for each job, and cycles that are compared with them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._seed = seed
        self._jobs = tiny_jobs(folder)
        self._wholes: dict[tuple[str, str], Whole] = {}
        for job in self._jobs.values():
            load_all(job)

    def cycle(self, number: int) -> Cycle:
        """One by its number: which job, how often it is killed, by what and when is drawn from seed and number."""
        names = list(self._jobs)
        experiment, variant = name = names[number % len(names)]
        draw = random.Random(f"{self._seed}:{number}")
        run = RunFolder(runs_folder() / "killed" / f"{self._seed}-{number}")
        kills: list[Kill] = []
        whole = self._whole(name)
        try:
            # One that was over before its moment came was not killed.
            while not kills:
                fresh(run, whole.run.config.read_bytes())
                _train_killed(run, whole, draw, kills)
            problem = fault(whole.run, run)
        except (ChildError, PlaygroundError) as error:
            problem = str(error)
        if not problem:
            shutil.rmtree(run.path)
        return Cycle(number, experiment, variant, kills, problem)

    def _whole(self, name: tuple[str, str]) -> Whole:
        """A job that cannot be trained at all is no cycle: its `ChildError` ends the campaign."""
        if name not in self._wholes:
            run = RunFolder(runs_folder() / "whole" / re.sub(r"\W+", "-", "-".join(name)))
            job = self._jobs[name]
            fresh(run, job.model_dump_json().encode())
            # Preparing, too, must not start threads here.
            Child(lambda: prepared(job), run.log).finish()
            child = Child(lambda: train(run), run.log)
            child.finish()
            self._wholes[name] = Whole(run, child.seconds, written_step(run))
        return self._wholes[name]


def fresh(run: RunFolder, config: bytes) -> None:
    """A run that has not begun."""
    if run.path.exists():
        shutil.rmtree(run.path)
    write_file(run.config, config)


def _train_killed(run: RunFolder, whole: Whole, draw: random.Random, kills: list[Kill]) -> None:
    """Train, be killed, resume, until the end; what was done is added to `kills`."""
    for _ in range(draw.randint(1, MOST_KILLS)):
        name, kind = draw.choice(SIGNALS), draw.choice(MOMENTS)
        ready = moment_of(kind, run, whole, draw)
        child = Child(lambda: train(run), run.log)
        try:
            if not child.wait(partial(ready, child)):
                child.check()
                return
            in_save = bool(half_written(run))
            child.send(name)
        finally:
            child.kill()
        kills.append(Kill(name, kind, written_step(run), saved_step(run), in_save))
        paused = read_result(run)
        if paused is not None and paused.step != saved_step(run):
            raise ChildError(f"left at step {paused.step} after {name}, but step {saved_step(run)} is saved")
    Child(lambda: train(run), run.log).finish()


def moment_of(kind: str, run: RunFolder, whole: Whole, draw: random.Random) -> Callable[[Child], bool]:
    """Whether it is time to kill a process."""
    at_s, step, pause_s = draw.uniform(0, whole.seconds), draw.randint(1, whole.steps), draw.uniform(0, 0.02)
    left = half_written(run)

    def after_a_step(_child: Child) -> bool:
        if written_step(run) < step:
            return False
        time.sleep(pause_s)
        return True

    def in_a_save(_child: Child) -> bool:
        return written_step(run) >= step - whole.steps // 4 and bool(half_written(run) - left)

    kinds = {"of its life": lambda child: child.seconds >= at_s, "after a step": after_a_step, "in a save": in_a_save}
    return kinds[kind]


def half_written(run: RunFolder) -> set[tuple[int, int]]:
    """What tells apart the checkpoints that are being written, or were when their writer was killed."""
    found: set[tuple[int, int]] = set()
    for place in run.checkpoints.glob(".step_*.partial/new"):
        try:
            found.add((place.stat().st_ino, place.stat().st_mtime_ns))
        except FileNotFoundError:
            continue
    return found


def fault(whole: RunFolder, run: RunFolder) -> str:
    """What is not as in the run that was left alone; empty where all is."""
    comparison = compare_runs(whole, run)
    found = (comparison.row, comparison.tensor, *comparison.state)
    return "; ".join(str(one) for one in found if one is not None)


def cycles(options: argparse.Namespace, folder: Path) -> Iterator[Cycle]:
    """Those that were done by an earlier start of the same command, and the others."""
    record = folder / f"cycles-{options.seed}.jsonl"
    done = {}
    for line in read_lines(record):
        kept = json.loads(line)
        done[kept["number"]] = Cycle(**kept | {"kills": [Kill(**kill) for kill in kept["kills"]]})
    campaign = Campaign(folder, options.seed)
    numbers = range(options.cycles) if options.only is None else options.only
    for number in numbers:
        if number in done and options.only is None:
            yield done[number]
            continue
        cycle = campaign.cycle(number)
        append_lines(record, [json.dumps(asdict(cycle))])
        if cycle.problem:
            again = f"benchmarks/kill_and_resume.py --seed {options.seed} --only {number}"
            progress(f"cycle {number}, {cycle.experiment}, {cycle.variant}: {cycle.problem}\nagain: {again}")
        elif (number + 1) % 20 == 0:
            progress(f"{number + 1} of {options.cycles} cycles")
        yield cycle


def row_of(experiment: str, variant: str, found: Sequence[Cycle]) -> list[str | int]:
    """Of some cycles: how often they were killed, by what, when, and how many ended with other bits."""
    kills = [kill for cycle in found for kill in cycle.kills]
    by = [sum(kill.signal.startswith(name) for kill in kills) for name in ("SIGKILL", "SIGTERM", "SIGINT")]
    before = sum(not kill.saved_step for kill in kills)
    unequal = sum(bool(cycle.problem) for cycle in found)
    return [experiment, variant, len(found), *by, sum(kill.in_save for kill in kills), before, unequal]


def table_of(found: Sequence[Cycle]) -> Table:
    """A row for each job, and the sum."""
    columns = ["experiment", "job", "runs", "SIGKILL", "SIGTERM", "SIGINT", "in a save", "before one", "other bits"]
    names = dict.fromkeys((cycle.experiment, cycle.variant) for cycle in found)
    rows = [Row(row_of(*name, [one for one in found if (one.experiment, one.variant) == name])) for name in names]
    total = row_of("all", "", found)
    unequal = total[-1]
    rows.append(Row(total, "killed and resumed with other bits", float(unequal)))
    note = (
        f"Each run of {STEPS} steps was killed 1 to {MOST_KILLS} times at random moments, resumed, and compared with one that was "
        "left alone: every row of metrics, every tensor of the last checkpoint, the state of every hook."
    )
    return Table("kill_and_resume", "Runs killed and resumed", columns, rows, [note])


def tables(options: argparse.Namespace) -> Iterator[Table]:
    """One table; the folder of a campaign without a fault is removed unless it was named."""
    folder = options.folder or Path(tempfile.mkdtemp(prefix="kill_and_resume_"))
    os.environ["MLP_HOME"] = str(folder / "home")
    found = list(cycles(options, folder))
    faults = [cycle for cycle in found if cycle.problem]
    if not faults and options.folder is None:
        shutil.rmtree(folder)
    yield table_of(found)
    if faults:
        progress(f"{len(faults)} of {len(found)} runs ended with other bits; they are under {folder}")
        raise SystemExit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--cycles", type=int, default=None, help="runs that are killed; as it comes: 200, with --quick 20"
    )
    parser.add_argument("--seed", type=int, default=1, help="of what is drawn")
    parser.add_argument("--only", type=int, nargs="+", metavar="NUMBER", help="repeat these cycles")
    parser.add_argument("--folder", type=Path, help="where runs and results are kept; none: a temporary one")
    chosen = command_line(__doc__, parser)
    chosen.cycles = chosen.cycles or (20 if chosen.quick else 200)
    publish(tables, chosen)
