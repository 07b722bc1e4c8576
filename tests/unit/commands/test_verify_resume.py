"""`mlp verify-resume` as its user meets it: real processes, killed for real."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer

from ml_playground.cli import main
from ml_playground.commands.kill_and_resume import Plan, Verified, kill_it, refuse_a_new_beginning
from ml_playground.commands.prepare import prepare_job
from ml_playground.commands.training_process import TrainingProcess, written_step
from ml_playground.commands.verify_resume import text_of, verified_lines
from ml_playground.configuration.loading import find_experiment, load
from ml_playground.core.atomic import write_file
from ml_playground.core.certificate import Certificate, Kill
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import RunError, WorkerError
from ml_playground.core.run_folder import RunFolder, all_runs, runs_folder, verifications_folder
from ml_playground.core.run_schema import Event
from ml_playground.monitoring.comparison import compare_runs
from ml_playground.training.verification import verification_job
from tests.fakes.run_folder import bare_run, put_rows
from tests.fakes.tiny_job import TEXT
from tests.fakes.trained_run import job_of, save_run

VERIFIED = ("bundestag_char", "digits", "python_stdlib")
"""Text by path with averaged weights and early stopping, images, Muon; benchmarks/kill_and_resume.py kills every experiment."""
CONFIG = """\
prepare.source = { kind = "text_file", path = "text.txt" }
prepare.tokenizer = { kind = "char" }
data = { sequence_tokens = 16, micro_batch_rows = 4 }
model = { n_layer = 1, n_head = 2, n_embd = 16 }
schedule.warmup_steps = 0
runtime = { device = "cpu", dtype = "float32", threads = 1 }
"""


@pytest.fixture
def experiment(tmp_path: Path) -> str:
    """A small experiment of one's own."""
    folder = tmp_path / "toy"
    folder.mkdir()
    (folder / "text.txt").write_text(TEXT)
    (folder / "config.toml").write_text(CONFIG)
    return str(folder)


def verifications(name: str) -> list[RunFolder]:
    """What verifying has left."""
    return [RunFolder(path) for path in sorted((verifications_folder() / name).glob("*"))]


def words_for(name: str, text: Path) -> list[str]:
    """An experiment in its tiny form; no test asks the network."""
    text.write_text(TEXT)
    local = ["--set", f"prepare.source={{kind='text_file', path='{text}'}}"] if name == "shakespeare" else []
    overlay = str(find_experiment(name) / "test_config.toml")
    return [name, "--config", overlay, *local, "--set", "runtime.threads=1", "--steps", "6", "--more", "30"]


@pytest.mark.slow
@pytest.mark.parametrize("name", VERIFIED)
def test_verify_resume_passes_and_leaves_a_certificate(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed after its checkpoint and resumed, it ends with the same bits; the certificate says so, and no command sees the run."""
    assert main(["verify-resume", *words_for(name, tmp_path / "text.txt")]) == 0
    shown = capsys.readouterr()
    (run,) = verifications(name)
    assert shown.out.startswith(f"{name}: PASS\nequal bits:  36 steps, 12 evaluations, ")
    assert shown.out.endswith(f"certificate: {run.certificate}\n")
    killed = r"^killed:      by SIGKILL after \d+\.\d s, its metrics at step \d+.*; resumed at step \d+$"
    assert re.search(killed, shown.out, re.MULTILINE)
    assert [f"[{number}/3]" in shown.err for number in (1, 2, 3)] == [True] * 3
    certificate = Certificate.model_validate_json(run.certificate.read_bytes())
    assert (certificate.experiment, certificate.steps, certificate.max_steps) == (name, 6, 36)
    assert 6 <= certificate.kills[0].resumed_at < 36
    assert certificate.equal == compare_runs(run, run).equality
    assert certificate.circumstances.device == "cpu"
    assert "torch" in certificate.circumstances.packages
    assert "train.max_steps: 20 -> 36" in certificate.changed
    assert all_runs(runs_folder()) == []


def a_kill(resumed_at: int) -> Kill:
    """With a checkpoint of that step there."""
    return Kill(signal="SIGKILL", seconds=1.0, written_step=9, saving=False, resumed_at=resumed_at)


def starts(*steps: int) -> list[Event]:
    """What a run notes at the start of each of its processes."""
    now = datetime.now(UTC)
    return [Event(time=now, step=step, kind="resumed" if step else "started") for step in steps]


def test_run_that_begins_anew_is_not_certified() -> None:
    """It ends with equal bits all the same, and proves nothing of resuming."""
    with pytest.raises(
        RunError, match=r"checkpoint of step 6 was there, but .* from: none, it began anew\); nothing is"
    ):
        refuse_a_new_beginning(starts(0, 0), [a_kill(6)], 9)
    with pytest.raises(RunError, match=r"did not go on from it \(it went on from: 3\)"):
        refuse_a_new_beginning(starts(0, 3), [a_kill(3), a_kill(6)], 9)
    with pytest.raises(RunError, match=r"checkpoint of step 6 was there, but"):
        refuse_a_new_beginning(starts(0, 0), [a_kill(6), a_kill(9)], 9)
    refuse_a_new_beginning(starts(0, 6), [a_kill(0), a_kill(6)], 9)
    refuse_a_new_beginning(starts(0, 6), [a_kill(6), a_kill(9)], 9)
    refuse_a_new_beginning(starts(0, 0), [a_kill(0)], 9)
    refuse_a_new_beginning(starts(0), [a_kill(0), a_kill(9)], 9)
    refuse_a_new_beginning([], [a_kill(6)], 9)


@pytest.mark.parametrize(
    ("resumed_at", "text"), [(1200, "resumed at step 1,200"), (0, "before its first checkpoint, so begun anew")]
)
def test_lines_of_a_kill_say_whether_anything_was_resumed(resumed_at: int, text: str) -> None:
    """A run that was begun anew ends with equal bits too, which is another promise."""
    assert text_of(a_kill(resumed_at)).endswith(f"; {text}")


@pytest.mark.slow
def test_a_kill_at_the_very_start_is_followed_by_one_that_is_resumed(experiment: str) -> None:
    """A kill within the first hundredth of a second leaves nothing to resume: the last one waits."""
    job = load(experiment).job
    run = RunFolder(verifications_folder() / job.name / "20260101-000000-aaaa")
    prepare_job(job)
    short = verification_job(job, steps=2, more=400)
    write_file(run.config, short.model_dump_json())
    kills = kill_it(run, Plan(2, 400, kills=2, anywhere=True), (0.0, 0.01), Deps(), lambda _text: None)
    assert [bool(kill.resumed_at) for kill in kills] == [False, True]


@pytest.mark.slow
def test_verify_resume_several_kills_anywhere_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One object on stdout; with --keep both runs stay, and compare as equal once more."""
    more = ["--kills", "2", "--anywhere", "--keep", "--json"]
    assert main(["verify-resume", *words_for("shakespeare", tmp_path / "text.txt"), *more]) == 0
    shown = capsys.readouterr()
    record = json.loads(shown.out)
    assert (record["verdict"], record["row"], record["tensor"], record["state"]) == ("PASS", None, None, [])
    kills = record["certificate"]["kills"]
    assert len(kills) == 2
    assert any(kill["resumed_at"] for kill in kills)
    assert "[1/3]" not in shown.err
    assert sorted(record["runs"]) == [str(run.path) for run in verifications("shakespeare")]
    assert main(["verify-resume", record["runs"][0], "--against", record["runs"][1]]) == 0
    assert "PASS\nequal bits:  36 steps, " in capsys.readouterr().out


def test_verify_resume_job_that_gives_out_says_so_and_leaves_nothing(
    experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that ends with NaN proves nothing about a resume."""
    lost = ["optimizer.lr=1e30", "optimizer.eps=1e-30", "train.grad_clip=0.0"]
    assert main(["verify-resume", experiment, *(word for key in lost for word in ("--set", key))]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "error: toy does not come to its end (nan: " in error
    assert "mend that first, then verify it." in error
    assert verifications("toy") == []


def test_verify_resume_job_that_ends_early_names_fewer_steps(
    experiment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Early stopping may end it before the checkpoint that is to be resumed."""
    rule = "hooks.stop={kind='early_stopping', patience=1, min_delta=99.0}"
    told = ["--set", rule, "--set", "train.evaluate_every_steps=2", "--steps", "20"]
    assert main(["verify-resume", experiment, *told]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "toy ends at step 4 by its own rule, before step 20; verify fewer steps: --steps 2." in error
    assert verifications("toy") == []


def commands() -> Iterator[bytes]:
    """Of all processes of this machine, which come and go."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(FileNotFoundError, ProcessLookupError):
            yield path.read_bytes()


@pytest.mark.usefixtures("uncovered")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_verify_resume_interrupted_leaves_neither_processes_nor_runs(
    experiment: str, home: Path, number: signal.Signals
) -> None:
    """Ctrl-C in the midst of a training is its end, too."""
    words = [sys.executable, "-m", "ml_playground.cli", "verify-resume", experiment, "--steps", "100000"]
    words += ["--set", "runtime.compile=false"]
    ours, theirs = pty.openpty()
    said = b""
    with subprocess.Popen(words, stderr=theirs, stdin=subprocess.DEVNULL) as process:
        os.close(theirs)
        try:
            # On a terminal it is said how far the training has come.
            while not re.search(rb"\r\x1b\[K(starting|step )", said):
                said += os.read(ours, 1024)
            os.kill(process.pid, number)
            # A terminal whose other end is closed fails once all is read.
            with suppress(OSError):
                while True:
                    said += os.read(ours, 1024)
            process.wait(600)
        finally:
            process.kill()
    os.close(ours)
    assert process.returncode == 130
    assert b"error:" in said.splitlines()[-1]
    assert said.endswith(b" interrupted.\r\n")
    assert verifications("toy") == []
    assert not any(str(home).encode() in command for command in commands())


def test_verify_resume_against_a_run_that_differs_fails_with_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The first step, the first tensor, and what else: enough to begin looking."""
    job = job_of(tmp_path)
    one = save_run(job, {20: 2.0}, run_id="20260101-000000-aaaa", weights=0.0)
    other = save_run(job, {20: 2.5}, run_id="20260102-000000-bbbb", weights=0.5)
    for run, step in ((one, 20), (other, 19)):
        put_rows(run, step)
    assert main(["verify-resume", one.id, "--against", other.id]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{one.id} and {other.id}: FAIL"
    assert lines[1] == "first step:  step 20, train: missing in the second"
    assert re.fullmatch(
        r"tensor:      model/\S+: [\d,]+ of [\d,]+ elements differ, at most 0\.5 apart; \d+ other tensors differ",
        lines[2],
    )
    assert lines[3:] == ["also:        metrics"]
    assert main(["verify-resume", one.id, "--against", other.id, "--json"]) == 1
    record = json.loads(capsys.readouterr().out)
    assert (record["verdict"], record["row"]["step"], record["state"]) == ("FAIL", 20, ["metrics"])
    assert record["tensor"]["largest"] == 0.5
    assert (record["equal"], record["certificate"]) == (None, None)


def test_verify_resume_of_a_run_against_itself_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By whatever names it is called: a run equals itself, which would prove nothing."""
    run = save_run(job_of(tmp_path), {5: 2.0})
    for name in (run.id, str(run.path), "bottles"):
        assert main(["verify-resume", run.id, "--against", name]) == 2
        message = (
            f"{run.id} and {name} both mean the run {run.id}, which equals itself whatever it holds; name two runs"
        )
        assert message in capsys.readouterr().err


def test_lines_of_a_verification_that_failed_say_where_both_runs_are_and_what_was_promised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever looks for the reason needs the two runs, and to know whether equal bits were promised at all."""
    job = job_of(tmp_path)
    runs = [save_run(job, {20: 2.0}, run_id=f"20260101-000000-{name}", weights=0.0) for name in ("aaaa", "aaaa-whole")]
    for step, run in enumerate(runs, start=5):
        put_rows(run, step)
    resumed, whole = runs
    found = Verified(job, compare_runs(whole, resumed), whole, resumed, None)
    typer.echo("\n".join(verified_lines(found)))
    assert capsys.readouterr().out.splitlines() == [
        "bottles: FAIL",
        "first step:  step 6, train: missing in the second",
        "tensor:      none differs",
        "promised:    equal bits on a processor of this kind, with equal threads and versions",
        f"left alone:  {whole.path}",
        f"resumed:     {resumed.path}",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nosuch"], "no experiment 'nosuch'"),
        (["nosuch", "--against", "other"], "no run answers to 'nosuch'"),
        (
            ["one", "--against", "other", "--kills", "2"],
            "--kills would have no effect with --against, which trains nothing",
        ),
        (
            ["one", "--against", "other", "--anywhere", "--set", "seed=1"],
            "--anywhere and --set would have no effect with",
        ),
        (["{experiment}", "--steps", "0"], "Input should be greater than or equal to 1"),
        (["{experiment}", "--set", "train.max_stepz=3"], "did you mean"),
    ],
)
def test_verify_resume_typed_wrongly_says_what_is_allowed(
    experiment: str, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    """Before anything is trained."""
    assert main(["verify-resume", *(word.format(experiment=experiment) for word in words)]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not verifications_folder().exists()


def test_training_process_that_fails_is_told_with_its_last_words() -> None:
    """However it is waited for, a failure is not taken for an end."""
    run = bare_run()
    with TrainingProcess(run, Deps(), lambda _text: None) as process, pytest.raises(WorkerError) as caught:
        process.wait()
    message = str(caught.value)
    assert message.startswith("The training that was to be verified failed (exit code 2):\n  error: ")
    assert "is no job that this version can read" in message
    with TrainingProcess(run, Deps(), lambda _text: None) as process:
        with pytest.raises(WorkerError, match="exit code 2"):
            process.wait_for_seconds(600)
        with pytest.raises(WorkerError, match="exit code 2"):
            process.kill()


def test_training_process_that_takes_its_folder_with_it_is_told_with_its_last_words() -> None:
    """A false start leaves nothing behind; what it said is not lost with it."""
    run = bare_run()
    with TrainingProcess(run, Deps(), lambda _text: None) as process:
        run.log.unlink()
        with pytest.raises(WorkerError, match="is no job that this version can read"):
            process.wait()


def test_written_step_is_that_of_the_last_whole_row() -> None:
    """A row that is being written is none."""
    run = bare_run()
    assert written_step(run) == 0
    put_rows(run, 7)
    with run.metrics.open("a") as stream:
        stream.write('{"kind": "tr')
    assert written_step(run) == 7


def test_verifications_are_found_by_no_command_that_looks_for_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """`mlp train` must not go on with one, nor `mlp sample` draw from one, because it is the newest."""
    run = bare_run("tiny", "20260101-000000-aaaa")
    shutil.copytree(run.path, verifications_folder() / "tiny" / "20270101-000000-ffff")
    assert [found.id for found in all_runs(runs_folder())] == [run.id]
    assert main(["runs"]) == 0
    assert "20270101" not in capsys.readouterr().out
