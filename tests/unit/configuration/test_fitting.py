"""Parts that do not go together are refused before anything starts, and the message says what would."""

from pathlib import Path

import pytest

from ml_playground.configuration.loading import load
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.values import Merit
from tests.fakes.tiny_job import tiny_job

FOR_IMAGES = "hooks.samples.enabled=false"


@pytest.mark.parametrize(
    ("experiment", "sets", "message"),
    [
        (
            "digits",
            ['model={kind="gpt"}'],
            (
                "prepare.source.kind = 'digits' gives images, but model.kind = 'gpt' takes text; "
                "for images set model.kind: mnist_cnn, vit"
            ),
        ),
        (
            "digits",
            ['data={kind="token_windows"}', 'objective={kind="next_token"}', "checkpointing.best_by=loss"],
            (
                "gives images, but data.kind = 'token_windows' and objective.kind = 'next_token' take text; "
                "for images set data.kind: image_batches; objective.kind: classify"
            ),
        ),
        (
            "python_stdlib",
            ['objective={kind="classify"}'],
            (
                "prepare.source.kind = 'python_stdlib' gives text, but objective.kind = 'classify' takes images; "
                "for text set objective.kind: next_token"
            ),
        ),
        (
            "digits",
            ["hooks.samples.enabled=true"],
            "but hooks.samples.kind = 'samples' takes text; for images set hooks.samples.enabled = false",
        ),
        (
            "digits",
            ['prepare.tokenizer={kind="char"}'],
            (
                "prepare: source.kind = 'digits' gives images, which no tokenizer can read, but tokenizer.kind = 'char'; "
                'set prepare.tokenizer = "none"'
            ),
        ),
        (
            "python_stdlib",
            ["prepare.tokenizer=none"],
            "source.kind = 'python_stdlib' gives text, and there is no tokenizer to make ids of it; set prepare.tokenizer",
        ),
        (
            "digits",
            ["checkpointing.best_by=acuracy"],
            (
                "checkpointing.best_by = 'acuracy' is not among what objective.kind = 'classify' measures; "
                "did you mean 'accuracy'? (allowed: loss, accuracy)"
            ),
        ),
        (
            "python_stdlib",
            ["checkpointing.best_by=accuracy"],
            "is not among what objective.kind = 'next_token' measures (allowed: loss",
        ),
    ],
)
def test_load_parts_that_do_not_go_together_names_them_and_what_would(
    experiment: str, sets: list[str], message: str
) -> None:
    """One message, wherever the job is read: `mlp config check` shows it too."""
    with pytest.raises(ConfigError) as caught:
        load(experiment, sets=sets)
    assert message in str(caught.value)


def test_merit_of_a_job_is_what_its_user_calls_best(tmp_path: Path) -> None:
    """The objective knows which way each number is better."""
    assert load("digits").job.merit == Merit("accuracy", higher=True)
    assert load("digits", sets=["checkpointing.best_by=loss"]).job.merit == Merit("loss", higher=False)
    assert tiny_job(tmp_path).merit == Merit()
