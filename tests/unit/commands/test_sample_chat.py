"""`mlp sample` of a run that was trained on chats: its prompts are a user's turns."""

import json
from pathlib import Path
from typing import Any

import pytest

from ml_playground.cli import main
from ml_playground.core.chat_facts import HeldOut
from ml_playground.core.run_folder import RunFolder
from tests.fakes.chat_folder import chat_folder
from tests.fakes.trained_run import job_of, save_run

HELD_OUT = HeldOut(id="a", messages=({"role": "user", "content": "1+1"}, {"role": "assistant", "content": "2"}))
REFUSES_TEXT = "bottles was trained on plain text, which has no turns; leave it out, and write into --prompt how the text is to begin"


def chat_run(tmp_path: Path, *, prompts: tuple[str, ...] = ("Hi",), **more: Any) -> RunFolder:
    """A run that carries the tokenizer of chats."""
    job = job_of(tmp_path, tokenizer="byte", sample={"prompts": prompts}, data={"sequence_tokens": 64})
    return save_run(job, {5: 2.0}, attachments={"tokenizer": chat_folder(tmp_path / "tokenizer", **more)})


def record_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """What `mlp sample bottles ... --json` prints."""
    assert main(["sample", "bottles", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_sample_prompt_is_a_users_turn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Shown as a chat, and said; the JSON has the prompt as it was typed."""
    chat_run(tmp_path)
    record = record_of(capsys)
    assert main(["sample", "bottles"]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"user: Hi\nassistant: {record['texts'][0]['text']}\n"
    assert record["texts"][0]["prompt"] == "Hi"
    assert (
        "note: prompts are a user's turns, for the run was trained on chats; --raw takes them as they are" in shown.err
    )


def test_sample_raw_prompt_is_taken_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever types the template's own words gets the answer of the turn."""
    chat_run(tmp_path)
    turn = record_of(capsys)["texts"][0]["text"]
    assert record_of(capsys, "--raw", "--prompt", "user:Hi\nassistant:")["texts"][0]["text"] == turn
    assert record_of(capsys, "--raw")["texts"][0]["text"] != turn


def test_sample_system_replaces_that_of_the_profile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty one is none."""
    chat_run(tmp_path, profile={"kind": "plain_sft", "system_prompt": "S"})
    profile = record_of(capsys)["texts"][0]["text"]
    assert record_of(capsys, "--raw", "--prompt", "system:S\nuser:Hi\nassistant:")["texts"][0]["text"] == profile
    own = record_of(capsys, "--system", "T")["texts"][0]["text"]
    assert record_of(capsys, "--raw", "--prompt", "system:T\nuser:Hi\nassistant:")["texts"][0]["text"] == own
    none = record_of(capsys, "--system", "")["texts"][0]["text"]
    assert record_of(capsys, "--raw", "--prompt", "user:Hi\nassistant:")["texts"][0]["text"] == none


def test_sample_processors_are_those_of_the_profile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On unless switched off; what they did is in the JSON, and a line on stderr says it."""
    chat_run(tmp_path, profile={"kind": "plain_sft", "text_bias": {"~": 1000.0}})
    record = record_of(capsys)
    assert record["texts"][0]["text"].startswith("~")
    assert record["texts"][0]["statistics"][0]["times"] == 1
    assert main(["sample", "bottles"]) == 0
    assert "processor reward on '~': times 1\n" in capsys.readouterr().err
    plain = record_of(capsys, "--no-processors")
    assert not plain["texts"][0]["text"].startswith("~")
    assert plain["texts"][0]["statistics"] == []
    assert record_of(capsys, "--set", "sample.processors=false")["texts"] == plain["texts"]


def test_sample_without_a_prompt_asks_held_out_questions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The answer of the data stands below."""
    chat_run(tmp_path, prompts=("\n",), held_out=[HELD_OUT])
    record = record_of(capsys)
    assert record["texts"][0]["wanted"] == "2"
    assert main(["sample", "bottles"]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"user: 1+1\nassistant: {record['texts'][0]['text']}\nwanted: 2\n"
    assert "note: no prompt is set: 1 held-out question of the data; ask another one with --prompt" in shown.err


def test_sample_too_long_question_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As of a text."""
    chat_run(tmp_path)
    assert "more than the model's context of 64" in record_of(capsys, "--prompt", "x" * 99)["notes"][-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--system", "S"], f"--system: for runs trained on chats, and {REFUSES_TEXT}"),
        (["--raw"], f"--raw: for runs trained on chats, and {REFUSES_TEXT}"),
        (["--raw", "--system", "S"], f"--system and --raw: for runs trained on chats, and {REFUSES_TEXT}"),
    ],
)
def test_sample_ways_of_chats_are_refused_for_a_run_of_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """An option that would change nothing is an error."""
    run = save_run(job_of(tmp_path), {5: 2.0})
    assert main(["sample", "bottles", *arguments]) == 2
    assert message.replace("and bottles", f"and {run.id}") in capsys.readouterr().err


def test_sample_raw_with_a_system_prompt_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They contradict each other."""
    chat_run(tmp_path)
    assert main(["sample", "bottles", "--raw", "--system", "S"]) == 2
    assert "--raw takes a prompt as it is, and --system would put something before it; leave one out." in (
        capsys.readouterr().err
    )


def test_sample_of_text_without_processors_says_that_it_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no profile that would bring any."""
    save_run(job_of(tmp_path), {5: 2.0})
    assert record_of(capsys, "--no-processors")["notes"] == [
        "sample.processors = false changes nothing, for the run has no profile"
    ]


def test_sample_changed_template_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A template that is not the one of the data would ask in other words than the model has learnt."""
    folder = chat_folder(tmp_path / "tokenizer")
    (folder / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    job = job_of(tmp_path, tokenizer="byte")
    save_run(job, {5: 2.0}, attachments={"tokenizer": folder})
    assert main(["sample", "bottles"]) == 2
    assert "is not the template that the chats were prepared with" in capsys.readouterr().err
