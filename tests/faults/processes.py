"""Signals at any moment, two processes on one run, a reader that never rests; prints what was found.

Run as `python -m tests.faults.processes FOLDER COUNT`: `COUNT` signals at random moments.
"""

import json
import mmap
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.forked import ended, in_child, load_all

from ml_playground.cli import main as mlp
from ml_playground.configuration.loading import load
from ml_playground.core.checkpoint_format import latest, steps_in
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import RunError
from ml_playground.core.run_folder import RunFolder, all_runs, runs_folder
from ml_playground.core.values import Action
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.monitoring.reader import list_runs, read_result, read_status
from ml_playground.training.engine import run_job
from ml_playground.training.resume import Choice
from tests.fakes.tiny_job import tiny_job
from tests.faults.forking import faults_after_a_kill, faults_of_a_resumed, trained

Report = dict[str, Any]
Moment = Callable[[Path], bool]
"""Whether it has come, by what lies under a home."""

WITHIN_S = 600.0
"""From a signal to the end of the process: against a hang alone, for a machine that is shared may be elsewhere for minutes."""
NOT_BEGUN = {-signal.SIGTERM, 130}
"""How a process ends that was asked to before there was a run: nothing is to be saved."""

CONFIG = """
prepare = { source = { kind = "text_file", path = "../text.txt" }, tokenizer = { kind = "char" } }
data = { sequence_tokens = 16, micro_batch_rows = 4 }
model = { n_layer = 1, n_head = 2, n_embd = 16 }
schedule.warmup_steps = 0
train = { max_steps = 40, evaluate_every_steps = 8, evaluation_batches = 6, log_every_steps = 5 }
checkpointing = { every_steps = 7 }
runtime = { device = "cpu", dtype = "float32", threads = 1 }
hooks.samples = { every_steps = 15, max_new_tokens = 8 }
"""


class Command:
    """A child that does what `mlp WORDS` does; its words lie in `home/said`."""

    def __init__(self, words: list[str], home: Path, stderr: int | None = None) -> None:
        """`stderr`: a descriptor that takes its place in `home/said`."""
        self.home = home
        self._words = words
        self._stderr = stderr
        self._code: int | None = None
        self._child = in_child(self._act)

    def _act(self) -> int:
        os.environ["MLP_HOME"] = str(self.home)
        said = os.open(self.home / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(said, 1)
        os.dup2(said if self._stderr is None else self._stderr, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        # As the whole process: a Ctrl-C that leaves a lock taken for ever, at 1 of 39 moments of a wait for a save, costs it 8 s.
        sys.argv = ["mlp", *self._words]
        return mlp()

    def code(self) -> int | None:
        """How it ended; None while it lives."""
        if self._code is None:
            child, status = os.waitpid(self._child, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if child else None
        return self._code

    def send(self, number: int) -> None:
        """A signal, if it lives."""
        if self.code() is None:
            os.kill(self._child, number)

    def wait(self, moment: Moment = lambda _: False) -> int | None:
        """Wait for a moment, or for its end."""
        while self.code() is None and not moment(self.home):
            time.sleep(0.0005)
        return self.code()


def newest_run(home: Path) -> RunFolder | None:
    """The run of a home, if there is one yet."""
    return next(iter(all_runs(home / "runs")), None)


def after(seconds: float) -> Moment:
    """A moment by the clock."""
    until_s = time.monotonic() + seconds
    return lambda _: time.monotonic() >= until_s


def evaluating(home: Path) -> bool:
    """An evaluation is under way."""
    run = newest_run(home)
    status = read_status(run) if run else None
    return status is not None and status.state == "evaluating"


def saving(home: Path) -> bool:
    """A checkpoint is being written."""
    run = newest_run(home)
    return run is not None and any(run.checkpoints.glob(".step_*.partial/new"))


def first_step(home: Path) -> bool:
    """The run has been written down, and nothing of its steps."""
    return newest_run(home) is not None


def last_steps(home: Path) -> bool:
    """The last evaluation is near."""
    run = newest_run(home)
    return run is not None and run.metrics.exists() and '"step":35,' in run.metrics.read_text()


def home_with(data: Path, home: Path) -> Path:
    """A home of its own with prepared data."""
    home.mkdir(parents=True)
    shutil.copytree(data, home / "data")
    return home


def stopped(experiment: Path, whole: RunFolder, home: Path, signals: list[tuple[int, Moment]]) -> Report:
    """Train, be signalled at these moments, and then go on until the run is complete; what is wrong, and what happened."""
    training = Command(["train", str(experiment)], home)
    for number, moment in signals:
        training.wait(moment)
        asked_s = time.monotonic()
        training.send(number)
    code = training.wait()
    took_s = time.monotonic() - asked_s
    faults = [] if took_s < WITHIN_S else [f"it took {took_s:.1f} s to stop"]
    run = newest_run(home)
    if run is not None:
        faults += faults_after_a_kill(run)
    if code == 0 and (run is None or not steps_in(run.checkpoints)):
        faults.append("it ended with 0 without a checkpoint")
    # Before the first step there is nothing to save; once the result is there the handlers are gone, and what is left is to say it.
    over = run is not None and (read_result(run) is not None or not steps_in(run.checkpoints))
    saved = {0} | (NOT_BEGUN if over or len(signals) > 1 else set())
    if code not in (NOT_BEGUN if run is None else saved):
        faults.append(f"it ended with {code}: {(home / 'said').read_text()}")
    again = Command(["train", str(experiment)], home).wait()
    run = newest_run(home)
    faults += (
        [f"the next start ended with {again}"]
        if again or run is None
        else faults_of_a_resumed(run, whole, saved_more=True)
    )
    said = (home / "said").read_text()
    shutil.rmtree(home)
    return {"code": code, "seconds": took_s, "stopping": "stopping after this step" in said, "faults": faults}


def stop_trainings(folder: Path, count: int) -> dict[str, list[Report]]:
    """Signals at random moments, at moments of choice, and twice."""
    draw = random.Random(folder.name)
    experiment = folder / "experiment"
    data, whole_home = folder / "prepared" / "data", folder / "whole"
    os.environ["MLP_HOME"] = str(folder / "prepared")
    prepare(load(str(experiment)).job.prepare, Deps())
    began_s = time.monotonic()
    if Command(["train", str(experiment)], home_with(data, whole_home)).wait():
        raise SystemExit((whole_home / "said").read_text())
    whole_s = time.monotonic() - began_s
    whole = newest_run(whole_home)
    assert whole is not None
    chosen = {"evaluation": evaluating, "save": saving, "first step": first_step, "end": last_steps}
    report: dict[str, list[Report]] = {"any moment": []}
    for number in range(count):
        moment = after(draw.uniform(0, whole_s))
        word = (signal.SIGINT, signal.SIGTERM)[number % 2]
        report["any moment"].append(
            stopped(experiment, whole, home_with(data, folder / f"any-{number}"), [(word, moment)])
        )
    for number, (name, moment) in enumerate(list(chosen.items()) * max(1, count // 4)):
        word = (signal.SIGINT, signal.SIGTERM)[(number + number // len(chosen)) % 2]
        home = home_with(data, folder / f"{name}-{number}")
        report[name] = [*report.get(name, []), stopped(experiment, whole, home, [(word, moment)])]
    twice = [(signal.SIGINT, after(whole_s / 2)), (signal.SIGINT, after(whole_s / 2 + 0.005))]
    report["twice"] = [stopped(experiment, whole, home_with(data, folder / "twice"), twice)]
    return report


def stop_long_evaluations(folder: Path) -> Report:
    """A signal in the midst of an evaluation that would take minutes: it is broken off, and owed."""
    experiment = folder / "long"
    experiment.mkdir()
    (folder / "long.txt").write_text("".join(f"{number} bottles of {number % 97} sorts\n" for number in range(250_000)))
    long = {
        "../text.txt": "../long.txt",
        "batches = 6": "batches = 1_000_000",
        '"char" } }': '"char" }, val_fraction = 0.5 }',
        "n_layer = 1, n_head = 2, n_embd = 16": "n_layer = 6, n_head = 2, n_embd = 128",
    }
    config = CONFIG
    for short, other in long.items():
        config = config.replace(short, other)
    (experiment / "config.toml").write_text(config)
    os.environ["MLP_HOME"] = str(folder / "long-prepared")
    prepare(load(str(experiment)).job.prepare, Deps())
    report: Report = {"signals": 0, "faults": []}
    for number, word in enumerate((signal.SIGTERM, signal.SIGINT)):
        home = home_with(folder / "long-prepared" / "data", folder / f"long-{number}")
        training = Command(["train", str(experiment)], home)
        training.wait(evaluating)
        training.wait(after(0.3))
        training.send(word)
        code = training.wait()
        report["signals"] += 1
        run = newest_run(home)
        newest = latest(run.checkpoints) if run is not None else None
        if code or newest is None or newest.owed != Action.EVALUATE | Action.SAVE:
            report["faults"].append(
                f"it ended with {code} and owes {newest and newest.owed}: {(home / 'said').read_text()}"
            )
    return report


def stop_preparations(folder: Path, count: int) -> list[str]:
    """Signals at random moments of a preparation: nothing half-written, and the next one is whole."""
    draw = random.Random(folder.name)
    experiment = folder / "large"
    experiment.mkdir()
    (folder / "large.txt").write_text("".join(f"{number} bottles of {number % 97} sorts\n" for number in range(50_000)))
    (experiment / "config.toml").write_text(CONFIG.replace("../text.txt", "../large.txt"))
    began_s = time.monotonic()
    words = ["prepare", str(experiment)]
    if Command(words, home_with(folder / "prepared" / "data", folder / "prepare-whole")).wait():
        raise SystemExit((folder / "prepare-whole" / "said").read_text())
    whole_s = time.monotonic() - began_s
    faults: list[str] = []
    for number in range(count):
        home = home_with(folder / "prepared" / "data", folder / f"prepare-{number}")
        preparing = Command(words, home)
        preparing.wait(after(draw.uniform(0, whole_s)))
        preparing.send((signal.SIGINT, signal.SIGTERM)[number % 2])
        code = preparing.wait()
        if code not in (0, 130, -signal.SIGTERM):
            faults.append(f"it ended with {code}: {(home / 'said').read_text()}")
        if Command(words, home).wait():
            faults.append(f"the next one failed: {(home / 'said').read_text()}")
        if left := [path.name for path in (home / "data").glob(".*.partial")]:
            faults.append(f"the next one leaves {left}")
        shutil.rmtree(home)
    return faults


def rivals(folder: Path, count: int) -> list[str]:
    """Two processes begin the same run at the same moment: one trains, and the other is refused or comes too late."""
    os.environ["MLP_HOME"] = str(folder / "rivals")
    job = tiny_job(folder, train={"max_steps": 20, "log_every_steps": 1}, runtime={"flight_check": False})
    prepare(job.prepare, Deps())
    place = runs_folder() / job.name
    whole = RunFolder(place / "whole")
    if ended(in_child(lambda: trained(job, whole))):
        raise SystemExit("the run that was left alone failed")
    faults: list[str] = []
    for number in range(count):
        run = RunFolder(place / f"wanted-{number}")
        reading, writing = os.pipe()

        def rival(run: RunFolder = run, go: int = reading) -> int:
            os.read(go, 1)
            try:
                trained(job, run)
            except RunError:
                return 2
            return 0

        children = [in_child(rival) for _ in range(2)]
        os.write(writing, b"go")
        codes = sorted(ended(child) for child in children)
        os.close(reading)
        os.close(writing)
        if codes not in ([0, 0], [0, 2]):
            faults.append(f"they ended with {codes}")
        faults += faults_of_a_resumed(run, whole)
    return faults


def twins(folder: Path, count: int) -> list[str]:
    """Two processes are told to train the same experiment at the same moment: one run, which one of them trains."""
    faults: list[str] = []
    for number in range(count):
        home = home_with(folder / "prepared" / "data", folder / f"twins-{number}")
        both = [Command(["train", str(folder / "experiment")], home) for _ in range(2)]
        codes = sorted(command.wait() or 0 for command in both)
        runs = all_runs(home / "runs")
        if codes not in ([0, 0], [0, 2]):
            faults.append(f"they ended with {codes}: {(home / 'said').read_text()}")
        if len(runs) != 1 or read_result(runs[0]) is None:
            faults.append(f"there are {len(runs)} runs")
        shutil.rmtree(home)
    return faults


def looked_twice(looks: mmap.mmap) -> bool:
    """Wait until the reader has begun a look and ended it: where processors are few it would see little of the run. Never a stop."""
    began, until_s = looks[0], time.monotonic() + WITHIN_S
    while (looks[0] - began) % 256 < 2 and time.monotonic() < until_s:
        time.sleep(0.0002)
    return False


def restless_reader(folder: Path, count: int) -> Report:
    """A reader that asks for the status as fast as it can, while the status is written as often as it can be."""
    os.environ["MLP_HOME"] = str(folder / "read")
    sections: dict[str, Any] = {
        "train": {"max_steps": 40 + count, "log_every_steps": 1},
        "runtime": {"flight_check": False},
    }
    job = tiny_job(folder, hooks={"status": {"kind": "status", "every_seconds": 1e-6}}, **sections)
    prepare(job.prepare, Deps())
    unread, run = RunFolder(runs_folder() / job.name / "unread"), RunFolder(runs_folder() / job.name / "read")
    if ended(in_child(lambda: trained(job, unread))):
        raise SystemExit("the run that nobody reads failed")
    looks = mmap.mmap(-1, 1)
    looked_at = Deps(stop_requested=lambda: looked_twice(looks))
    child = in_child(lambda: run_job(job, looked_at, Choice("resume", run)) and None)
    reads = missing = 0
    seen: set[int] = set()
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        status = read_status(run)
        reads += 1
        looks[0] = reads % 256
        missing += status is None and bool(seen)
        if status is not None:
            seen.add(status.step)
        if reads % 50 == 0:
            list_runs(runs_folder())
    faults = faults_of_a_resumed(run, unread)
    return {"reads": reads, "missing": missing, "steps seen": len(seen), "faults": faults}


def unread(folder: Path) -> list[str]:
    """Nobody reads what is said, and the pipe is full: one run comes to its end, one is asked to stop and saves."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while os.write(writing, b"x" * 4096):
            pass
    os.set_blocking(writing, True)
    experiment = folder / "experiment"
    homes = [home_with(folder / "prepared" / "data", folder / f"unread-{number}") for number in range(2)]
    often = ["train", str(experiment), "--set", "hooks.console.every_seconds=1e-6"]
    whole, asked = (Command(often, home, writing) for home in homes)
    asked.wait(last_steps)
    asked.send(signal.SIGTERM)
    codes = [whole.wait(), asked.wait()]
    os.close(writing)
    os.close(reading)
    faults: list[str] = []
    for home, code in zip(homes, codes, strict=True):
        run = newest_run(home)
        result = read_result(run) if run is not None else None
        # Once the result is there the handlers are gone.
        over = home is homes[1] and result is not None and result.reason == "completed"
        if code not in {0} | (NOT_BEGUN if over else set()):
            faults.append(f"{home.name}: ended with {code}")
        if run is None or result is None or "hook_left_behind" not in run.events.read_text():
            faults.append(f"{home.name}: no result, or no word of the console that hangs")
    return faults


def main(folder: Path, count: int) -> None:
    """Everything, as one JSON object."""
    experiment = folder / "experiment"
    experiment.mkdir()
    tiny_job(folder)
    (experiment / "config.toml").write_text(CONFIG)
    load_all(load(str(experiment)).job)
    report = {
        "signals": stop_trainings(folder, count),
        "preparations": stop_preparations(folder, count),
        "long evaluations": stop_long_evaluations(folder),
        "rivals": rivals(folder, max(2, count // 4)),
        "twins": twins(folder, max(2, count // 4)),
        "reader": restless_reader(folder, 10 * count),
        "unread": unread(folder),
    }
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
