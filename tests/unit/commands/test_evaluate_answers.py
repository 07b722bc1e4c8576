"""`mlp evaluate --profile` as its user meets it: real chats, real small models, real checkpoints."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from ml_playground.cli import main
from ml_playground.configuration.models import JobConfig
from ml_playground.core.run_folder import RunFolder
from ml_playground.data_pipeline.chats.chat_dataset import open_chats
from ml_playground.evaluation.answer_loss import batch_of, losses_of
from ml_playground.evaluation.questions import asked_of, chats_of
from ml_playground.objectives.next_token import build as build_objective
from ml_playground.objectives.settings import NextToken
from ml_playground.sampling.runner import load_run
from tests.fakes import hugging_face_folders
from tests.fakes.trained_run import job_of, save_run

SUMS = [(one, other) for one in range(6) for other in range(5)]


def chats(folder: Path) -> dict[str, Any]:
    """`[prepare]` over thirty sums of two levels, a third of them held out."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"{one}+{other}?"},
                {"role": "assistant", "content": str(one + other)},
            ],
            "level": 1 if one + other < 5 else 2,
        }
        for one, other in SUMS
    ]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "sums.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {
        "source": {"kind": "jsonl_chat", "path": str(path)},
        "tokenizer": {"kind": "byte"},
        "chat": {"template": "plain"},
        "val_fraction": 0.34,
    }


def chat_job(folder: Path, **sections: Any) -> JobConfig:
    """A job over them."""
    return job_of(
        folder,
        name="sums",
        prepare=chats(folder),
        data={"kind": "padded_examples", "sequence_tokens": 64},
        **sections,
    )


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run with two checkpoints that know nothing."""
    return save_run(chat_job(tmp_path), {5: 2.0, 10: 3.0})


def record(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """What `--json` prints."""
    assert main(["evaluate", *arguments, "--profile", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_evaluate_profile_shows_a_table_and_keeps_the_record(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """Shares, loss and calibration with intervals, by level, and the worst mistakes."""
    assert main(["evaluate", "sums", "--profile"]) == 0
    shown = capsys.readouterr()
    for words in (
        "exact match",
        "normalised match",
        "loss on answers",
        "calibration error",
        "level",
        "surest, a token",
    ):
        assert words in shown.out
    place = run.evaluations / "answers" / "val.json"
    assert f"saved: {place}" in shown.err
    kept = json.loads(place.read_text(encoding="utf-8"))
    assert kept["questions"] == kept["of"] == sum(group["questions"] for group in kept["groups"]["level"].values())
    assert [len(kept["mistakes"]), kept["step"]] == [5, 5]
    loss = kept["loss"]
    assert loss["low"] < loss["value"] < loss["high"]
    error = kept["calibration"]["error"]
    assert 0 <= error["low"] <= error["value"] <= error["high"] <= 1
    assert re.search(r"calibration error +\d+\.\d%  \([\d.]+% to [\d.]+%\), sure to [\d.]+% on average", shown.out), (
        shown.out
    )
    # What is kept beside evaluations of classifiers does not disturb the report.
    assert main(["report", "sums"]) == 0


def test_evaluate_profile_limit_draws_the_same_questions_again(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the run's seed, whatever else is asked."""
    first, again = (record(capsys, run.id, "--limit", "4") for _ in range(2))
    assert first == again
    assert first["questions"] == 4 < first["of"]


def test_evaluate_profile_against_itself_finds_no_difference(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same model on the same questions is equally good, in answers and in loss."""
    found = record(capsys, run.id, "--against", str(run.checkpoints / "step_000005"))["against"]
    assert (found["only_here"], found["only_there"], found["p"]) == (0, 0, 1.0)
    assert found["matched_difference"] == found["loss_difference"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_evaluate_profile_against_a_better_run_shows_who_wins(
    tmp_path: Path, run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """The loss of the other is lower, and the interval of pairs says so."""
    other = save_run(chat_job(tmp_path, seed=1), {7: 2.0}, run_id="20260102-000000-abcd", weights=0.0)
    assert main(["evaluate", run.id, "--profile", "--against", other.id]) == 0
    shown = capsys.readouterr().out
    assert f"against {other.id}:" in shown
    kept = json.loads((run.evaluations / "answers" / "val.json").read_text(encoding="utf-8"))
    # Weights of zero make all 257 ids equally likely.
    assert kept["against"]["answered"]["loss"]["value"] == pytest.approx(math.log(257), rel=1e-6)
    assert kept["against"]["loss_difference"]["value"] == pytest.approx(kept["loss"]["value"] - math.log(257))


def tuned(folder: Path, base: Path) -> JobConfig:
    """A job that trains a model from elsewhere further, on the same sums."""
    table = {
        "name": "tuned",
        "prepare": {**chats(folder), "tokenizer": {"kind": "hugging_face", "path": str(base)}},
        "data": {"kind": "packed_examples", "sequence_tokens": 64, "micro_batch_rows": 4},
        "model": {"kind": "hf_causal_lm", "path": str(base)},
        "objective": {"kind": "next_token"},
        "optimizer": {"kind": "adamw"},
        "schedule": {"kind": "warmup_cosine", "warmup_steps": 1},
        "train": {"max_steps": 20},
        "runtime": {"device": "cpu", "dtype": "float32", "attention": "math"},
    }
    return JobConfig.model_validate_json(json.dumps(table))


def text_experiment(folder: Path, base: Path) -> Path:
    """A folder with an experiment over other text, prepared with the same tokenizer."""
    folder.mkdir()
    (folder / "t.txt").write_text(hugging_face_folders.TEXT, encoding="utf-8")
    (folder / "config.toml").write_text(
        f"""
        prepare.source = {{ kind = "text_file", path = "t.txt" }}
        prepare.tokenizer = {{ kind = "hugging_face", path = "{base}" }}
        data = {{ kind = "token_windows", sequence_tokens = 16, micro_batch_rows = 4 }}
        """,
        encoding="utf-8",
    )
    assert main(["prepare", str(folder)]) == 0
    return folder


def test_evaluate_profile_against_its_base_and_forgetting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What training began with answers the same questions; other data say what was forgotten since."""
    hugging_face_folders.saved("llama", base := tmp_path / "base", max_position_embeddings=96)
    run = save_run(tuned(tmp_path, base), {5: 2.0})
    text = text_experiment(tmp_path / "text", base)
    capsys.readouterr()
    found = record(capsys, run.id, "--against", "base", "--also", str(text))
    assert found["against"]["name"] == "base"
    before, after, difference = (found["also"][name]["value"] for name in ("before", "after", "difference"))
    assert after == pytest.approx(before + difference)
    # Weights drawn anew know less than those that were there.
    assert found["also"]["difference"]["low"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--against", "base", "--profile"], "began with random weights, so there is no base to compare with"),
        (["--also", "python_stdlib", "--profile"], "name the run to compare with: --against RUN"),
        (["--limit", "0", "--profile"], "--limit 0 asks nothing"),
        (["--split", "test", "--profile"], "has no split 'test'"),
        (["--data", "python_stdlib", "--profile"], "the data of 'python_stdlib' are no chats"),
        (["--limit", "3", "--also", "x"], "--limit and --also would have no effect without --profile"),
        (["--profile", "--set", "sample.top_k=3"], "sample.top_k cannot be set here"),
    ],
)
def test_evaluate_profile_wrong_use_is_refused(
    run: RunFolder, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """One line that says what to do; nothing is kept."""
    assert main(["evaluate", run.id, *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not run.evaluations.exists()


def test_evaluate_profile_of_a_text_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It has no answers; of another tokenizer it cannot even be asked."""
    save_run(job_of(tmp_path / "text"), {5: 2.0})
    assert main(["evaluate", "bottles", "--profile"]) == 2
    assert "the data of 'bottles' are no chats (prepare.source.kind = 'text_file')" in capsys.readouterr().err
    run = save_run(chat_job(tmp_path), {5: 2.0})
    assert main(["evaluate", run.id, "--profile", "--against", "bottles"]) == 2
    assert "another tokenizer than 'sums' and was not trained on chats" in capsys.readouterr().err


def test_losses_of_rows_are_those_of_training(run: RunFolder) -> None:
    """Whatever is batched together: nats and targets of the objective, row by row; a row that is too long is left out."""
    loaded = load_run(run.path)
    prepared = chats_of(loaded, None)
    rows = prepared.rows("train")
    numbers = list(range(len(rows)))
    found = losses_of(loaded, rows, numbers)
    assert found.read.all()
    objective = build_objective(NextToken())
    for number in numbers:
        sums = objective.sums(loaded.model, batch_of(rows, [number]))["loss"]
        assert found.nats[number] == pytest.approx(sums[0].item(), rel=1e-4)
        assert found.targets[number] == sums[1].item() == rows.weights(number).sum()


def test_asked_of_takes_chats_that_end_with_an_answer(run: RunFolder) -> None:
    """A question is what stands before the last answer; the limit draws some, in their order."""
    prepared = open_chats(chats_of(load_run(run.path), None).folder)
    asked = asked_of(prepared, "val", 3, seed=0)
    every = asked_of(prepared, "val", None, seed=0)
    assert [one.row for one in asked.questions] == sorted(one.row for one in asked.questions)
    assert {one.id for one in asked.questions} < {one.id for one in every.questions}
    assert all(one.messages[-1].role == "user" and one.wanted.isdigit() for one in every.questions)
    assert (asked.of, every.of, every.unanswered) == (len(every.questions), len(every.questions), 0)
