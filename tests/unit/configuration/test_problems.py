"""What is wrong with a job, in words: every kind of message once."""

from pathlib import Path

import pytest

from ml_playground.configuration.families import FAMILIES
from ml_playground.configuration.loading import load
from ml_playground.configuration.problems import LONGEST_VALUE, ConfigProblemsError


def problems(*sets: str) -> tuple[str, ...]:
    """What `python_stdlib` with these --set is refused for."""
    with pytest.raises(ConfigProblemsError) as caught:
        load("python_stdlib", sets=sets, environ={})
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


KINDS = {family: ", ".join(sorted(table)) for family, table in FAMILIES.items()}
NAMES = "name, seed, use, plugins, prepare, data, model, objective, optimizer, schedule, train, checkpointing, runtime, hooks, sample"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed=-1", "--set: seed cannot be -1 (allowed: a whole number of at least 0)"),
        ("seed=many", '--set: seed cannot be "many" (text) (allowed: a whole number of at least 0)'),
        ("seed=1.5", "--set: seed cannot be 1.5 (allowed: a whole number of at least 0)"),
        ("seed=true", "--set: seed cannot be true (allowed: a whole number of at least 0)"),
        ("seed={a=1}", "--set: seed cannot be a table (allowed: a whole number of at least 0)"),
        ("optimizer.lr=nan", "--set: optimizer.lr cannot be NaN (allowed: a number above 0)"),
        ("optimizer.lr=inf", "--set: optimizer.lr cannot be Infinity (allowed: a number above 0)"),
        ("train.ema_decay=1", "--set: train.ema_decay cannot be 1 (allowed: a number of at least 0 and below 1)"),
        ("schedule.floor=2", "--set: schedule.floor cannot be 2 (allowed: a number of at least 0 and of at most 1)"),
        (
            "runtime.device=gpu",
            '--set: runtime.device cannot be "gpu" (text) (allowed: one of "auto", "cpu", "cuda", "mps")',
        ),
        ("runtime.compile=3", '--set: runtime.compile cannot be 3 (allowed: true or false, or "auto")'),
        (
            "runtime.threads=0",
            '--set: runtime.threads cannot be 0 (allowed: a whole number of at least 1 and of at most 4096, or "auto")',
        ),
        (
            "name=nul",
            "name: 'nul' cannot be the name of a folder on Windows; choose another one",
        ),
        (
            "hooks.con={kind='status'}",
            "hooks.con: 'con' cannot be the name of a folder on Windows; choose another one",
        ),
        (
            "sample.num_samples=2000000",
            (
                "sample: num_samples = 2000000 of 3 prompts are 6000000 texts; at most 1000000 are drawn at once "
                "(sample.num_samples comes from --set; sample.prompts comes from experiment "
                "ml_playground/experiments/python_stdlib/config.toml, line 30)"
            ),
        ),
        ("sample.prompts=[1]", "--set: sample.prompts[0] cannot be 1 (allowed: a list of at least 1, each text)"),
        ("sample.prompts=[]", "--set: sample.prompts cannot be [] (allowed: a list of at least 1, each text)"),
        (
            'sample.stop=["a", ""]',
            '--set: sample.stop[1] cannot be "" (text) (allowed: a list, each text that is not empty)',
        ),
        ("sample.prompts=FILE:", "--set: sample.prompts = ['FILE:'] is no path: it is empty"),
        ("train=3", "--set: train cannot be 3 (allowed: a table)"),
        (
            "name=a/b",
            '--set: name cannot be "a/b" (text) (allowed: text that matches ^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$)',
        ),
        (
            "prepare.source.kind=url_text",
            (
                "--set: prepare.source.url is missing; it takes text; set it in the experiment's config.toml or with --set "
                "prepare.source.url=..."
            ),
        ),
        (
            "prepare.source={kind='url_text', url='x', sha256='0'}",
            '--set: prepare.source.sha256 cannot be "0" (text) (allowed: text that matches ^[0-9a-f]{64}$, or none)',
        ),
        (
            "train.max_step=3",
            (
                "--set: unknown key train.max_step (got 3); did you mean train.max_steps? (allowed: max_steps, max_epochs, "
                "micro_batches_per_step, grad_clip, ema_decay, evaluate_every_steps, evaluation_batches, log_every_steps, "
                "on_bad_step, spike_factor, bad_step_tries)"
            ),
        ),
        (
            "data.max_steps=3",
            (
                "--set: unknown key data.max_steps (got 3); did you mean train.max_steps? (allowed for data kind token_windows: "
                "kind, sequence_tokens, micro_batch_rows, order)"
            ),
        ),
        (
            "optimizer={kind='adamw', matrix_lr=3}",
            (
                "--set: unknown key optimizer.matrix_lr (got 3); it belongs to optimizer kind muon (allowed for optimizer kind "
                "adamw: kind, lr, beta1, beta2, eps, weight_decay)"
            ),
        ),
        ("trian.max_steps=3", f"--set: unknown section trian; did you mean train? (allowed: {NAMES})"),
        ("lr=3", f"--set: unknown key lr (got 3); did you mean optimizer.lr? (allowed: {NAMES})"),
        ("zzz=3", f"--set: unknown key zzz (got 3) (allowed: {NAMES})"),
        (
            "prepare.tokenizer.kind=chra",
            f"--set: prepare.tokenizer: unknown kind 'chra'; did you mean 'char'? (allowed: {KINDS['tokenizer']})",
        ),
        ("data={kind=3}", f"--set: data: unknown kind 3 (allowed: {KINDS['data']})"),
        ("data=3", f"--set: data = 3: a data is a table with a kind (allowed kinds: {KINDS['data']})"),
        (
            "hooks.smples.enabled=false",
            (
                "--set: hooks.smples: no kind (allowed: console, control, early_stopping, jsonl_metrics, samples, status, time_budget); "
                "did you mean 'samples'?"
            ),
        ),
        (
            'hooks."a b".kind=status',
            "--set: hooks.'a b' is no name: letters, digits, `_`, `-` and `.`, at most 64, beginning with a letter or digit",
        ),
        (
            "train={max_steps=30, max_epochs=2}",
            (
                "train: set exactly one of max_steps (got 30) and max_epochs (got 2.0) "
                "(train.max_steps comes from --set; train.max_epochs comes from --set)"
            ),
        ),
    ],
)
def test_load_wrong_setting_is_told_in_words(text: str, message: str) -> None:
    """Layer, key, got, allowed, what was probably meant."""
    assert problems(text) == (message,)


def test_load_missing_section_says_what_it_takes(tmp_path: Path) -> None:
    """The first thing a new experiment forgets is its source."""
    (tmp_path / "config.toml").write_text("seed = 1\n")
    with pytest.raises(ConfigProblemsError) as caught:
        load(str(tmp_path))
    assert caught.value.problems == (
        (
            "default_config ml_playground/experiments/default_config.toml, line 5: prepare.source is missing; it takes a table "
            f"with a kind ({KINDS['source']}); set it in the experiment's config.toml or with --set "
            "prepare.source.kind=..."
        ),
    )


def test_load_contradiction_names_who_set_both_sides() -> None:
    """The two keys may stand in two files."""
    (message,) = problems("schedule.warmup_steps=9999")
    assert message.startswith("schedule.warmup_steps = 9999 is longer than train.max_steps = ")
    assert "(schedule.warmup_steps comes from --set; train.max_steps comes from experiment " in message
    assert "python_stdlib/config.toml, line " in message


def test_load_heads_that_do_not_divide_are_answered_with_ones_that_do() -> None:
    """The model's own rule, with the numbers to use."""
    (message,) = problems("model.n_embd=190")
    assert message.startswith("model: n_embd = 190 is not a multiple of n_head = 4; use n_embd = 192")


def test_load_all_problems_are_listed_once_each() -> None:
    """Even those inside components, which are validated by their own classes."""
    found = problems(
        "seed=-1", "optimizer.lr=0", "optimizer.lrr=1", "runtime.compile=3", "trian.x=1", "hooks.samples.prompts=x"
    )
    assert [line.split(" cannot")[0].split(" (got")[0].split(";")[0] for line in found] == [
        "--set: seed",
        "--set: optimizer.lr",
        "--set: unknown key optimizer.lrr",
        "--set: runtime.compile",
        "--set: unknown key hooks.samples.prompts",
        "--set: unknown section trian",
    ]


def test_load_file_problem_names_file_and_line(tmp_path: Path) -> None:
    """The line of the key itself, in JSON too."""
    file = tmp_path / "over.json"
    file.write_text('{"train": {\n  "max_steps": 0,\n  "what": {}}}')
    with pytest.raises(ConfigProblemsError) as caught:
        load("python_stdlib", files=[file])
    assert caught.value.problems[0] == (
        f"--config {file}, line 2: train.max_steps cannot be 0 (allowed: a whole number of at least 1, or none)"
    )
    assert "unknown key train.what" in caught.value.problems[1]


def test_load_long_value_is_shown_short() -> None:
    """A message is a line, not a page."""
    (message,) = problems(f"runtime.dtype={'x' * 500}")
    assert "x" * (LONGEST_VALUE - 1) + "..." in message
    assert "x" * LONGEST_VALUE not in message


def test_load_fractions_that_leave_nothing_are_refused() -> None:
    """Each is fine alone."""
    (message,) = problems("prepare.val_fraction=0.6", "prepare.test_fraction=0.5")
    assert message == (
        "prepare: val_fraction + test_fraction = 1.1 leaves nothing to train on; their sum must be below 1 "
        "(prepare.val_fraction comes from --set; prepare.test_fraction comes from --set)"
    )
