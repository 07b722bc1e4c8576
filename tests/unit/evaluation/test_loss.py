"""Evaluation of a run on disk: the numbers, the baselines beside them, and every refusal."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ml_playground.core.error_handling import CheckpointError, DataError
from ml_playground.core.run_folder import data_folder
from ml_playground.data_pipeline.batches import NO_TARGET, TokenBatch
from ml_playground.evaluation.loss import Evaluation, Score, Tally, evaluate, target_nats
from ml_playground.sampling.recorded import sampling_layers
from ml_playground.sampling.runner import LoadedRun, load_run
from tests.fakes.history_model import HistoryModel
from tests.fakes.trained_run import TEXT, job_of, save_run


@pytest.fixture
def run(tmp_path: Path) -> LoadedRun:
    """A loaded run with all three splits."""
    save_run(job_of(tmp_path, prepare={"test_fraction": 0.2}), {10: 1.0})
    return load_run("bottles")


def test_evaluate_every_target_of_the_split_counts_once(run: LoadedRun) -> None:
    """The mean over all targets of the split, computed here row by row, without batches or padding."""
    evaluation = evaluate(run, "val")
    folder = next(data_folder().glob("*/dataset.json")).parent
    tokens = np.fromfile(folder / "val.tokens", dtype=np.uint16).astype(np.int64)
    nats = []
    for start in range(0, len(tokens) - 1, 16):
        window = torch.from_numpy(tokens[start : start + 17])
        logits = run.model(window[None, :-1])[0]
        nats += torch.nn.functional.cross_entropy(logits, window[1:], reduction="none").tolist()
    assert evaluation.targets == len(tokens) - 1 == len(nats)
    assert math.isclose(evaluation.model.loss, sum(nats) / len(nats), rel_tol=1e-6)
    assert math.isclose(evaluation.model.perplexity, math.exp(evaluation.model.loss))
    assert math.isclose(evaluation.model.bits_per_byte, evaluation.model.loss / math.log(2), rel_tol=1e-6)
    assert evaluation.text_bytes == evaluation.targets


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_evaluate_any_split_has_baselines_that_beat_a_random_model(run: LoadedRun, split: str) -> None:
    """Counting pairs knows this text better than counting letters, and both better than random weights."""
    evaluation = evaluate(run, split)
    assert (evaluation.split, evaluation.step, evaluation.weights) == (split, 10, "raw")
    assert evaluation.baselines["bigram"].loss < evaluation.baselines["unigram"].loss < evaluation.model.loss
    assert evaluation.baselines["unigram"].loss < math.log(run.tokenizer.vocab_size)


def test_evaluate_reports_progress_up_to_the_last_target(run: LoadedRun) -> None:
    """Whoever watches sees the targets grow."""
    seen: dict[str, list[int]] = {}
    evaluation = evaluate(run, "val", progress=lambda phase, targets: seen.setdefault(phase, []).append(targets))
    assert list(seen) == ["counting", "evaluating"]
    assert all(targets == sorted(targets) for targets in seen.values())
    assert seen["evaluating"][-1] == evaluation.targets
    assert seen["counting"][-1] == evaluate(run, "train").targets


def test_evaluate_in_bfloat16_is_close_and_not_equal(run: LoadedRun, tmp_path: Path) -> None:
    """The recorded precision is used, so that the numbers are those of the training's own evaluations."""
    exact = evaluate(run)
    job = job_of(tmp_path, name="rough", prepare={"test_fraction": 0.2}, runtime={"dtype": "bfloat16"})
    save_run(job, {10: 1.0})
    loaded = load_run("rough")
    rough = evaluate(loaded)
    assert math.isclose(rough.model.loss, exact.model.loss, rel_tol=0.02)
    assert (rough.model.loss != exact.model.loss) == (loaded.execution.dtype is torch.bfloat16)


def test_evaluate_split_that_was_not_made_is_refused(tmp_path: Path) -> None:
    """Without a test_fraction there is no test split; said before the baselines are counted."""
    save_run(job_of(tmp_path), {10: 1.0})
    seen: list[str] = []
    with pytest.raises(DataError, match="has no split 'test'"):
        evaluate(load_run("bottles"), "test", progress=lambda phase, _: seen.append(phase))
    assert seen == []


def test_evaluate_text_that_the_tokenizer_does_not_know_has_no_bits_per_byte(tmp_path: Path) -> None:
    """Unknown targets are easy to guess and stand for any text: counted as nothing they would make every model look good."""
    (tmp_path / "text.txt").write_text(TEXT[:-50] + "\u4f60\u597d" * 25, encoding="utf-8")
    save_run(job_of(tmp_path, prepare={"max_loss_fraction": 1.0}), {10: 1.0})
    evaluation = evaluate(load_run("bottles"), "val")
    assert evaluation.unknown_targets == 50
    assert evaluation.text_bytes == evaluation.targets - 50
    assert [score.bits_per_byte for score in (evaluation.model, *evaluation.baselines.values())] == [None] * 3
    assert json.loads(json.dumps(evaluation.as_json()))["model"]["bits_per_byte"] is None


def test_evaluate_without_prepared_data_says_how_to_prepare_them(run: LoadedRun, tmp_path: Path) -> None:
    """A checkpoint from another machine."""
    data_folder().rename(tmp_path / "away")
    with pytest.raises(
        DataError, match=r"data of 'bottles' are not prepared \(.* is missing\); run: mlp prepare bottles"
    ):
        evaluate(run)


def test_evaluate_other_data_than_those_of_the_training_is_refused(run: LoadedRun, tmp_path: Path) -> None:
    """Equal settings, another text: a comparison would mean nothing."""
    from ml_playground.core.deps import Deps
    from ml_playground.data_pipeline.preparer import prepare

    (tmp_path / "text.txt").write_text(TEXT.replace("green", "brown"), encoding="utf-8")
    prepare(run.job.prepare, Deps(), fresh=True)
    with pytest.raises(DataError, match=r"was trained on other data \(fingerprint .* Prepare the former data again\."):
        evaluate(run)


def test_evaluate_diverged_model_is_an_error(run: LoadedRun) -> None:
    """NaN is no loss to compare."""
    next(iter(run.model.parameters())).data.fill_(math.nan)
    with pytest.raises(
        CheckpointError, match=r"on the val split is not a number: its weights have diverged. Evaluate an"
    ):
        evaluate(run)


def test_evaluate_averaged_weights_are_named(tmp_path: Path) -> None:
    """The record says which weights were evaluated."""
    save_run(job_of(tmp_path), {10: 1.0}, averaged=True)
    raw = load_run("bottles", layers=sampling_layers(["sample.weights=raw"], {}, {}))
    assert (evaluate(load_run("bottles")).weights, evaluate(raw).weights) == ("ema", "raw")


def test_target_nats_in_small_chunks_equals_all_at_once() -> None:
    """The head is applied to a few positions at a time; the losses are the same, in the order of the rows."""
    model = HistoryModel(7, 16).eval()
    batch = TokenBatch(torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([[2, 3, 1], [5, NO_TARGET, NO_TARGET]]))
    whole = target_nats(model, batch, torch.device("cpu"))
    parts = target_nats(model, batch, torch.device("cpu"), logits_at_once=8)
    assert whole.shape == (4,)
    np.testing.assert_allclose(parts, whole, rtol=1e-6)


def test_tally_without_text_is_refused() -> None:
    """Bits per byte of nothing have no meaning."""
    tally = Tally(np.array([0, 1]))
    with pytest.raises(
        DataError, match=r"holds 0 targets that stand for 0 bytes of text; there is nothing to evaluate"
    ):
        tally.score()
    tally.add(np.array([1.0]), np.array([0]))
    with pytest.raises(DataError, match="holds 1 targets that stand for 0 bytes"):
        tally.score()


def test_tally_one_unknown_target_among_many_gives_no_bits_per_byte() -> None:
    """The loss stands as it is."""
    tally = Tally(np.array([1, 0]), unknown=1)
    tally.add(np.array([1.0, 1.0]), np.array([0, 0]))
    assert tally.score().bits_per_byte == 1 / math.log(2)
    tally.add(np.array([0.0]), np.array([1]))
    assert (tally.unknown_targets, tally.score().bits_per_byte) == (1, None)
    assert math.isclose(tally.score().loss, 2 / 3)


def test_score_of_a_hopeless_model_has_an_infinite_perplexity_that_json_shows_as_null() -> None:
    """JSON knows no infinity."""
    tally = Tally(np.array([1]))
    tally.add(np.array([800.0]), np.array([0]))
    evaluation = Evaluation("here", 1, "raw", "val", 1, 1, 0, tally.score(), {"unigram": Score(1.0, 2.0, 3.0)})
    record = json.loads(json.dumps(evaluation.as_json(), allow_nan=False))
    assert record["model"] == {"loss": 800.0, "perplexity": None, "bits_per_byte": 800 / math.log(2)}
    assert record["baselines"]["unigram"]["perplexity"] == 2.0
