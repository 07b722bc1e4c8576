"""`mlp sample` as its user meets it: what goes to stdout, what to stderr, what to disk."""

import contextlib
import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ml_playground.cli import main
from ml_playground.commands.sample import checkpoint_named
from ml_playground.commands.sample_texts import SEPARATOR, Screen, Text, gather
from ml_playground.core.checkpoint_format import step_folder_name
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.run_folder import RunFolder, cache_folder, data_folder
from ml_playground.sampling.texts import Piece
from tests.fakes.trained_run import job_of, save_run


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run with two checkpoints."""
    return save_run(job_of(tmp_path), {5: 2.0, 10: 3.0})


def record_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    """What `mlp sample ... --json` prints."""
    assert main(["sample", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_sample_one_text_is_the_prompt_and_what_follows(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing but the text on stdout; where it comes from and where it lies on stderr."""
    assert main(["sample", "bottles"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("green")
    assert len(shown.out) == len("green") + 12 + 1
    saved = next(run.samples.glob("sample_000005_*.txt"))
    assert saved.read_text() == shown.out
    assert shown.err == f"{run.id}, step 5, validation loss 2.0000 (cpu, float32)\nsaved: {saved}\n"


def test_sample_several_texts_are_separated_by_a_line(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """Each text whole, in the order of prompts and samples, equal to the file and to the JSON."""
    arguments = ["bottles", "--prompt", "1", "--prompt", "hang", "--num-samples", "2"]
    assert main(["sample", *arguments]) == 0
    shown = capsys.readouterr().out
    record = record_of(capsys, *arguments)
    texts = [text["prompt"] + text["text"] for text in record["texts"]]
    assert [text["prompt"] for text in record["texts"]] == ["1", "1", "hang", "hang"]
    assert shown == f"{SEPARATOR}\n".join(text if text.endswith("\n") else f"{text}\n" for text in texts)
    assert next(run.samples.glob("*.txt")).read_text() == shown


def test_sample_json_says_everything(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """One object: origin, settings, texts, and where it was saved."""
    record = record_of(capsys, "bottles", "--checkpoint", "latest", "--seed", "4")
    assert (record["run"], record["step"], record["weights"]) == (run.id, 10, "raw")
    assert record["settings"]["seed"] == 4
    assert record["notes"] == []
    assert [(text["tokens"], text["end"]) for text in record["texts"]] == [(12, "length")]
    assert json.loads(Path(record["saved"]).read_text()) == record


def test_sample_options_override_the_record(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """Every option arrives in the settings that are used."""
    options = {
        "--num-samples": 2,
        "--max-new-tokens": 3,
        "--temperature": 0.5,
        "--top-k": 4,
        "--top-p": 0.9,
        "--min-p": 0.1,
        "--repetition-penalty": 1.2,
        "--no-repeat-ngram": 3,
        "--seed": 9,
    }
    words = [word for option, value in options.items() for word in (option, str(value))]
    words += ["--precision", "bfloat16", "--engine", "torch", "--no-processors"]
    record = record_of(capsys, "bottles", *words, "--prompt", "a", "--stop", "x", "--stop", "yz", "--weights", "raw")
    expected = {option[2:].replace("-", "_"): value for option, value in options.items()}
    expected |= {"prompts": ["a"], "stop": ["x", "yz"], "weights": "raw", "precision": "bfloat16", "engine": "torch"}
    expected |= {"num_beams": 1, "length_penalty": 1.0, "processors": False}
    assert record["settings"] == expected


def test_sample_set_reaches_what_has_no_option(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """`--set` takes every key of sample and runtime."""
    record = record_of(capsys, "bottles", "--set", "sample.max_new_tokens=2", "--set", "runtime.threads=1")
    assert record["settings"]["max_new_tokens"] == 2


def test_sample_weights_that_were_not_evaluated_show_no_loss(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The recorded loss is that of the averaged weights, where there are some."""
    save_run(job_of(tmp_path), {10: 1.0}, averaged=True)
    assert main(["sample", "bottles"]) == 0
    assert "step 10, validation loss 1.0000, averaged weights (" in capsys.readouterr().err
    assert main(["sample", "bottles", "--weights", "raw"]) == 0
    assert "step 10 (cpu" in capsys.readouterr().err


def test_sample_same_seed_gives_the_same_text(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """And another seed another one."""
    first, again, other = (record_of(capsys, "bottles", "--seed", seed)["texts"] for seed in ("1", "1", "2"))
    assert first == again
    assert first != other


def test_sample_checkpoint_alone_saves_nothing(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """A checkpoint's folder is a record that nothing is added to."""
    folder = run.checkpoints / step_folder_name(10)
    before = sorted(folder.rglob("*"))
    assert main(["sample", str(folder)]) == 0
    shown = capsys.readouterr()
    assert shown.err == f"{folder}, step 10, validation loss 3.0000 (cpu, float32)\n"
    assert sorted(folder.rglob("*")) == before
    assert not run.samples.exists()


def test_sample_out_writes_there_instead(run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Text, or JSON where the name says so."""
    assert main(["sample", "bottles", "--out", str(tmp_path / "texts" / "one.txt")]) == 0
    shown = capsys.readouterr()
    assert (tmp_path / "texts" / "one.txt").read_text() == shown.out
    assert shown.err.endswith(f"saved: {tmp_path / 'texts' / 'one.txt'}\n")
    assert main(["sample", "bottles", "--out", str(tmp_path / "one.json")]) == 0
    assert json.loads((tmp_path / "one.json").read_text())["texts"][0]["prompt"] == "green"
    assert not run.samples.exists()


def test_sample_notes_are_on_stderr(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """Unknown characters and a long prompt; the text itself stays clean."""
    assert main(["sample", "bottles", "--prompt", "greeX" * 5]) == 0
    shown = capsys.readouterr()
    assert (
        "note: the model does not know these characters of the prompt 'greeXgreeXgreeXgreeXgreeX': 'X'\n" in shown.err
    )
    assert "has 25 tokens, more than the model's context of 16; only the last" in shown.err
    assert "note" not in shown.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nobody"], "no run answers to 'nobody'"),
        (
            ["bottles", "--checkpoint", "newest"],
            "--checkpoint 'newest' is no checkpoint; allowed: best, latest, or a step",
        ),
        (["bottles", "--checkpoint", "7"], "has no checkpoint of step 7"),
        (["bottles", "--temperature", "-1"], "--temperature: sample.temperature"),
        (["bottles", "--num-beams", "2", "--temperature", "1"], "set temperature = 0"),
        (["bottles", "--num-beams", "2", "--num-samples", "3"], "num_samples = 3 is more than 2 beams can find"),
        (["bottles", "--length-penalty", "2"], "num_beams = 1; set num_beams above 1"),
        (["bottles", "--weights", "averaged"], "--weights: sample.weights"),
        (["bottles", "--stop", ""], "sample.stop"),
        (["bottles", "--set", "model.n_layer=2"], "model.n_layer cannot be set here"),
        (["bottles", "--set", "sample.prompts=[]"], "sample.prompts"),
        (["bottles", "--prompt", "FILE:nowhere.txt"], "names a file that is not there"),
        (["bottles", "--prompt", "XYZ"], "knows no character of the prompt 'XYZ'"),
    ],
)
def test_sample_what_its_user_can_mend_ends_with_2(
    run: RunFolder, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    """One message on stderr, nothing on stdout, nothing saved."""
    assert main(["sample", *arguments]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.out == ""
    assert not run.samples.exists()


def test_sample_beams_gives_the_best_text_with_its_score(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """One text a prompt unless more are asked for, the best first, the same whatever the seed."""
    found = record_of(capsys, "bottles", "--num-beams", "3", "--num-samples", "2", "--length-penalty", "0.5")
    assert [found["settings"][key] for key in ("temperature", "num_beams", "length_penalty")] == [0, 3, 0.5]
    assert [text["sample"] for text in found["texts"]] == [0, 1]
    assert found["texts"][0]["score"] >= found["texts"][1]["score"]
    best = record_of(capsys, "bottles", "--num-beams", "3", "--length-penalty", "0.5", "--seed", "5")
    assert [text["text"] for text in best["texts"]] == [found["texts"][0]["text"]]


def test_sample_what_is_set_stands_above_what_beams_bring_along(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--num-beams` alone means temperature 0 and one text; what is typed with `--set` counts as an option does."""
    found = record_of(capsys, "bottles", "--num-beams", "4", "--set", "sample.num_samples=3")
    assert found == record_of(capsys, "bottles", "--num-beams", "4", "--num-samples", "3") | {"saved": found["saved"]}
    assert len(found["texts"]) == 3
    assert main(["sample", "bottles", "--num-beams", "4", "--set", "sample.temperature=0.9"]) == 2
    assert "set temperature = 0" in capsys.readouterr().err


def test_sample_at_temperature_zero_draws_each_prompt_once(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """Equal texts are not printed several times; a note says why there are fewer than were asked for."""
    few = record_of(capsys, "bottles", "--prompt", "1", "--prompt", "g", "--temperature", "0", "--num-samples", "3")
    assert [text["prompt"] for text in few["texts"]] == ["1", "g"]
    assert few["notes"] == ["at temperature 0 the 3 texts of a prompt are all the same; one is drawn"]
    assert main(["sample", "bottles", "--temperature", "0", "--num-samples", "3"]) == 0
    assert f"note: {few['notes'][0]}\n" in capsys.readouterr().err


GREEDY = ["bottles", "--temperature", "0", "--max-new-tokens", "2", "--prompt", "1"]


@pytest.mark.parametrize(
    ("arguments", "notes"),
    [
        (["--top-k", "5"], ["--top-k 5 has no effect: at temperature 0 the likeliest token is taken"]),
        (
            ["--top-p", "0.9", "--set", "sample.min_p=0.1"],
            [
                "--top-p 0.9 has no effect: at temperature 0 the likeliest token is taken",
                "--set sample.min_p 0.1 has no effect: at temperature 0 the likeliest token is taken",
            ],
        ),
        (["--top-k", "5", "--num-beams", "2"], ["--top-k 5 has no effect: beams are not drawn"]),
        (["--top-k", "0", "--top-p", "1"], []),
        (["--top-k", "5", "--temperature", "0.5"], []),
    ],
)
def test_sample_option_that_nothing_feels_is_noted(
    run: RunFolder, capsys: pytest.CaptureFixture[str], arguments: list[str], notes: list[str]
) -> None:
    """Where it was typed, and is not off."""
    assert main(["sample", *GREEDY, "--num-samples", "1", *arguments]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "has no effect" in line] == [f"note: {note}" for note in notes]


def test_sample_setting_that_a_run_recorded_is_not_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody typed it, and with a temperature it has its effect; a variable of the environment is meant for several commands."""
    save_run(job_of(tmp_path, sample={"top_k": 5, "max_new_tokens": 2}), {5: 2.0})
    monkeypatch.setenv("ML_PLAYGROUND_SAMPLE_OVERRIDES", '{"top_p": 0.5}')
    assert main(["sample", *GREEDY]) == 0
    assert "has no effect" not in capsys.readouterr().err


def pieces_of_three_texts() -> Iterator[Piece]:
    """One whole text, one unfinished; the third is asked for only if nobody stops."""
    yield Piece(0, 0, "ab", 2)
    yield Piece(0, 1, "c", 1)
    yield Piece(0, 0, "d", 3, "stop")
    yield Piece(0, 2, "never", 1)


def stop_after(pieces: int) -> Callable[[], bool]:
    """Ctrl-C while this piece is shown."""
    asked = iter([False] * (pieces - 1) + [True])
    return lambda: next(asked)


def test_gather_stopped_keeps_what_was_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C is an end, not a failure: what was drawn is shown, and returned to be saved."""
    texts = [Text("p", sample) for sample in range(3)]
    kept = gather(pieces_of_three_texts(), texts, 3, Screen(texts), stop_after(3))
    assert [(text.text, text.end) for text in kept] == [("abd", "stop"), ("c", "interrupted")]
    shown = capsys.readouterr()
    assert shown.out == f"pabd\n{SEPARATOR}\npc\n"
    assert shown.err == "interrupted: 1 whole and 1 unfinished texts\n"


def test_gather_stopped_without_screen_prints_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json nothing but the object may be on stdout."""
    kept = gather(pieces_of_three_texts(), [Text("p", sample) for sample in range(3)], 3, None, stop_after(3))
    assert len(kept) == 2
    assert capsys.readouterr().out == ""


def test_gather_stopped_keeps_a_whole_text_without_tokens(capsys: pytest.CaptureFixture[str]) -> None:
    """A model may end a text at once; that is whole, and stays in its place."""
    pieces = [Piece(0, 0, "", 0, "stop"), Piece(0, 1, "a", 1), Piece(0, 1, "never", 2)]
    texts = [Text("p", sample) for sample in range(3)]
    kept = gather(pieces, texts, 3, Screen(texts), stop_after(2))
    assert [(text.sample, text.end) for text in kept] == [(0, "stop"), (1, "interrupted")]
    assert capsys.readouterr().out == f"p\n{SEPARATOR}\npa\n"


def test_screen_shows_a_text_as_it_grows(capsys: pytest.CaptureFixture[str]) -> None:
    """The first unfinished text streams; a later one waits for its turn; a text that ends its line gets no second."""
    texts = [Text("a", 0), Text("b", 1)]
    screen = Screen(texts)
    shown = []
    for at, piece, end in ((0, "1", "interrupted"), (1, "x\n", "stop"), (0, "2", "interrupted"), (0, "3", "length")):
        texts[at].text += piece
        texts[at].end = end
        screen.show()
        shown.append(capsys.readouterr().out)
    assert shown == ["a1", "", "2", f"3\n{SEPARATOR}\nbx\n"]


@pytest.mark.parametrize(("text", "which"), [("best", "best"), ("latest", "latest"), ("500", 500), ("000500", 500)])
def test_checkpoint_named_allowed_words_and_steps(text: str, which: str | int) -> None:
    """A step may be written as its folder is."""
    assert checkpoint_named(text) == which


@pytest.mark.parametrize("text", ["", "-1", "1.5", "²", "Best"])
def test_checkpoint_named_anything_else_is_refused(text: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(ConfigError, match=r"is no checkpoint; allowed: best, latest, or a step such as 500\."):
        checkpoint_named(text)


def test_sample_diverged_model_ends_with_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """NaN weights are said, not drawn from."""
    run = save_run(job_of(tmp_path), {5: 2.0}, weights=math.nan)
    assert main(["sample", run.id]) == 2
    assert "are not numbers (NaN or infinite): its weights have diverged" in capsys.readouterr().err


class Terminal(io.StringIO):
    """A stream that somebody looks at."""

    encoding = "ascii"

    def isatty(self) -> bool:
        """Always."""
        return True


def test_screen_on_a_terminal_shows_nothing_that_steers_it() -> None:
    """A model of bytes may write escape sequences; a terminal gets a mark in their place."""
    terminal = Terminal()
    with contextlib.redirect_stdout(terminal):
        Screen([Text("a\x1b[2Jb€", 0, end="length")]).show()
    assert terminal.getvalue() == "a?[2Jb?\n"


def test_screen_in_a_pipe_passes_everything_on(capsys: pytest.CaptureFixture[str]) -> None:
    """Who pipes wants the text as it was drawn; half a surrogate pair, which no encoding has, is replaced."""
    Screen([Text("a\x1b[2Jb€\ud800", 0, end="length")]).show()
    assert capsys.readouterr().out == "a\x1b[2Jb€?\n"


@pytest.mark.usefixtures("uncovered")
def test_sample_ctrl_c_ends_with_what_was_drawn(run: RunFolder) -> None:
    """A real process, a real signal: exit code 0, the text so far on stdout and in the run's samples/."""
    command = [sys.executable, "-m", "ml_playground.cli", "sample", run.id, "--max-new-tokens", "1000000"]
    process = subprocess.Popen(
        command, bufsize=0, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert process.stdout is not None
    beginning = process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    rest, messages = process.communicate(timeout=600)
    assert process.returncode == 0
    assert b"interrupted: 0 whole and 1 unfinished texts" in messages
    assert next(run.samples.glob("*.txt")).read_bytes() == beginning + rest


def test_sample_int8_says_what_it_costs(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """Measured on the validation text, beside the precision; in the JSON too."""
    assert main(["sample", "bottles", "--precision", "int8"]) == 0
    shown = capsys.readouterr().err
    assert f"{run.id}, step 5, validation loss 2.0000 (cpu, int8)\n" in shown
    note = r"int8 on [\d,]+ tokens of the validation text: \d+\.\d{4} nats per token, [+-]\d\.\d{4} against float32"
    assert re.search(f"note: {note}\n", shown)
    assert re.fullmatch(note, record_of(capsys, "bottles", "--precision", "int8")["notes"][0])


def test_sample_int8_without_the_data_says_so(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that was copied here without its data can still be sampled."""
    shutil.rmtree(data_folder())
    assert main(["sample", "bottles", "--precision", "int8"]) == 0
    assert "note: what int8 costs is unknown, for there is no validation text here: " in capsys.readouterr().err


def test_sample_engine_writes_the_same_greedy_text_and_keeps_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way: exported into the cache, drawn by llama.cpp, shown and saved as ever."""
    pytest.importorskip("gguf", reason="the extra `export` is not installed: make setup")
    pytest.importorskip("xllamacpp", reason="the extra `export` is not installed: make setup")
    modern = {"position": "rotary", "norm": "rms_norm", "feed_forward": "swiglu", "qk_norm": True, "bias": False}
    run = save_run(job_of(tmp_path, model=modern), {5: 2.0})
    greedy = ["bottles", "--temperature", "0", "--max-new-tokens", "40"]
    expected = record_of(capsys, *greedy)["texts"]
    assert record_of(capsys, *greedy, "--engine", "llama_cpp")["texts"] == expected
    assert [path.name for path in (cache_folder() / "export").rglob("*.gguf")] == ["model.gguf"]
    assert not (run.path / "export").exists()
    assert main(["sample", *greedy, "--engine", "llama_cpp"]) == 0
    assert "(llama.cpp, float32)\n" in capsys.readouterr().err


def test_sample_engine_of_a_model_that_it_lacks_is_refused(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """GPT-2's layout with exact gelu: exit code 2, and the settings are named."""
    pytest.importorskip("gguf", reason="the extra `export` is not installed: make setup")
    pytest.importorskip("xllamacpp", reason="the extra `export` is not installed: make setup")
    assert main(["sample", "bottles", "--engine", "llama_cpp"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "llama.cpp runs no model like this one" in shown.err
    assert not (cache_folder() / "export").exists()
