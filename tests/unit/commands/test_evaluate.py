"""`mlp evaluate` as its user meets it."""

import contextlib
import io
import json
from pathlib import Path

import pytest

from ml_playground.cli import main
from ml_playground.commands.evaluate import table_of
from ml_playground.core.run_folder import RunFolder
from ml_playground.evaluation.loss import Evaluation, Score
from tests.fakes.trained_run import job_of, save_run


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run with two checkpoints and averaged weights."""
    return save_run(job_of(tmp_path), {5: 2.0, 10: 3.0}, averaged=True)


def test_evaluate_prints_the_model_and_its_baselines(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """A table on stdout, what was evaluated on stderr."""
    assert main(["evaluate", "bottles"]) == 0
    shown = capsys.readouterr()
    first, note = shown.err.splitlines()
    assert first == f"{run.id}, step 5, validation loss 2.0000, averaged weights (cpu, float32)"
    assert (
        note
        == "note: the run itself measured 2.0000 at this step, on another machine, or with other threads or versions"
    )
    lines = shown.out.splitlines()
    assert lines[0].startswith("val split: ")
    assert [line.split()[0] for line in lines[1:]] == ["loss", "model", "unigram", "bigram"]


def test_evaluate_json_is_one_object(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """Split, checkpoint and weights are chosen by options."""
    arguments = ["--split", "train", "--checkpoint", "latest", "--weights", "raw", "--json"]
    assert main(["evaluate", "bottles", *arguments]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["split"], record["step"], record["weights"]) == ("train", 10, "raw")
    assert record["checkpoint"] == str(run.checkpoints / "step_000010")
    assert set(record["baselines"]) == {"unigram", "bigram"}
    assert set(record["model"]) == {"loss", "perplexity", "bits_per_byte"}


def test_evaluate_note_of_a_replaced_device_is_on_stderr(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is not as recorded is said."""
    wanted = "mps"
    assert main(["evaluate", "bottles", "--set", f"runtime.device={wanted}"]) == 0
    assert "note: runtime.device = 'mps' is not on this machine" in capsys.readouterr().err


def test_evaluate_data_may_be_those_that_a_run_or_a_file_names(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An experiment that leaves its files to its user says by itself not which data are meant."""
    assert main(["evaluate", "bottles"]) == 0
    own = capsys.readouterr().out
    for data in (run.id, str(run.config)):
        assert main(["evaluate", "bottles", "--data", data]) == 0
        assert capsys.readouterr().out == own
    assert main(["evaluate", "bottles", "--data", "got_char"]) == 2
    assert "got_char leaves prepare.source.path to you" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "exam"], "exam"),
        (["--checkpoint", "first"], "--checkpoint 'first' is no checkpoint"),
        (["--set", "data.micro_batch_rows=1"], "data.micro_batch_rows cannot be set here"),
        (["--data", "digits"], "digits holds images, bottles/20260101-000000-abcd reads text"),
    ],
)
def test_evaluate_what_its_user_can_mend_ends_with_2(
    run: RunFolder, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """One message on stderr."""
    assert main(["evaluate", "bottles", *arguments]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.out == ""


def test_table_of_evaluation_aligns_numbers() -> None:
    """Four figures behind the point, thousands separated."""
    evaluation = Evaluation(
        "here", 5, "raw", "val", 12345, 23456, 0, Score(1.5, 4.481, 1.1), {"unigram": Score(3, 20, 4)}
    )
    assert table_of(evaluation).splitlines() == [
        "val split: 12,345 tokens, 23,456 bytes of text",
        "                loss    perplexity   bits/byte",
        "model         1.5000          4.48      1.1000",
        "unigram       3.0000         20.00      4.0000",
    ]


def test_table_of_evaluation_with_unknown_targets_says_why_there_are_no_bits_per_byte() -> None:
    """A dash and its reason."""
    evaluation = Evaluation("here", 5, "raw", "val", 219, 59, 160, Score(1.5, 4.481, None), {})
    assert table_of(evaluation).splitlines()[2:] == [
        "model         1.5000          4.48           -",
        "note: 160 of 219 targets are unknown to the tokenizer; bits per byte would not count them",
    ]


class Terminal(io.StringIO):
    """A stream that somebody looks at."""

    def isatty(self) -> bool:
        """Always."""
        return True


def test_evaluate_on_a_terminal_shows_progress_and_clears_it(run: RunFolder) -> None:
    """One line that grows and is gone when the table comes."""
    terminal = Terminal()
    with contextlib.redirect_stderr(terminal):
        assert main(["evaluate", "bottles"]) == 0
    assert " tokens counted for the baselines" in terminal.getvalue()
    assert " tokens evaluated" in terminal.getvalue()
    assert "\r\x1b[Knote: the run itself measured " in terminal.getvalue()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "on 2 batches spread over the split (train.evaluation_batches)"),
        (
            ("--weights", "raw"),
            "on 2 batches spread over the split (train.evaluation_batches), with the averaged weights",
        ),
        (
            ("--set", "runtime.dtype=bfloat16"),
            "on 2 batches spread over the split (train.evaluation_batches), without --set runtime.dtype=bfloat16",
        ),
        (("--split", "train"), None),
    ],
)
def test_evaluate_says_why_its_loss_is_not_the_run_s_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], why: str | None
) -> None:
    """Part of the split, other weights, another precision; another split is another thing altogether."""
    save_run(job_of(tmp_path, train={"max_steps": 20, "evaluation_batches": 2}), {5: 2.0, 10: 3.0}, averaged=True)
    assert main(["evaluate", "bottles", *arguments]) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: the run itself")]
    assert notes == ([] if why is None else [f"note: the run itself measured 2.0000 at this step, {why}"])
