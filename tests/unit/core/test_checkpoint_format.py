"""What a checkpoint folder holds, read without torch."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ml_playground.core.checkpoint_format import (
    CheckpointFolder,
    best,
    latest,
    list_complete,
    open_checkpoint,
    open_unverified,
    step_folder_name,
    steps_in,
    verify,
)
from ml_playground.core.checkpoint_manifest import FileRecord, manifest_text
from ml_playground.core.error_handling import CheckpointError
from ml_playground.core.foreign_files import MOST_JSON_BYTES
from ml_playground.core.values import Merit, Progress

Files = dict[str, bytes]


def seal(path: Path) -> None:
    """Write the manifest of what lies in a folder, as a saver would."""
    records = {
        file.relative_to(path).as_posix(): FileRecord(
            size_bytes=file.stat().st_size, sha256=hashlib.sha256(file.read_bytes()).hexdigest()
        )
        for file in path.rglob("*")
        if file.is_file() and file.name != "MANIFEST.json"
    }
    (path / "MANIFEST.json").write_bytes(manifest_text(records).encode())


def make(folder: Path, step: int, metrics: Mapping[str, float] | None = None, more: Files | None = None) -> Path:
    """A whole checkpoint of a few bytes."""
    progress = {
        "step": step,
        "max_steps": 100,
        "epoch": 0.5,
        "targets": 64.0,
        "elapsed_s": 1.5,
        "metrics": metrics,
        "lr_factor": 0.5,
        "data_fingerprint": "abc",
    }
    files = {
        "progress.json": json.dumps(progress).encode(),
        "config.json": b'{"name": "a"}\r\n',
        "hooks.json": b'{"samples": {"drawn": 3}}',
        "model.safetensors": b"weights",
        "optimizer.safetensors": b"moments",
        "tokenizer/tokenizer.json": b"{}",
    } | (more or {})
    path = folder / step_folder_name(step)
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    seal(path)
    return path


@pytest.mark.parametrize(("step", "name"), [(0, "step_000000"), (500, "step_000500"), (12345678, "step_12345678")])
def test_step_folder_name_is_found_again(tmp_path: Path, step: int, name: str) -> None:
    """Writers and readers agree on the name."""
    assert step_folder_name(step) == name
    (tmp_path / name).mkdir()
    assert steps_in(tmp_path) == {step: tmp_path / name}


def test_steps_in_other_names_are_none(tmp_path: Path) -> None:
    """Only what a saver would have named so counts, oldest first."""
    for name in (
        "step_000020",
        "step_1000000",
        "step_5",
        "step_0000005",
        "step_000007x",
        "other",
        ".step_000030.partial",
    ):
        (tmp_path / name).mkdir()
    (tmp_path / "step_000040").write_text("a file")
    (tmp_path / ".step_000050.partial" / "old").mkdir(parents=True)
    assert list(steps_in(tmp_path).items()) == [
        (20, tmp_path / "step_000020"),
        (50, tmp_path / ".step_000050.partial" / "old"),
        (1_000_000, tmp_path / "step_1000000"),
    ]


def test_steps_in_missing_folder_has_none(tmp_path: Path) -> None:
    """A run that was never saved."""
    assert steps_in(tmp_path / "missing") == {}
    assert latest(tmp_path / "missing") is None
    assert best(tmp_path / "missing") is None
    assert list_complete(tmp_path / "missing") == []


def test_open_checkpoint_gives_what_was_saved(tmp_path: Path) -> None:
    """All but the tensors is there without torch."""
    path = make(tmp_path, 7, {"loss": 1.5})
    found = open_checkpoint(path)
    assert found == CheckpointFolder(
        path=path,
        progress=Progress(7, 100, 0.5, 64.0, 1.5),
        metrics={"loss": 1.5},
        lr_factor=0.5,
        data_fingerprint="abc",
        groups=["model", "optimizer"],
    )
    assert found.config == '{"name": "a"}\r\n'
    assert found.hooks == {"samples": {"drawn": 3}}
    assert found.reference == str(path)
    assert found.tensor_file("model") == path / "model.safetensors"


def test_tensor_file_unknown_group_lists_those_there_are(tmp_path: Path) -> None:
    """Asking for averaged weights of a run without them is answered in words."""
    found = open_checkpoint(make(tmp_path, 7))
    with pytest.raises(CheckpointError, match=r"holds no tensors 'ema' \(it holds: model, optimizer\)"):
        found.tensor_file("ema")


def test_reading_checkpoints_needs_no_torch(tmp_path: Path) -> None:
    """Listing runs stays quick."""
    make(tmp_path, 7, {"loss": 1.5})
    program = (
        "import sys; from pathlib import Path; from ml_playground.core import checkpoint_format as f;"
        "found = f.best(Path(sys.argv[1])); sys.exit(found is None or 'torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False).returncode == 0


def test_verify_missing_folder_says_so(tmp_path: Path) -> None:
    """A misspelt path is no damage."""
    with pytest.raises(CheckpointError, match=r"step_000007 is no checkpoint: there is no such folder"):
        verify(tmp_path / "step_000007")


def flip(path: Path) -> None:
    """Change one byte."""
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "flipped byte": (
        lambda path: flip(path / "model.safetensors"),
        r"model\.safetensors has sha256 \w{12}\.\.\., MANIFEST",
    ),
    "truncated": (
        lambda path: (path / "model.safetensors").write_bytes(b"wei"),
        r"model\.safetensors holds 3 bytes, MANIFEST\.json says 7",
    ),
    "missing": (lambda path: (path / "tokenizer" / "tokenizer.json").unlink(), r"tokenizer/tokenizer\.json is missing"),
    "extra": (
        lambda path: (path / "tokenizer" / "more").write_bytes(b""),
        r"holds tokenizer/more, which is not part of the checkpoint; move it elsewhere",
    ),
    "no manifest": (lambda path: (path / "MANIFEST.json").unlink(), r"MANIFEST\.json cannot be read \(No such file"),
    "link": (
        lambda path: (path / "tokenizer" / "more").symlink_to("/etc/passwd"),
        r"holds tokenizer/more, which is a link or no file; a checkpoint holds files only",
    ),
    "link to a folder": (
        lambda path: (path / "more").symlink_to("/etc"),
        r"holds more, which is a link or no file; a checkpoint holds files only",
    ),
    "manifest is no JSON": (
        lambda path: (path / "MANIFEST.json").write_bytes(b"\xff{"),
        r"MANIFEST\.json is not as it was written \(Invalid JSON",
    ),
    "manifest is deep": (
        lambda path: (path / "MANIFEST.json").write_bytes(b'{"a":' + b"[" * 200_000),
        r"MANIFEST\.json is not as it was written \(Invalid JSON: recursion limit",
    ),
    "manifest lacks a part": (
        lambda path: (path / "MANIFEST.json").write_bytes(b'{"format_version": 1}'),
        r"MANIFEST\.json is not as it was written \(files: Field required\)",
    ),
    "manifest has other spaces": (
        lambda path: (path / "MANIFEST.json").write_bytes((path / "MANIFEST.json").read_bytes() + b"\n"),
        r"MANIFEST\.json is not as it was written\. Delete this folder or restore it from a copy",
    ),
    "manifest of a later version": (
        lambda path: (path / "MANIFEST.json").write_bytes(b'{"format_version": 2, "files": 3}'),
        r"was written in format 2 \(MANIFEST\.json\); this program reads format 1\. Use the version of ml-playground",
    ),
    "manifest is huge": (
        lambda path: os.truncate(path / "MANIFEST.json", MOST_JSON_BYTES + 1),
        r"MANIFEST\.json cannot be read \(it holds 67108865 bytes, at most 67108864 are read\)",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_verify_damage_is_named(tmp_path: Path, kind: str) -> None:
    """The message names the folder, the file and what is wrong with it."""
    path = make(tmp_path, 7)
    act, message = DAMAGE[kind]
    act(path)
    with pytest.raises(CheckpointError, match=rf"step_000007.*{message}"):
        verify(path)


@pytest.mark.parametrize("name", ["/etc/passwd", "../other", "a/../b", "a//b", "./a", "a\\b", "a\0b", "."])
def test_verify_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    """A manifest made by somebody else does not reach out of its folder."""
    path = make(tmp_path, 7)
    text = manifest_text({name: FileRecord(size_bytes=0, sha256="0" * 64)})
    (path / "MANIFEST.json").write_bytes(text.encode())
    with pytest.raises(CheckpointError, match=r"in MANIFEST\.json, which is no plain name inside of it; do not use it"):
        verify(path)


def test_verify_manifest_that_is_a_folder_is_named(tmp_path: Path) -> None:
    """What cannot be read is damage, not a crash."""
    path = make(tmp_path, 7)
    (path / "MANIFEST.json").unlink()
    (path / "MANIFEST.json").mkdir()
    with pytest.raises(CheckpointError, match=r"MANIFEST\.json cannot be read \(Is a directory\)"):
        verify(path)


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A folder that everybody may enter; root's right to read everything is laid down meanwhile."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_verify_unreadable_file_is_named(open_to_all: Path) -> None:
    """A checkpoint of somebody else's that may not be read."""
    path = make(open_to_all, 7)
    (path / "model.safetensors").chmod(0)
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(65534)
    try:
        with pytest.raises(CheckpointError, match=r"model\.safetensors cannot be read \(Permission denied\)"):
            verify(path)
    finally:
        if was_root:
            os.seteuid(0)


@pytest.mark.parametrize("name", ["progress.json", "config.json", "hooks.json"])
def test_open_without_a_needed_file_names_it(tmp_path: Path, name: str) -> None:
    """A folder with a valid manifest may still be none of ours."""
    path = make(tmp_path, 7)
    (path / name).unlink()
    seal(path)
    with pytest.raises(CheckpointError, match=rf"MANIFEST\.json does not list {name}"):
        open_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{}", r"progress\.json is not as it was written \(step: Field required\)"),
        (b"[" * 200_000, r"progress\.json is not as it was written \(Invalid JSON: recursion limit"),
        (b"", r"progress\.json is not as it was written \(Invalid JSON: EOF"),
    ],
)
def test_open_with_malformed_progress_says_what_is_wrong(tmp_path: Path, content: bytes, message: str) -> None:
    """Sealed nonsense is still nonsense."""
    path = make(tmp_path, 7, more={"progress.json": content})
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1]", r"hooks\.json is not what hooks remember \(it holds no JSON object"),
        (b"{", r"hooks\.json is not what hooks remember \(Expecting"),
        (b"[" * 200_000, r"hooks\.json is not what hooks remember \(it is nested too deeply"),
        (b'{"a": ' * 60 + b"1" + b"}" * 60, r"hooks\.json is not .* \(it is nested deeper than 50 levels"),
        (b'{"a": 3}', r"hooks\.json holds no table for 'a'"),
    ],
)
def test_hooks_malformed_says_what_is_wrong(tmp_path: Path, content: bytes, message: str) -> None:
    """State of hooks is read when it is asked for."""
    found = open_checkpoint(make(tmp_path, 7, more={"hooks.json": content}))
    with pytest.raises(CheckpointError, match=message):
        _ = found.hooks


def test_open_renamed_checkpoint_tells_its_right_name(tmp_path: Path) -> None:
    """A folder is not taken for a later step than it is."""
    make(tmp_path, 7).rename(tmp_path / "step_000009")
    with pytest.raises(CheckpointError, match=r"step_000009 was saved at step 7, not 9; rename it to step_000007"):
        open_checkpoint(tmp_path / "step_000009")


def test_open_checkpoint_copied_under_another_name_works(tmp_path: Path) -> None:
    """A checkpoint folder alone is enough to sample and to export."""
    path = make(tmp_path, 7).rename(tmp_path / "my best model")
    assert open_checkpoint(path).progress.step == 7


def test_list_complete_leaves_out_incomplete_ones(tmp_path: Path) -> None:
    """A listing reads no weights: sizes tell, a flipped byte does not show yet."""
    for step in (30, 10, 20, 40):
        make(tmp_path, step, {"loss": float(step)})
    (tmp_path / "step_000020" / "MANIFEST.json").unlink()
    (tmp_path / "step_000030" / "model.safetensors").write_bytes(b"wei")
    flip(tmp_path / "step_000040" / "model.safetensors")
    assert [found.progress.step for found in list_complete(tmp_path)] == [10, 40]
    assert open_unverified(tmp_path / "step_000040").metrics == {"loss": 40.0}


def test_latest_damaged_newest_falls_back_and_says_so(tmp_path: Path) -> None:
    """The newest whole one is used; each newer one is named."""
    for step in (10, 20, 30):
        make(tmp_path, step)
    flip(tmp_path / "step_000030" / "model.safetensors")
    (tmp_path / "step_000020" / "config.json").unlink()
    found = latest(tmp_path)
    assert found is not None
    assert found.progress.step == 10
    first, second = found.passed_over
    assert "step_000030 is damaged: model.safetensors has sha256" in first
    assert "step_000020 is damaged: config.json is missing" in second


@pytest.mark.parametrize("find", [latest, best])
def test_latest_and_best_all_damaged_name_each(tmp_path: Path, find: Callable[[Path], CheckpointFolder | None]) -> None:
    """Nothing to fall back to is not the same as never saved."""
    for step in (10, 20):
        flip(make(tmp_path, step, {"loss": 1.0}) / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"No whole checkpoint is left\. .*step_000020 .*step_000010"):
        find(tmp_path)


@pytest.mark.parametrize(
    ("losses", "step"),
    [
        ({1: 3.0, 2: 2.0, 3: 2.5, 4: None}, 2),
        ({1: 2.0, 2: 2.0, 3: 2.5}, 2),
        ({1: float("nan"), 2: 7.0, 3: float("inf")}, 2),
    ],
)
def test_best_is_the_lowest_loss_and_the_newest_of_equals(
    tmp_path: Path, losses: dict[int, float | None], step: int
) -> None:
    """Only evaluated checkpoints are compared; NaN is never the best."""
    for number, loss in losses.items():
        make(tmp_path, number, None if loss is None else {"loss": loss})
    found = best(tmp_path)
    assert found is not None
    assert found.progress.step == step


def test_best_by_another_metric_or_none_evaluated(tmp_path: Path) -> None:
    """A metric that was never measured has no best."""
    make(tmp_path, 1, {"loss": 1.0, "error": 0.5})
    make(tmp_path, 2, {"loss": 2.0, "error": 0.4})
    found = best(tmp_path, Merit("error"))
    assert found is not None
    assert found.progress.step == 2
    assert best(tmp_path, Merit("perplexity")) is None


def test_best_damaged_gives_the_next_best(tmp_path: Path) -> None:
    """The fallback goes by quality, not by age."""
    for step, loss in ((1, 3.0), (2, 1.0), (3, 2.0), (4, 4.0)):
        make(tmp_path, step, {"loss": loss})
    flip(tmp_path / "step_000002" / "model.safetensors")
    found = best(tmp_path)
    assert found is not None
    assert found.progress.step == 3
    assert len(found.passed_over) == 1
