"""What may be laid over a recorded job, by whom, and in which order."""

from pathlib import Path

import pytest

from ml_playground.core.error_handling import ConfigError
from ml_playground.sampling.recorded import FOR_EVALUATION, recorded_job, sampling_layers
from tests.fakes.trained_run import job_of


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """A recorded job."""
    file = tmp_path / "config.json"
    file.write_text(job_of(tmp_path).model_dump_json(), encoding="utf-8")
    return file


def test_recorded_job_without_layers_is_the_record(record: Path, tmp_path: Path) -> None:
    """Nothing is laid over it unasked: no default file, no environment."""
    assert recorded_job(record) == job_of(tmp_path)


def test_sampling_layers_options_win_over_sets_over_environment(record: Path) -> None:
    """Each layer may set any key, and the higher one counts."""
    environ = {
        "ML_PLAYGROUND_OVERRIDES": '{"sample": {"top_k": 1, "top_p": 0.1, "min_p": 0.5}}',
        "ML_PLAYGROUND_SAMPLE_OVERRIDES": '{"temperature": 0.1, "seed": 5}',
    }
    layers = sampling_layers(["sample.top_k=2", "sample.top_p=0.2"], {"top_k": ("--top-k", 3)}, environ)
    sample = recorded_job(record, layers).sample
    assert (sample.top_k, sample.top_p, sample.min_p, sample.temperature, sample.seed) == (3, 0.2, 0.5, 0.1, 5)


def test_sampling_layers_option_that_was_not_given_changes_nothing(record: Path, tmp_path: Path) -> None:
    """None is no value."""
    assert recorded_job(record, sampling_layers([], {"top_k": ("--top-k", None)}, {})) == job_of(tmp_path)


def test_sampling_layers_environment_meant_for_training_is_left_alone(record: Path, tmp_path: Path) -> None:
    """The variable for all commands may hold training settings; they do not disturb sampling."""
    environ = {"ML_PLAYGROUND_OVERRIDES": '{"train": {"max_steps": 3}}'}
    assert recorded_job(record, sampling_layers([], {}, environ)) == job_of(tmp_path)


def test_sampling_layers_prompts_with_special_characters_arrive_unchanged(record: Path) -> None:
    """Options are values, not TOML: quotes, brackets and `=` need no escaping."""
    prompts = ['say "hi" = [1]', "a\nb", "none"]
    layers = sampling_layers([], {"prompts": ("--prompt", prompts)}, {})
    assert recorded_job(record, layers).sample.prompts == tuple(prompts)


def test_recorded_job_key_of_another_section_is_refused(record: Path) -> None:
    """A trained model cannot be given other blocks."""
    layers = sampling_layers(["model.n_layer=3"], {}, {})
    with pytest.raises(
        ConfigError,
        match=r"^--set: model.n_layer cannot be set here: the model is trained already, and it would change nothing. "
        r"Allowed: sample.\*, runtime.device, runtime.threads.$",
    ):
        recorded_job(record, layers)


def test_recorded_job_wrong_value_of_an_option_names_option_key_and_value(record: Path) -> None:
    """What Pydantic refuses is said in words, with the option that set it."""
    layers = sampling_layers([], {"top_p": ("--top-p", 2.0)}, {})
    with pytest.raises(ConfigError, match=r"^--top-p: sample.top_p.* 2\.0"):
        recorded_job(record, layers)


def test_recorded_job_unknown_key_is_answered_with_the_nearest(record: Path) -> None:
    """A misspelt key has a suggestion."""
    layers = sampling_layers(["sample.temprature=1.0"], {}, {})
    with pytest.raises(ConfigError, match=r"temprature.*did you mean.*temperature"):
        recorded_job(record, layers)


def test_sampling_layers_unreadable_set_and_variable_are_both_named() -> None:
    """Everything that is wrong at once."""
    with pytest.raises(ConfigError, match=r"ML_PLAYGROUND_SAMPLE_OVERRIDES[^\n]*\n--set nonsense: must look like"):
        sampling_layers(["nonsense"], {}, {"ML_PLAYGROUND_SAMPLE_OVERRIDES": "{"})


@pytest.mark.parametrize("key", ["runtime.compile=true", "runtime.attention=math", "hooks.console.every_seconds=3"])
def test_recorded_job_key_without_effect_on_texts_is_refused(record: Path, key: str) -> None:
    """A setting that changes nothing is a misunderstanding."""
    with pytest.raises(ConfigError, match=rf"^--set: {key.partition('=')[0]} cannot be set here"):
        recorded_job(record, sampling_layers([key], {}, {}))


@pytest.mark.parametrize(("key", "meant"), [("trian.max_steps=3", "train"), ("runtime.devise=cpu", "runtime.device")])
def test_recorded_job_key_of_no_job_is_answered_with_the_nearest(record: Path, key: str, meant: str) -> None:
    """A slip of the finger is no wish to train."""
    with pytest.raises(ConfigError, match=rf"unknown .*did you mean {meant}"):
        recorded_job(record, sampling_layers([key], {}, {}))


def test_recorded_job_for_an_evaluation_takes_weights_and_attention_only(record: Path) -> None:
    """How texts are drawn does not matter to a loss."""
    layers = sampling_layers(["sample.weights=raw", "runtime.attention=fused"], {}, {}, FOR_EVALUATION)
    job = recorded_job(record, layers, FOR_EVALUATION)
    assert (job.sample.weights, job.runtime.attention) == ("raw", "fused")
    with pytest.raises(ConfigError, match=r"^--set: sample.top_k cannot be set here.*Allowed: sample.weights, runtime"):
        recorded_job(record, sampling_layers(["sample.top_k=3"], {}, {}, FOR_EVALUATION), FOR_EVALUATION)


def test_sampling_layers_variable_for_texts_is_left_alone_by_an_evaluation(record: Path, tmp_path: Path) -> None:
    """Whoever exports it once for all commands can still evaluate; what is misspelt is refused all the same."""
    environ = {"ML_PLAYGROUND_SAMPLE_OVERRIDES": '{"top_k": 3}'}
    assert recorded_job(record, sampling_layers([], {}, environ, FOR_EVALUATION), FOR_EVALUATION) == job_of(tmp_path)
    environ = {"ML_PLAYGROUND_SAMPLE_OVERRIDES": '{"topk": 3}'}
    with pytest.raises(ConfigError, match=r"did you mean sample.top_k"):
        recorded_job(record, sampling_layers([], {}, environ, FOR_EVALUATION), FOR_EVALUATION)


def test_recorded_job_prompt_file_of_an_option_counts_from_the_working_directory(
    record: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its user stands."""
    monkeypatch.chdir(tmp_path)
    layers = sampling_layers([], {"prompts": ("--prompt", ["FILE:a/../p.txt", "x"])}, {})
    assert recorded_job(record, layers).sample.prompts == (f"FILE:{tmp_path / 'p.txt'}", "x")
