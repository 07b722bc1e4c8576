"""`mlp chat` as its user meets it: what goes to stdout, what to stderr, what lines with a slash do."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ml_playground.cli import main
from ml_playground.commands.chat_talk import COMMANDS, Talk
from ml_playground.configuration.sample_settings import SampleSettings
from ml_playground.core.chat_facts import read_chat_facts
from ml_playground.core.error_handling import DataError
from ml_playground.sampling.chat import load_prompter
from ml_playground.sampling.conversation import Conversation
from ml_playground.tokenization.byte import ByteTokenizer
from tests.fakes.chat_folder import chat_folder, silent_model
from tests.fakes.history_model import HistoryModel
from tests.fakes.hugging_face_folders import saved
from tests.fakes.trained_run import job_of, save_run
from tests.unit.commands.test_sample_chat import HELD_OUT, chat_run

WAY = SampleSettings(max_new_tokens=5, temperature=0.0)


def talk(folder: Path, lines: str, *, as_json: bool = False, way: SampleSettings = WAY, **more: Any) -> Conversation:
    """What there is after these lines."""
    model = more.pop("model", None) or HistoryModel(257, more.pop("max_context", None)).eval()
    prompter = load_prompter(chat_folder(folder, **more), ByteTokenizer(), max_context=model.max_context)
    conversation = Conversation(model, prompter, way)
    Talk(conversation, io.StringIO(lines), as_json=as_json).run()
    return conversation


def test_talk_each_line_is_a_turn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Answers alone on stdout, one after the other; blank lines are no turns."""
    conversation = talk(tmp_path, "a\n\n  \nb\r\n")
    shown = capsys.readouterr()
    answers = [message.content for message in conversation.messages if message.role == "assistant"]
    assert [message.content for message in conversation.messages if message.role == "user"] == ["a", "b"]
    assert shown.out == "".join(f"{answer}\n" for answer in answers)
    assert shown.err == "(cut off after 5 tokens; --max-new-tokens allows more)\n" * 2


def test_talk_json_says_everything_in_one_line_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For machines; what a processor did is among it."""
    profile = {"kind": "plain_sft", "text_bias": {"~": 1000.0}}
    conversation = talk(tmp_path, "a\nb\n", as_json=True, profile=profile)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["prompt"] for row in rows] == ["a", "b"]
    assert [row["text"] for row in rows] == [
        message.content for message in conversation.messages if message.role == "assistant"
    ]
    assert rows[0]["end"] == "length"
    assert rows[0]["tokens"] == 5
    assert rows[0]["statistics"][0]["times"] == 1
    assert rows[0]["notes"] == []


def test_talk_two_slashes_begin_a_question(tmp_path: Path) -> None:
    """One of them arrives."""
    assert talk(tmp_path, "//help\n").messages[0].content == "/help"


def test_talk_help_lists_every_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr, and the documents list the same."""
    talk(tmp_path, "/help\n")
    shown = capsys.readouterr()
    documents = (Path(__file__).parents[3] / "docs" / "chatting.md").read_text(encoding="utf-8")
    assert shown.out == ""
    for name in COMMANDS:
        assert name in shown.err
        assert f"| `{name}` |" in documents


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("/sytem\n", "/sytem is no command; did you mean '/system'? /help lists them; a question that begins with /"),
        ("/xyzzy\n", "/xyzzy is no command. /help lists them; a question that begins with / is typed with //"),
        ("/undo\n", "nothing was said yet"),
        ("/retry\n", "nothing was said yet"),
        ("/save x.jsonl\n", "nothing to save yet"),
        ("/save\n", "/save needs the name of a file, e.g. /save chat.jsonl"),
        ("a\n/undo\n", "taken back: a"),
        ("a\n/retry\n", "(at temperature 0 the answer is the same again; --temperature 0.8 varies)"),
        ("a\n/reset\n", "everything that was said is forgotten"),
        ("/system\n", "system: (none)"),
        ("/system Be brief.\n", "system: Be brief."),
        ("/system Be brief.\n/system ''\n", "system: (none)"),
        ("a\n/save /proc/nowhere/x.jsonl\n", "/proc/nowhere"),
    ],
)
def test_talk_commands_say_what_they_did(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: str, said: str
) -> None:
    """One line each, on stderr."""
    talk(tmp_path, lines)
    assert said in capsys.readouterr().err


def test_talk_undo_retry_reset_change_what_was_said(tmp_path: Path) -> None:
    """As the conversation does it: taken back, answered anew, forgotten."""
    drawn = WAY.model_copy(update={"temperature": 1.0})
    once = talk(tmp_path, "a\nb\n", way=drawn).messages
    assert talk(tmp_path, "a\nb\n/undo\n", way=drawn).messages == once[:2]
    again = talk(tmp_path, "a\nb\n/retry\n", way=drawn).messages
    assert again[:3] == once[:3]
    assert again[3] != once[3]
    assert talk(tmp_path, "x\n/reset\na\nb\n", way=drawn).messages == once


def test_talk_quit_leaves_the_rest_unread(tmp_path: Path) -> None:
    """What comes after is no turn."""
    assert len(talk(tmp_path, "a\n/quit\nb\n").messages) == 2


def test_talk_saved_chat_is_what_was_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Written anew as the chat goes on; a file that is somebody else's is left alone."""
    path, other = tmp_path / "chat.jsonl", tmp_path / "other.jsonl"
    other.write_text("mine", encoding="utf-8")
    conversation = talk(tmp_path / "t", f"a\n/save {path}\nb\n/save {path}\n/save {other}\n")
    shown = capsys.readouterr().err
    assert json.loads(path.read_text(encoding="utf-8"))["messages"] == [
        {"role": message.role, "content": message.content} for message in conversation.messages
    ]
    assert shown.count(f"saved: {path}") == 2
    assert f"{other} is there already; name another file" in shown
    assert other.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("lines", ["", "/system Be brief.\n", "a\n/undo\n", "a\n/reset\n"])
def test_talk_nothing_said_is_not_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: str) -> None:
    """What the system says alone is no chat, also after an answer was taken back."""
    talk(tmp_path / "t", f"{lines}/save {tmp_path}/x.jsonl\n", profile={"kind": "plain_sft", "system_prompt": "S"})
    assert capsys.readouterr().err.splitlines()[-1] == "nothing to save yet"
    assert not (tmp_path / "x.jsonl").exists()


def test_talk_saved_where_no_folder_is_makes_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A typing error leaves no folders behind, and the talk goes on."""
    assert len(talk(tmp_path / "t", f"a\n/save {tmp_path}/typo/x.jsonl\nb\n").messages) == 4
    assert f"{tmp_path}/typo: no such folder; make it, or name another file\n" in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()


def test_talk_overflowing_chat_says_so_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same note is not repeated at each turn."""
    talk(tmp_path, "a\nb\nc\nd\n", max_context=40)
    notes = re.findall(r"the oldest (\d) turns", capsys.readouterr().err)
    assert notes
    assert len(notes) == len(set(notes))


def test_talk_model_that_ends_at_once_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The question is not kept."""
    assert talk(tmp_path, "a\n", model=silent_model()).messages == []
    assert "(the model ended its answer at once; the question is taken back)" in capsys.readouterr().err


def test_talk_refused_question_is_said_and_the_talk_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the template."""
    template = "{% if 'bad' in messages[-1]['content'] %}{{ raise_exception('bad word') }}{% endif %}x"
    assert len(talk(tmp_path, "bad\ngood\n", template=template).messages) == 2
    assert "does not take these messages: bad word" in capsys.readouterr().err


def test_talk_lines_that_are_no_utf8_are_refused(tmp_path: Path) -> None:
    """With the place."""
    prompter = load_prompter(chat_folder(tmp_path), ByteTokenizer())
    conversation = Conversation(HistoryModel(257, None).eval(), prompter, WAY)
    lines = io.TextIOWrapper(io.BytesIO(b"a\xff\n"), encoding="utf-8")
    with pytest.raises(DataError, match=r"stdin is not UTF-8 \(byte 1: invalid start byte\); convert it"):
        Talk(conversation, lines).run()


def test_chat_of_a_run_on_plain_text_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It knows no turns; `mlp sample` goes on from a text."""
    run = save_run(job_of(tmp_path), {5: 2.0})
    assert main(["chat", "bottles"]) == 2
    shown = capsys.readouterr().err
    assert f"{run.id} was trained on plain text: it carries no chat.json" in shown
    assert f"mlp sample {run.id} --prompt" in shown


def test_chat_piped_lines_are_answered(tmp_path: Path) -> None:
    """A whole process: settings of the command line, answers on stdout, where they come from on stderr, beams without a say."""
    run = chat_run(tmp_path, profile={"kind": "plain_sft", "text_bias": {"~": 1000.0}})
    words = ["bottles", "--max-new-tokens", "1", "--temperature", "0", "--set", "sample.num_samples=1"]
    done = subprocess.run(
        [sys.executable, "-m", "ml_playground.cli", "chat", *words, "--set", "sample.num_beams=2", "--top-k", "3"],
        input="a\nb\n",
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    assert done.stdout == "~\n~\n"
    assert done.stderr.splitlines()[:3] == [
        f"{run.id}, step 5, validation loss 2.0000 (cpu, float32)",
        "note: --top-k 3 has no effect: at temperature 0 the likeliest token is taken",
        "note: sample.num_beams has no say in a chat: answers are drawn, at temperature 0 the likeliest token each",
    ]


def test_chat_with_an_exported_folder_is_that_with_its_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It carries what a chat needs, and exported once more it still does; the held-out chats stay at home."""
    chat_run(tmp_path, profile={"kind": "plain_sft", "system_prompt": "S"}, held_out=[HELD_OUT])
    out, again = str(tmp_path / "out"), str(tmp_path / "again")
    assert main(["export", "bottles", "--out", out]) == 0
    assert main(["export", out, "--out", again]) == 0
    ours = read_chat_facts(tmp_path / "tokenizer")
    for folder in (out, again):
        assert ours.held_out
        assert read_chat_facts(Path(folder)) == ours.model_copy(update={"held_out": ()})
    words = ["--max-new-tokens", "5", "--temperature", "0", "--json"]
    capsys.readouterr()
    assert main(["sample", "bottles", *words, "--prompt", "Hi", "--num-samples", "1"]) == 0
    wanted = json.loads(capsys.readouterr().out)["texts"][0]["text"]
    command = [sys.executable, "-m", "ml_playground.cli", "chat", again, *words]
    done = subprocess.run(command, input="Hi\n", capture_output=True, text=True, timeout=600, check=True)
    assert json.loads(done.stdout)["text"] == wanted


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ messages }}", "it has a chat template, but no chat.json that says what ends an answer"),
        (None, "with neither a chat template nor the chat.json that says what ends an answer"),
    ],
)
def test_chat_with_a_model_from_elsewhere_says_what_it_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], template: str | None, said: str
) -> None:
    """Not that it was trained on plain text, which nobody knows; and what can be done."""
    folder = tmp_path / "base"
    saved("gpt2", folder)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    assert main(["chat", str(folder)]) == 2
    shown = capsys.readouterr().err
    assert f"{folder} is a model from elsewhere" in shown
    assert said in shown
    assert "plain text" not in shown
    assert f"mlp sample {folder} --prompt" in shown
    assert ("prepare.chat.template = 'auto'" in shown) == (template is not None)
