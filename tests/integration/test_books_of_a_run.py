"""What a run says of its text: at its start, in its record, on its page."""

import json
from pathlib import Path

from ml_playground.core.deps import Deps
from ml_playground.core.run_folder import RunFolder
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.monitoring.report import write_report
from ml_playground.training.engine import run_job
from tests.fakes.tiny_job import TEXT, tiny_job


def started_with(run: RunFolder) -> dict[str, str]:
    """The facts of its start, as the console says them."""
    events = [json.loads(line) for line in run.events.read_text().splitlines()]
    return next(event["data"] for event in events if event["kind"] == "started")


def test_run_on_a_text_that_lost_something_says_so_wherever_one_looks(tmp_path: Path) -> None:
    """Forty bytes in characters that only the validation part holds."""
    (tmp_path / "text.txt").write_text(TEXT + "é" * 20)
    job = tiny_job(tmp_path, prepare={"max_loss_fraction": 0.5}, train={"max_steps": 6, "evaluation_batches": 1})
    prepared = prepare(job.prepare, Deps())
    run = RunFolder(run_job(job, Deps()).run)
    share = f"{100 * 40 / (len(TEXT) + 40):.2g} %"
    assert started_with(run)["lost"] == f"{share} of the text (mlp data ledger)"
    books = json.loads(run.environment.read_text())["data"]
    assert books["lost_bytes"] == {"unknown": 40}
    assert books["epoch"]["train"]["trained"] == len(prepared.tokens("train")) - 1
    assert f"Lost unasked: {share} of the text." in write_report(run).read_text()


def test_run_on_a_text_that_lost_nothing_does_not_mention_it(tmp_path: Path) -> None:
    """The start line has better things to say."""
    job = tiny_job(tmp_path, train={"max_steps": 6, "evaluation_batches": 1})
    prepare(job.prepare, Deps())
    assert "lost" not in started_with(RunFolder(run_job(job, Deps()).run))
