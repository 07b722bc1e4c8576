"""Every shipped experiment by the commands of its README: prepared, trained, paused, resumed, sampled, evaluated, reported."""

import json
import re
import shlex
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ml_playground.cli import main
from ml_playground.commands.command_line import LazyCommand
from ml_playground.commands.table import COMMANDS, Group
from ml_playground.configuration.loading import SHIPPED, load
from ml_playground.core.deps import Deps
from ml_playground.core.run_folder import RunFolder, all_runs, runs_folder
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.data_pipeline.split_text import split_text
from ml_playground.data_pipeline.text_dataset import PreparedText, as_text
from ml_playground.models.settings import Gpt
from ml_playground.models.utils.counting import parameter_counts
from tests.fakes.halting import halting, meanwhile
from tests.fakes.tiny_job import TEXT

NAMES = sorted(file.parent.name for file in SHIPPED.glob("*/config.toml"))
OF_IMAGES = ("digits", "mnist")
WITH_A_TEST_PART = ("bundestag_char", "bundestag_tiktoken", "digits", "got_char", "mnist", "regime3", "speakger")
OF_THEIR_USER = ("bundestag", "emoji_think", "got", "speakger")
"""How names begin of experiments whose source is their user's."""
OF_A_BASE = ("bundestag_qwen15b_lora_mps", "docstrings", "emoji_think", "speakger")
"""Those whose model is their user's, too."""
HEADINGS = ["Overview", "Data", "Model", "Run", "Config highlights", "Outputs", "Troubleshooting"]
STEPS = 160
LONG = (
    f"train.max_steps={STEPS}",
    *(f"{key}.every_steps={STEPS // 2}" for key in ("checkpointing", "hooks.samples")),
    f"train.evaluate_every_steps={STEPS // 2}",
    "hooks.control.every_seconds=0.0",
    f"hooks.halt={{kind='halt', at_step={STEPS // 8}}}",
    "runtime.threads=1",
)
"""So many steps that a run can be asked to pause in their midst, where it stands still meanwhile, and little else."""


@pytest.fixture(autouse=True)
def _halt() -> Iterator[None]:
    """A kind of hook is known to these tests alone."""
    with halting():
        yield


def words_for(name: str, folder: Path, *sets: str) -> list[str]:
    """An experiment in its tiny form, as its README types it from its own folder; what would be fetched is written here."""
    instead: list[str] = []
    if name == "shakespeare":
        (folder / "text.txt").write_text(f"ROMEO: Good morrow.\n{TEXT}")
        instead = [f"prepare.source={{kind='text_file', path='{folder / 'text.txt'}'}}"]
    return [name, "--config", "test_config.toml", *(word for text in (*instead, *sets) for word in ("--set", text))]


@contextmanager
def asked_to_pause(name: str) -> Iterator[None]:
    """In another terminal, in the midst of the run: `mlp control NAME pause`."""
    answers: list[int] = []
    with meanwhile(lambda: answers.append(main(["control", name, "pause"]))):
        yield
    assert answers == [0]


def result_of(run: RunFolder) -> dict[str, Any]:
    """How the run's last process ended."""
    return json.loads(run.result.read_text())


@pytest.mark.parametrize("name", NAMES)
def test_experiment_goes_the_whole_way(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Prepare, train, pause, go on, sample (images: refused), evaluate on each part, report."""
    monkeypatch.chdir(SHIPPED / name)
    words = words_for(name, tmp_path, *LONG)
    assert main(["prepare", *words]) == 0
    with asked_to_pause(name):
        assert main(["train", *words]) == 0
    (run,) = all_runs(runs_folder())
    paused = result_of(run)
    assert (paused["reason"], 0 < paused["step"] < STEPS) == ("paused", True)
    assert main(["train", *words]) == 0
    assert (result_of(run)["reason"], result_of(run)["step"]) == ("completed", STEPS)
    resumed = [json.loads(line) for line in run.events.read_text().splitlines() if '"resumed"' in line]
    assert [event["step"] for event in resumed] == [paused["step"]]
    assert main(["sample", name]) == (2 if name in OF_IMAGES else 0)
    assert main(["evaluate", name]) == 0
    capfd.readouterr()
    assert main(["evaluate", name, "--split", "test"]) == (0 if name in WITH_A_TEST_PART else 2)
    shown = capfd.readouterr()
    if name in WITH_A_TEST_PART:
        assert shown.out.startswith("test split: ")
    else:
        assert "to have one, prepare and train with --set prepare.test_fraction=0.1" in shown.err
    assert main(["report", name]) == 0
    assert run.report.stat().st_size > 10_000


# READMEs


def lines_of_commands(name: str) -> list[str]:
    """What a reader copies out of the blocks of a README, without comments, and the commands and options within its text."""
    text = (SHIPPED / name / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    inline = [" ".join(code.split()) for code in re.findall(r"`(mlp [^`\s]+ [^`]+|--set [^`]+)`", prose)]
    whole = [code if code.startswith("mlp") else f"mlp run {name} {code}" for code in inline]
    return [line for block in blocks for line in block.splitlines() if line.strip()] + whole


def parsed(words: list[str]) -> dict[str, Any]:
    """What a command line means to its command, which is not called."""
    rows = {name: row for part in COMMANDS.values() for name, row in part.items()}
    first, *rest = words
    row = rows[first]
    if isinstance(row, Group):
        first, *rest = rest
        row = row.rows[first]
    return LazyCommand(first, row, None).make_context(first, rest).params


def missing_of(name: str, sets: Sequence[str]) -> list[str]:
    """The files of its user's that an experiment needs and these settings do not name."""
    whole = {"prepare.source.path": "prepare.source="} if name.startswith(OF_THEIR_USER) else {}
    whole |= {"prepare.tokenizer.path": "prepare.tokenizer=", "model.path": "model="} if name in OF_A_BASE else {}
    return [f"{key}=FILE" for key in whole if not any(text.startswith((f"{key}=", whole[key])) for text in sets)]


@pytest.mark.parametrize("name", NAMES)
def test_readme_has_the_parts_in_order_and_every_command_in_it_means_something(name: str) -> None:
    """Commands and options are read by their commands, settings by the loader; files of the reader's need not be there."""
    readme = (SHIPPED / name / "README.md").read_text(encoding="utf-8")
    assert readme.startswith(f"# {name}\n")
    assert [line[3:] for line in readme.splitlines() if line.startswith("## ")] == HEADINGS
    lines = lines_of_commands(name)
    assert [line for line in lines if line.startswith(f"mlp run {name}") and "test_config.toml" in line]
    for line in lines:
        program, *words = shlex.split(line, comments=True)
        assert program == "mlp"
        options = parsed(words)
        if "experiment" in options and "FILE.toml" not in line:
            # What lies on a reader's machine is found there alone.
            sets = [re.sub(r"hub:[^\s\"]+", "FILE", text) for text in options.get("sets") or ()]
            files = [SHIPPED / name / file for file in options.get("files") or ()]
            given = () if files else missing_of(options["experiment"], sets)
            loaded = load(options["experiment"], sets=[*given, *sets], files=files, environ={}, reads_files=False)
            assert loaded.job.name == options["experiment"]


@pytest.mark.parametrize("name", NAMES)
def test_experiment_is_in_the_list_of_the_folder(name: str) -> None:
    """Whoever looks for one reads that first."""
    assert f"[{name}]({name}/README.md)" in (SHIPPED / "README.md").read_text(encoding="utf-8")


# Their own promises


def prepared(name: str, *sets: str) -> PreparedText:
    """The data of an experiment in its tiny form."""
    job = load(name, files=[SHIPPED / name / "test_config.toml"], sets=sets, environ={}).job
    return as_text(prepare(job.prepare, Deps()))


def text_of(data: PreparedText, split: str) -> str:
    """What the tokens of a part stand for."""
    return "".join(split_text(data.folder, split))


@pytest.mark.parametrize(
    ("name", "tokenizer"),
    [
        ("got_char", "{kind='byte'}"),
        ("got_s1_subword", "{kind='byte_bpe', vocab_size=300}"),
        ("got_s1_subword", "{kind='sentencepiece_model', vocab_size=320}"),
    ],
)
def test_episodes_are_split_whole(name: str, tokenizer: str) -> None:
    """Validation is an episode that training never saw, and another season is not there at all."""
    data = prepared(name, f"prepare.tokenizer={tokenizer}")
    episodes = [file.read_text() for file in sorted((SHIPPED / "got_char" / "sample").glob("*.txt"))]
    season_one, season_two = episodes[:5], episodes[5]
    assert text_of(data, "train") == "".join(season_one[:4])
    assert text_of(data, "val") == season_one[4]
    if name == "got_char":
        assert text_of(data, "test") == season_two
    else:
        assert list(data.manifest.splits) == ["train", "val"]


@pytest.mark.parametrize("name", ["got_char", "got_s1_subword"])
def test_one_file_of_all_episodes_is_told_how_to_be_split(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is one document; what the message says, and the README types, works."""
    file = tmp_path / "all.txt"
    file.write_text("".join(f"MARGA: That is line {n}.\nOSWIN: So it is.\n" for n in range(300)))
    words = [name, "--set", f"prepare.source.path={file}"]
    if name == "got_s1_subword":
        assert main(["prepare", *words]) == 2
        assert "leave it as it comes (--set 'prepare.source.pattern=**/*.txt')" in capfd.readouterr().err
        words += ["--set", "prepare.source.pattern=**/*.txt"]
    assert main(["prepare", *words]) == 2
    assert "The source has 1 document, too few for train, val" in capfd.readouterr().err
    assert main(["prepare", *words, "--set", "prepare.split_by=position"]) == 0


@pytest.mark.parametrize("name", ["got_char", "got_s1_subword"])
@pytest.mark.parametrize(("size", "millions"), [("1m", 1.0), ("10m", 10.0), ("95m", 95.0)])
def test_sizes_are_chosen_by_a_word(name: str, size: str, millions: float) -> None:
    """No experiment's own file stands against a preset; the size is that of the weights beside the embeddings."""
    job = load(name, sets=[f'use=["model/{size}"]', "prepare.source.path=FOLDER"], environ={}).job
    assert isinstance(job.model, Gpt)
    counts = parameter_counts(job.model, vocab_size=100, block_size=256)
    assert counts.non_embedding / 1e6 == pytest.approx(millions, rel=0.07)


def test_speeches_stand_under_their_headers() -> None:
    """Speaker, party, topic and year, as far as the row knows them; the vocabulary is learnt from the training part."""
    text = text_of(prepared("bundestag_char"), "train")
    header = "Sprecher: Ada Lindholz\nPartei: Liste Mitte\nThema: Haushalt\nJahr: 2019\n\nHerr Präsident! Meine Damen"
    assert text.startswith(header)
    assert "\n\nSprecher: Henrik Soltau\nThema: Gesundheit\nJahr: 2020\n\nIch spreche heute" in text


def test_ranks_decide_the_vocabulary() -> None:
    """As many ids as the file of ranks has lines, and the end of a text."""
    ranks = (SHIPPED / "bundestag_tiktoken" / "sample.tiktoken").read_text().splitlines()
    assert prepared("bundestag_tiktoken").manifest.vocab_size == len(ranks) + 1


@pytest.mark.parametrize("name", [name for name in NAMES if missing_of(name, [])])
@pytest.mark.parametrize("command", ["run", "prepare", "train"])
def test_without_the_file_of_its_user_it_is_said_what_to_type(
    command: str, name: str, home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Before anything is begun."""
    assert main([command, name]) == 2
    error = capfd.readouterr().err
    keys = [text.removesuffix("=FILE") for text in missing_of(name, [])]
    assert error.startswith(f"error: {name} reads what only you have: {' and '.join(keys)} must be set.\n")
    assert f"\nType behind the command: {' '.join(f'--set {key}=FILE' for key in keys)}\n" in error
    assert f"What it must hold: {SHIPPED / name / 'README.md'}\n" in error
    assert not home.exists()


def test_ranks_that_are_not_there_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without a network: which file to get, and which key names it."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    table = SHIPPED / "bundestag_char" / "sample.csv"
    assert main(["prepare", "bundestag_tiktoken", "--set", f"prepare.source.path={table}"]) == 2
    error = " ".join(capfd.readouterr().err.split())
    assert "prepare.tokenizer.encoding = 'gpt2' are not on this machine" in error
    assert (
        "r50k_base.tiktoken where there is a network, put the file anywhere here, and name it in prepare.tokenizer.ranks"
        in error
    )


def test_base_of_the_docstrings_readme_reads_rows_as_long_as_the_experiment_has() -> None:
    """Who follows the README gets a base that can be trained further, not one that is refused after minutes."""
    text = (SHIPPED / "docstrings" / "README.md").read_text(encoding="utf-8")
    command = next(line for line in text.splitlines() if line.startswith("mlp run python_stdlib"))
    [tokens] = re.findall(r"data\.sequence_tokens=(\d+)", command)
    settings = tomllib.loads((SHIPPED / "docstrings" / "config.toml").read_text(encoding="utf-8"))
    assert int(tokens) >= settings["data"]["sequence_tokens"]
