"""From a name to a model: what is found, what is verified, and every way in which there is nothing to load."""

import json
from pathlib import Path

import pytest
import torch

from ml_playground.core.checkpoint_format import step_folder_name
from ml_playground.core.error_handling import CheckpointError, ConfigError, DataError, RunError
from ml_playground.core.run_folder import RunFolder, cache_folder, runs_folder
from ml_playground.core.torch_tensors import read_tensors
from ml_playground.sampling.building import load_weights
from ml_playground.sampling.recorded import FOR_EVALUATION, sampling_layers
from ml_playground.sampling.runner import find_checkpoint, load_run
from tests.fakes.trained_run import job_of, save_run

LOSSES = {5: 2.0, 10: 1.5, 20: 1.8}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run with three checkpoints; the best is not the newest."""
    return save_run(job_of(tmp_path), LOSSES)


def checkpoint(run: RunFolder, step: int) -> Path:
    """A checkpoint's folder."""
    return run.checkpoints / step_folder_name(step)


def damage(file: Path) -> None:
    """Flip one bit in the middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_load_run_every_name_of_a_run_means_it(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Experiment, id, id alone, its beginning, folder, folder of the experiment."""
    monkeypatch.chdir(runs_folder().parent)
    for target in ("bottles", run.id, run.path.name, run.path.name[:8], run.path, "runs/bottles", str(run.path)):
        loaded = load_run(target)
        assert loaded.run == run
        assert loaded.checkpoint.progress.step == 10
        assert loaded.notes == []


def test_load_run_model_holds_the_checkpoints_weights_ready_to_run(run: RunFolder) -> None:
    """Evaluation mode, no gradients, the very bytes of the file, the tokenizer of the run."""
    loaded = load_run("bottles", which=20)
    saved = read_tensors(checkpoint(run, 20) / "model.safetensors")
    state = loaded.model.state_dict()
    assert state.keys() == saved.keys()
    assert all(torch.equal(state[name], saved[name]) for name in saved)
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert loaded.tokenizer.decode(loaded.tokenizer.encode("7 green")) == "7 green"
    assert loaded.model.vocab_size == loaded.tokenizer.vocab_size


@pytest.mark.parametrize(("which", "step"), [("best", 10), ("latest", 20), (5, 5)])
def test_find_checkpoint_which_decides(run: RunFolder, which: str | int, step: int) -> None:
    """The lowest validation loss, the newest, or a step."""
    assert find_checkpoint(run.id, which).checkpoint.progress.step == step


def test_find_checkpoint_folder_alone_needs_no_run(run: RunFolder, tmp_path: Path) -> None:
    """A checkpoint that was copied elsewhere, its run gone, can be sampled."""
    checkpoint(run, 5).rename(tmp_path / "copied")
    runs_folder().rename(tmp_path / "gone")
    loaded = load_run(tmp_path / "copied")
    assert loaded.run is None
    assert loaded.checkpoint.progress.step == 5


def test_find_checkpoint_folder_without_manifest_is_said_to_be_damaged(run: RunFolder) -> None:
    """A half-copied checkpoint is no run either; the message is about the checkpoint."""
    (checkpoint(run, 5) / "MANIFEST.json").unlink()
    with pytest.raises(CheckpointError, match=r"step_000005 is damaged: MANIFEST.json"):
        find_checkpoint(checkpoint(run, 5))


def test_find_checkpoint_damaged_best_falls_back_and_says_so(run: RunFolder) -> None:
    """The next best whole one is used; the damaged file is named."""
    damage(checkpoint(run, 10) / "model.safetensors")
    found = find_checkpoint("bottles")
    assert found.checkpoint.progress.step == 20
    assert len(found.notes) == 1
    assert found.notes[0].startswith("passed over: Checkpoint")
    assert "model.safetensors" in found.notes[0]


def test_find_checkpoint_all_evaluated_damaged_takes_the_newest_whole_one(tmp_path: Path) -> None:
    """Better an unevaluated model than none."""
    run = save_run(job_of(tmp_path), {5: 2.0, 10: None})
    damage(checkpoint(run, 5) / "model.safetensors")
    found = find_checkpoint("bottles")
    assert found.checkpoint.progress.step == 10
    assert found.notes[0].startswith("no evaluated checkpoint is whole, so the newest is taken. No whole checkpoint")


def test_find_checkpoint_all_damaged_names_each(run: RunFolder) -> None:
    """Nothing left to fall back to."""
    for step in LOSSES:
        damage(checkpoint(run, step) / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"No whole checkpoint is left.*step_000020.*step_000010.*step_000005"):
        find_checkpoint("bottles")


def test_find_checkpoint_never_evaluated_takes_the_newest_and_says_so(tmp_path: Path) -> None:
    """Without a validation loss nobody knows which is best."""
    run = save_run(job_of(tmp_path), {5: None, 10: None})
    found = find_checkpoint("bottles")
    assert found.checkpoint.progress.step == 10
    assert found.notes == [f"no checkpoint of {run.id} has been evaluated, so the newest is taken"]


def test_find_checkpoint_step_that_is_not_there_lists_those_that_are(run: RunFolder) -> None:
    """Rotation may have dropped it."""
    with pytest.raises(
        CheckpointError, match=r"has no checkpoint of step 7 \(it has: 5, 10, 20\); name one of them, best or latest"
    ):
        find_checkpoint("bottles", 7)


def test_find_checkpoint_step_of_a_run_without_any_says_so(tmp_path: Path) -> None:
    """There is no list to choose from."""
    save_run(job_of(tmp_path), {})
    with pytest.raises(CheckpointError, match=r"has no checkpoint of step 7 \(it has none yet\)"):
        find_checkpoint("bottles", 7)


def test_find_checkpoint_experiment_without_run_says_how_to_start_one() -> None:
    """A shipped experiment that was never trained."""
    with pytest.raises(RunError, match=r"'python_stdlib' has no run yet; start one: mlp train python_stdlib"):
        find_checkpoint("python_stdlib")


def test_find_checkpoint_unknown_name_is_answered_with_the_nearest(run: RunFolder) -> None:
    """A misspelt experiment."""
    with pytest.raises(RunError, match=r"no run answers to 'botles'.*did you mean 'bottles'"):
        find_checkpoint("botles")


def test_find_checkpoint_run_without_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    """It may be training still, or have been killed early."""
    run = save_run(job_of(tmp_path), {})
    with pytest.raises(
        RunError,
        match=rf"The run {run.id} has no checkpoint yet. If it is training, ask for one: mlp control {run.id} save; "
        r"if it is not, go on with it: mlp train bottles\.$",
    ):
        find_checkpoint("bottles")


def test_find_checkpoint_run_without_checkpoint_names_an_older_run_that_has_one(run: RunFolder, tmp_path: Path) -> None:
    """Which run is meant is not guessed, but offered."""
    save_run(job_of(tmp_path), {}, run_id="20260202-000000-abcd")
    with pytest.raises(RunError, match=rf"Or use an older run: {run.id}\.$"):
        find_checkpoint("bottles")


def test_load_run_averaged_weights_are_taken_where_there_are_some(tmp_path: Path) -> None:
    """They are what was evaluated; `raw` asks for the others, by option or by setting."""
    save_run(job_of(tmp_path), {10: 1.0}, averaged=True)
    averaged, raw = load_run("bottles"), load_run("bottles", weights="raw")
    by_setting = load_run("bottles", layers=sampling_layers(["sample.weights=raw"], {}, {}))
    assert (averaged.weights, raw.weights, by_setting.weights) == ("ema", "raw", "raw")
    file = averaged.checkpoint.tensor_file("ema")
    assert torch.equal(
        averaged.model.state_dict()["token_embedding.weight"], read_tensors(file)["token_embedding.weight"]
    )
    assert not torch.equal(
        averaged.model.state_dict()["token_embedding.weight"], raw.model.state_dict()["token_embedding.weight"]
    )


def test_load_run_averaged_weights_that_are_not_there_are_refused(run: RunFolder) -> None:
    """Asked for by name, they are not silently replaced."""
    with pytest.raises(CheckpointError, match=r"holds no averaged weights.*ema_decay = 0; use --weights raw or auto"):
        load_run("bottles", weights="ema")


def test_load_run_another_step_of_a_checkpoint_that_is_named_is_refused(run: RunFolder) -> None:
    """It would silently be the named one."""
    folder = load_run("bottles", which=10).checkpoint.path
    assert load_run(folder, which=10).checkpoint.progress.step == 10
    with pytest.raises(CheckpointError, match=r"is the checkpoint of step 10 alone, so step 20 cannot be taken"):
        load_run(folder, which=20)


def test_load_run_device_that_is_not_here_is_replaced_and_said(run: RunFolder) -> None:
    """A layer may set the device too."""
    wanted = "mps" if torch.cuda.is_available() else "cuda"
    loaded = load_run("bottles", layers=sampling_layers([f"runtime.device={wanted}"], {}, {}))
    assert len(loaded.notes) == 1
    assert f"runtime.device = '{wanted}' is not on this machine" in loaded.notes[0]


def rewrite(folder: Path, name: str, content: bytes | None) -> None:
    """Change a file of a checkpoint and its manifest, as a program of another version might have written it."""
    import hashlib

    from ml_playground.core.checkpoint_manifest import FileRecord, manifest_text

    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != "MANIFEST.json"]
    records = {
        file.relative_to(folder).as_posix(): FileRecord(
            size_bytes=file.stat().st_size, sha256=hashlib.sha256(file.read_bytes()).hexdigest()
        )
        for file in files
    }
    (folder / "MANIFEST.json").write_text(manifest_text(records), encoding="utf-8")


def test_load_run_checkpoint_without_tokenizer_is_refused(run: RunFolder) -> None:
    """A tokenizer is never guessed."""
    rewrite(checkpoint(run, 5), "tokenizer/tokenizer.json", None)
    (checkpoint(run, 5) / "tokenizer").rmdir()
    with pytest.raises(CheckpointError, match=r"carries no tokenizer, so nobody can say what its ids mean"):
        load_run("bottles", which=5)


def test_load_run_damaged_tokenizer_is_named(run: RunFolder) -> None:
    """A tokenizer that is there but cannot be read."""
    rewrite(checkpoint(run, 5), "tokenizer/tokenizer.json", b"{}")
    with pytest.raises(DataError, match=r"tokenizer.json"):
        load_run("bottles", which=5)


def test_load_run_record_that_is_no_job_is_refused(run: RunFolder) -> None:
    """A job of another version is named with what is wrong in it."""
    record = json.loads((checkpoint(run, 5) / "config.json").read_text())
    record["model"]["n_layers"] = record["model"].pop("n_layer")
    rewrite(checkpoint(run, 5), "config.json", json.dumps(record).encode())
    with pytest.raises(ConfigError, match=r"recorded job .*config.json.*n_layers"):
        load_run("bottles", which=5)


def test_load_run_weights_of_another_model_list_every_difference(run: RunFolder) -> None:
    """Missing, unknown and misshapen weights, all at once."""
    record = json.loads((checkpoint(run, 5) / "config.json").read_text())
    record["model"] |= {"n_embd": 16, "n_layer": 2, "bias": False}
    rewrite(checkpoint(run, 5), "config.json", json.dumps(record).encode())
    with pytest.raises(CheckpointError) as caught:
        load_run("bottles", which=5)
    text = str(caught.value)
    assert text.startswith("The weights in ")
    assert "blocks.1.attention.qkv.weight is missing" in text
    assert "blocks.0.attention.qkv.bias is unknown to the model" in text
    assert "blocks.0.attention.qkv.weight has shape (24, 8), the model's has (48, 16)" in text
    assert text.endswith("Use the version of ml-playground that wrote it.")


def test_load_weights_that_fit_are_taken() -> None:
    """No complaint, and the numbers are there."""
    model = torch.nn.Linear(2, 1)
    load_weights(model, {"weight": torch.ones(1, 2), "bias": torch.zeros(1)}, "here")
    assert model(torch.ones(1, 2)).item() == 2


def test_decoder_precision_is_float32_unless_asked_for(tmp_path: Path) -> None:
    """A run that was trained in bfloat16 still writes in float32, where a seed means one text in every batch."""
    save_run(job_of(tmp_path, runtime={"dtype": "bfloat16"}), {10: 1.0})
    assert load_run("bottles").precision == "float32"
    asked = load_run("bottles", layers=sampling_layers(["sample.precision=int8"], {}, {}))
    assert asked.precision == "int8"
    assert next(asked.model.parameters()).dtype is torch.float32


def test_decoder_gives_the_logits_of_the_model(run: RunFolder) -> None:
    """The engine draws from the weights that were loaded."""
    loaded = load_run("bottles")
    ids = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(loaded.decoder().logits(ids), loaded.model(ids))


def test_export_is_named_by_the_weights(tmp_path: Path) -> None:
    """Other weights of the same step, or of another, are other files; never those that came with the run."""
    run = save_run(job_of(tmp_path), {5: 1.0, 10: 2.0}, averaged=True)
    places = {load_run("bottles", which=step, weights=kind).export for step in (5, 10) for kind in ("raw", "ema")}
    assert len(places) == 4
    assert {place.parent for place in places} == {cache_folder() / "export"}
    assert load_run(checkpoint(run, 5), weights="raw").export in places


def test_load_run_threads_and_attention_have_their_effect(run: RunFolder) -> None:
    """What may be set does something."""
    before = torch.get_num_threads()
    try:
        layers = sampling_layers(["runtime.threads=3", "runtime.attention=fused"], {}, {}, FOR_EVALUATION)
        loaded = load_run("bottles", layers=layers, open_keys=FOR_EVALUATION)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    ids = torch.tensor([[1, 2, 3]])
    written_out = load_run("bottles")
    assert (loaded.execution.attention, written_out.execution.attention) == ("fused", "math")
    torch.testing.assert_close(loaded.model(ids), written_out.model(ids))
