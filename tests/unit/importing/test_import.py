"""`mlp config import`: what the files of four systems become, and what is refused."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.cli import main
from ml_playground.commands.config_import import import_config
from ml_playground.configuration.loading import load, load_file
from ml_playground.core.error_handling import ConfigError
from ml_playground.importing import craft, older, training, training_parts
from ml_playground.importing.book import Foreign
from ml_playground.importing.formats import Imported, import_file
from ml_playground.importing.nanogpt import DEFAULTS, DIRECT
from ml_playground.importing.report import as_json, as_text, as_toml

WANDB = {"wandb_log": False, "wandb_project": "p", "wandb_run_name": "r"}
EVALUATE = {"batch_size": 8, "eval_iters": 500, "eval_only": True, "wandb_log": False}
NANOGPT: dict[str, dict[str, Any]] = {
    "train_shakespeare_char": {
        "out_dir": "out-shakespeare-char",
        "eval_interval": 250,
        "eval_iters": 200,
        "log_interval": 10,
        "always_save_checkpoint": False,
        **WANDB,
        "dataset": "shakespeare_char",
        "gradient_accumulation_steps": 1,
        "batch_size": 64,
        "block_size": 256,
        "n_layer": 6,
        "n_head": 6,
        "n_embd": 384,
        "dropout": 0.2,
        "learning_rate": 1e-3,
        "max_iters": 5000,
        "lr_decay_iters": 5000,
        "min_lr": 1e-4,
        "beta2": 0.99,
        "warmup_iters": 100,
    },
    "train_gpt2": {
        **WANDB,
        "batch_size": 12,
        "block_size": 1024,
        "gradient_accumulation_steps": 40,
        "max_iters": 600_000,
        "lr_decay_iters": 600_000,
        "eval_interval": 1000,
        "eval_iters": 200,
        "log_interval": 10,
        "weight_decay": 0.1,
    },
    "finetune_shakespeare": {
        "out_dir": "out-shakespeare",
        "eval_interval": 5,
        "eval_iters": 40,
        **WANDB,
        "dataset": "shakespeare",
        "init_from": "gpt2-xl",
        "always_save_checkpoint": False,
        "batch_size": 1,
        "gradient_accumulation_steps": 32,
        "max_iters": 20,
        "learning_rate": 3e-5,
        "decay_lr": False,
    },
    "eval_gpt2": {**EVALUATE, "init_from": "gpt2"},
    "eval_gpt2_medium": {**EVALUATE, "init_from": "gpt2-medium"},
    "eval_gpt2_large": {**EVALUATE, "init_from": "gpt2-large"},
    "eval_gpt2_xl": {**EVALUATE, "init_from": "gpt2-xl"},
    "sample": {
        "init_from": "resume",
        "out_dir": "out",
        "start": "\n",
        "num_samples": 10,
        "max_new_tokens": 500,
        "temperature": 0.8,
        "top_k": 200,
        "seed": 1337,
        "device": "cuda",
        "dtype": "bfloat16",
        "compile": False,
    },
}

OLDER = """\
[prepare]
raw_text_path = "raw/input.txt"
tokenizer_type = "char"
[prepare.extras]
column = "text"
[train.model]
n_layer = 4
n_head = 4
n_embd = 128
block_size = 128
[train.data]
train_bin = "train.bin"
batch_size = 16
block_size = 128
ngram_size = 2
sampler = "sequential"
[train.optim]
learning_rate = 0.0006
[train.schedule]
warmup_iters = 50
lr_decay_iters = 2000
min_lr = 0.00006
[train.runtime]
out_dir = "./out"
max_iters = 2000
device = "cpu"
dtype = "float16"
compile = false
ema_decay = 0.99
early_stop_patience = 3
best_smoothing_alpha = 0.7
ckpt_metric = "perplexity"
ckpt_time_interval_minutes = 0
[train.runtime.checkpointing.keep]
last = 0
best = 2
[sample.sample]
start = ""
top_k = 20
"""
TRAINING: dict[str, Any] = {
    "hyperparams": {"batch_size": 4, "gradient_accumulation": 2, "fp_precision": "bf16", "effective_batch_size": 8},
    "profile": {"name": "emoji_think"},
    "data": {"dataset_path": "chats.jsonl", "shuffle": False, "enable_packing": True},
    "output": {"output_dir": "out"},
    "locked": {"base_model": "qwen", "vocab_size": 151936},
    "environment": {"optimizer_type": "paged_adamw_8bit", "max_grad_norm": 0.5},
    "lora": {"r": 16},
    "batch_size": 19,
    "poll_interval": 5,
}
CRAFT = """\
project_name: Craft
experiment:
  model:
    target: craft.models.TransformerModel
    config: {architecture: transformer, d_model: 128, n_head: 4, n_layers: 4, activation: relu, max_seq_length: 256}
  data:
    batch_size: 32
    block_size: 256
    num_workers: 0
    datasets: {train: {path: data/raw/got/got.txt}}
    tokenizer: {config: {vocab_size: 8000}}
  optimizer: {_target_: torch.optim.Adam, lr: 1e-3, betas: [0.9, 0.95]}
  scheduler: {_target_: torch.optim.lr_scheduler.CosineAnnealingLR, T_max: 500, eta_min: 1e-5}
  training:
    batch_size: 8
    max_steps: 500
    num_epochs: 5
    use_amp: true
    compile_model: false
    gradient_accumulation_steps: 2
    save_steps_interval: 0
    time_save_interval_seconds: 300
  callbacks: {tensorboard: {target: x}}
  generation: {start_prompt: The, max_new_tokens: 50, top_k: null, top_p: 0.9}
device: auto
seed: ${experiment.training.gradient_accumulation_steps}
"""


def python_file(folder: Path, values: dict[str, Any], name: str = "config") -> Path:
    """The values as nanoGPT's files have them."""
    file = folder / f"{name}.py"
    file.write_text("".join(f"{key} = {value!r}\n" for key, value in values.items()))
    return file


def training_file(folder: Path, **more: Any) -> Path:
    """TRAINING's config.json, its model beside it."""
    model = folder / "qwen"
    model.mkdir(exist_ok=True)
    sizes = {"n_layer": 1, "n_head": 1, "n_embd": 8, "n_positions": 32, "vocab_size": 16}
    (model / "config.json").write_text(
        json.dumps({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], **sizes})
    )
    (model / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    file = folder / "config.json"
    file.write_text(json.dumps(TRAINING | {"model": {"model_path": "qwen"}} | more, indent=1))
    return file


def text_file(folder: Path, name: str, text: str) -> Path:
    """A file of one of the other systems."""
    file = folder / name
    file.write_text(text)
    return file


def written(imported: Imported, folder: Path) -> Path:
    """The printed TOML as a file."""
    return text_file(folder, "imported.toml", as_toml(imported))


def fate_of(imported: Imported, key: str) -> tuple[str, str]:
    """What became of a key, and why."""
    return next((finding.fate, finding.reason) for finding in imported.findings if finding.key == key)


@pytest.mark.parametrize("name", NANOGPT)
def test_nanogpt_known_file_has_a_word_on_every_key(name: str, tmp_path: Path) -> None:
    """Nothing is lost in silence, and nothing is called unknown; every key has its line."""
    imported = import_file(python_file(tmp_path, NANOGPT[name], name))
    stated = {finding.key: finding.line for finding in imported.findings if finding.line}
    assert stated == {key: line for line, key in enumerate(NANOGPT[name], 1)}
    assert [finding.key for finding in imported.findings if "no setting of" in finding.reason] == []


@pytest.mark.parametrize("name", NANOGPT)
def test_nanogpt_printed_toml_gives_the_job_that_was_checked(name: str, tmp_path: Path) -> None:
    """What is printed passes `mlp config check`, and means what the report says."""
    imported = import_file(python_file(tmp_path, NANOGPT[name], name))
    assert load_file(written(imported, tmp_path)).job == imported.job


def test_nanogpt_values_arrive(tmp_path: Path) -> None:
    """The values that decide what a run computes, those of nanoGPT's own defaults among them."""
    job = import_file(python_file(tmp_path, NANOGPT["train_shakespeare_char"])).job
    assert (job.train.max_steps, job.train.micro_batches_per_step, job.train.evaluation_batches) == (5000, 1, 200)
    assert job.data.model_dump() == {
        "kind": "token_windows",
        "sequence_tokens": 256,
        "micro_batch_rows": 64,
        "order": "random",
    }
    assert job.optimizer.model_dump(exclude={"eps"}) == {
        "kind": "adamw",
        "lr": 1e-3,
        "beta1": 0.9,
        "beta2": 0.99,
        "weight_decay": 0.1,
    }
    assert job.schedule.model_dump() == {"kind": "warmup_cosine", "warmup_steps": 100, "floor": 0.1}


SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "max_iters": st.integers(1, 10**6),
        "warmup_iters": st.integers(0, 10**6),
        "lr_decay_iters": st.integers(1, 10**6),
        "learning_rate": st.floats(1e-6, 1),
        "min_lr": st.floats(0, 1),
        "decay_lr": st.booleans(),
        "batch_size": st.integers(1, 512),
        "block_size": st.integers(1, 4096),
        "n_layer": st.integers(1, 48),
        "bias": st.booleans(),
        "dropout": st.floats(0, 1),
        "init_from": st.sampled_from(["scratch", "resume", "gpt2"]),
        "dataset": st.sampled_from(["shakespeare", "shakespeare_char", "openwebtext", "mine"]),
        "dtype": st.sampled_from(["float32", "bfloat16", "float16"]),
        "device": st.sampled_from(["cpu", "cuda", "cuda:1", "mps"]),
        "always_save_checkpoint": st.booleans(),
        "compile": st.booleans(),
    },
)


@given(values=SETTINGS.filter(bool))
def test_nanogpt_any_values_make_a_job_and_come_back(values: dict[str, Any], tmp_path: Path) -> None:
    """Whatever nanoGPT takes is imported, each key is accounted for once, and the printed file means the same."""
    imported = import_file(python_file(tmp_path, values))
    keys = [finding.key for finding in imported.findings if finding.key]
    assert sorted(keys) == sorted(set(keys))
    assert set(values) <= set(keys)
    assert load_file(written(imported, tmp_path)).job == imported.job


@pytest.mark.parametrize("key", sorted({*DEFAULTS, *DIRECT}))
def test_nanogpt_wrong_type_names_the_file_and_the_line(key: str, tmp_path: Path) -> None:
    """A list stands where no key takes one."""
    file = text_file(tmp_path, "wrong.py", f"batch_size = 4\n\n{key} = [1]\n")
    with pytest.raises(ConfigError, match=rf"wrong\.py, line 3: {key} = \[1\] is not what nanoGPT takes: "):
        import_file(file)


@pytest.mark.parametrize(
    ("line", "value"),
    [("gradient_accumulation_steps = 5 * 8", 40), ("gradient_accumulation_steps: int = (7 - 1) // 2 + 2**2", 7)],
)
def test_python_arithmetic_is_read(line: str, value: int, tmp_path: Path) -> None:
    """NanoGPT's own files write 5 * 8."""
    assert import_file(text_file(tmp_path, "sum.py", line)).job.train.micro_batches_per_step == value


def test_python_names_above_are_read(tmp_path: Path) -> None:
    """A floor that is a tenth of the peak."""
    imported = import_file(text_file(tmp_path, "names.py", "learning_rate = 1e-3\nmin_lr = learning_rate / 10\n"))
    assert imported.job.schedule.model_dump()["floor"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("max_iters = 5\nif True:\n    max_iters = 6", "line 2: `if True: max_iters = 6` computes; only NAME = VALUE"),
        ("open('stolen', 'w').write('x')", "line 1: `open('stolen', 'w').write('x')` computes"),
        ("max_iters += 1", "line 1: `max_iters += 1` computes"),
        ("\nmax_iters = int('5')", r"line 2: max_iters = int\('5'\) is computed; the file is read and never run"),
        ("max_iters = 9 ** 9 ** 9", "line 1: max_iters = 9 ** 9 ** 9 is computed"),
        ("max_iters = 1 // 0", "line 1: max_iters = 1 // 0 is computed"),
        ("max_iters = 'a' * 10 ** 9", "is computed"),
        ("max_iters = [__import__('os').mkdir('stolen')]", "is computed"),
        ("max_iters = = 5", "line 1: is not valid Python: invalid syntax"),
        ("a = " + "1 + " * 1500 + "1", "bad.py: is nested too deeply"),
        ("a = 'b' * 1\na = '" + "c" * 600 + "'\n" + "a = a + a\n" * 40 + "start = a", "line 43: start = a is computed"),
        ("a = [1]\n" + "a = [a, a]\n" * 40 + "max_iters = a", "line 42: max_iters = a is computed"),
        ("out_dir = '\\ud800'", "bad.py, line 1: 'out_dir' holds half a surrogate pair"),
        ("dataset = 'a\\0b'", "bad.py: 'data/a.*' is no path: it holds a NUL character"),
        ("min_lr = None", "line 1: min_lr = None is not what nanoGPT takes: a number"),
        ("(" * 5000, "is not valid Python"),
        ("max_iters = -1", r"line 1: train.max_steps cannot be -1 \(allowed: a whole number of at least 1, or none\)"),
        ("learning_rate = 'big'", "line 1: learning_rate = 'big' is not what nanoGPT takes: a number"),
        ("min_lr = -1.0", r"line 1: schedule.floor cannot be -1666\.66666667"),
        ("n_head = 5", "n_embd = 768 is not a multiple of n_head = 5"),
    ],
)
def test_python_that_computes_is_refused_and_never_run(
    code: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One message with file and line; nothing in the file takes effect."""
    monkeypatch.chdir(tmp_path)
    file = text_file(tmp_path, "bad.py", code)
    with pytest.raises(
        ConfigError,
        match=message.replace("`open('stolen', 'w').write('x')`", ".*").replace("**", r"\*\*").replace("+=", r"\+="),
    ):
        import_file(file)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.py"]


def test_python_computed_value_of_no_use_is_left_out(tmp_path: Path) -> None:
    """NanoGPT's fine-tuning file names its run by the clock."""
    code = "import time\nwandb_run_name = 'ft-' + str(time.time())\n"
    imported = import_file(text_file(tmp_path, "clock.py", code))
    assert fate_of(imported, "wandb_run_name")[0] == "left out"
    assert "wandb_run_name = 'ft-' + str(time.time())" in as_toml(imported)
    assert as_json(imported)["findings"][-1]["value"] == "'ft-' + str(time.time())"


def test_python_not_utf8_names_the_line(tmp_path: Path) -> None:
    """An old editor's umlaut."""
    file = tmp_path / "latin.py"
    file.write_bytes(b"max_iters = 5\n# \xfc\n")
    with pytest.raises(ConfigError, match="line 2: is not UTF-8"):
        import_file(file)


@pytest.mark.parametrize(
    "sets",
    [
        ["prepare.source.path=mine.txt"],
        ["train.max_epochs=3"],
        ["train.max_steps=none", "train.max_epochs=3"],
        ["checkpointing.every_steps=none"],
        ["prepare.source={kind='csv_text', path='table.csv'}"],
        ["hooks.stop.kind=early_stopping"],
        ["optimizer.kind=muon"],
    ],
)
def test_what_set_says_is_printed_as_it_was_checked(sets: list[str], tmp_path: Path) -> None:
    """Paths, keys that exclude each other, none, other kinds: the file means the same wherever it lies."""
    (tmp_path / "elsewhere").mkdir()
    imported = import_file(text_file(tmp_path, "mine.py", "dataset = 'own'\n"), sets, cwd=tmp_path)
    assert (
        load_file(written(imported, tmp_path / "elsewhere")).job.model_copy(update={"name": "imported"}) == imported.job
    )
    assert imported.job != import_file(tmp_path / "mine.py").job


def test_set_of_groups_is_refused(tmp_path: Path) -> None:
    """They would lie under the imported values, and change next to nothing."""
    with pytest.raises(ConfigError, match="--set use: groups lie under what a file says"):
        import_file(text_file(tmp_path, "mine.py", "seed = 1"), ["use=['model/tiny']"])


def test_null_is_as_good_as_not_stated_and_said(tmp_path: Path) -> None:
    """In each system a key that says nothing has its line in the report too, a misspelt one among them."""
    reason = "it says nothing: as where it is not stated"
    python = import_file(text_file(tmp_path, "none.py", "top_k = None\ndevice = None\n"))
    assert (fate_of(python, "top_k"), fate_of(python, "device")) == (("left out", reason),) * 2
    file = training_file(tmp_path, hyperparams={"max_steps": None, "batch_siz": None})
    found = import_file(file)
    assert {fate_of(found, f"hyperparams.{key}") for key in ("max_steps", "batch_siz")} == {("left out", reason)}
    assert "hyperparams.batch_siz: it says nothing" in as_text(found)
    craft_file = text_file(tmp_path, "null.yaml", CRAFT + "force_cpu: ${experiment.generation.top_k}\n")
    yaml = import_file(craft_file)
    assert fate_of(yaml, "generation.top_k") == fate_of(yaml, "force_cpu") == ("left out", reason)


def test_craft_reference_to_what_is_not_in_the_file_is_no_value(tmp_path: Path) -> None:
    """It is never dropped: refused where it counts, reported where it does not."""
    known = "${experiment.training.gradient_accumulation_steps}"
    text = CRAFT.replace(f"seed: {known}", "seed: ${trainer.seed}")
    with pytest.raises(ConfigError, match=r"seed = \$\{trainer\.seed\} is computed"):
        import_file(text_file(tmp_path, "apart.yaml", text))
    imported = import_file(text_file(tmp_path, "more.yaml", CRAFT + "log_level: ${trainer.level}\n"))
    assert "# log_level = ${trainer.level}: what is said is for people" in as_toml(imported)


def test_unknown_key_is_reported_with_the_nearest_one(tmp_path: Path) -> None:
    """A typo had no effect in nanoGPT either, in silence."""
    imported = import_file(text_file(tmp_path, "typo.py", "learning_rat = 1\nseed = 1\n"))
    assert fate_of(imported, "learning_rat") == ("left out", "no setting of nanoGPT; did you mean 'learning_rate'?")


@pytest.mark.parametrize(
    ("key", "value", "ours", "reason"),
    [
        ("dtype", "float16", "auto", "float16 needs a loss scale and is not offered; auto is bfloat16"),
        ("device", "cuda:3", "cuda", "one device of a kind is used: choose it with CUDA_VISIBLE_DEVICES"),
    ],
)
def test_nanogpt_changed_value_has_its_reason(key: str, value: str, ours: str, reason: str, tmp_path: Path) -> None:
    """What is not taken as it stands is said."""
    imported = import_file(python_file(tmp_path, {key: value}))
    assert fate_of(imported, key) == ("changed", reason)
    assert imported.job.runtime.model_dump()[key] == ours
    assert f'{key} = "{value}" -> runtime.{key}: {reason}' in as_text(imported)


def others(folder: Path) -> list[Path]:
    """One file of each of the other systems."""
    return [
        text_file(folder, "old.toml", OLDER),
        training_file(folder),
        text_file(folder, "craft.yaml", CRAFT),
    ]


@pytest.mark.parametrize("index", [0, 1, 2], ids=["older", "training", "craft"])
def test_other_systems_have_a_word_on_every_key_and_come_back(index: int, tmp_path: Path) -> None:
    """The same two laws for TOML, JSON and YAML."""
    imported = import_file(others(tmp_path)[index])
    unknown = [finding.key for finding in imported.findings if "no setting of" in finding.reason]
    assert unknown == []
    assert load_file(written(imported, tmp_path)).job == imported.job
    assert tomllib.loads(as_toml(imported)) == imported.table


def test_older_values_arrive(tmp_path: Path) -> None:
    """Two of its kinds of key that are others here: n-grams, smoothing."""
    job = import_file(text_file(tmp_path, "old.toml", OLDER)).job
    tokenizer, hook = job.prepare.tokenizer, job.hooks["early_stopping"].model_dump()
    assert tokenizer is not None
    assert (tokenizer.kind_name, tokenizer.model_dump()["n"]) == ("ngram", 2)
    assert hook["smoothing"] == pytest.approx(0.3)
    assert (job.train.max_steps, job.checkpointing.keep_last, job.checkpointing.every_minutes) == (2000, 1, None)
    assert job.data.model_dump()["order"] == "sequential"


def test_training_nested_wins_over_flat(tmp_path: Path) -> None:
    """Its shipped file says two batch sizes; the nested one trained."""
    imported = import_file(training_file(tmp_path))
    assert imported.job.data.model_dump()["micro_batch_rows"] == 4
    assert fate_of(imported, "batch_size") == (
        "left out",
        "hyperparams.batch_size says otherwise, and is what trained",
    )
    assert imported.job.model.kind_name == "hf_causal_lm"


def test_training_flat_is_read(tmp_path: Path) -> None:
    """The form that the daemon read."""
    flat = {"model_path": "qwen", "learning_rate": 3e-4, "epochs": 2, "max_length": 64}
    training_file(tmp_path)
    job = import_file(text_file(tmp_path, "flat.json", json.dumps(flat))).job
    assert (job.train.max_epochs, job.optimizer.model_dump()["lr"]) == (2, 3e-4)
    assert job.data.model_dump()["sequence_tokens"] == 64


def test_training_chats_are_read_as_chats_with_its_profile(tmp_path: Path) -> None:
    """Rows under `messages`, packed, cut at the right, the system prompt of a row overwritten: what TRAINING did."""
    monitoring = {"system_prompt_base": "Today is {date}."}
    job = import_file(training_file(tmp_path, monitoring=monitoring)).job
    assert (job.prepare.source.kind_name, job.data.kind_name) == ("jsonl_chat", "packed_examples")
    profile = job.prepare.profile.model_dump()
    assert (profile["kind"], profile["system_prompt"], profile["data_system_prompt"]) == (
        "emoji_think",
        "Today is {date}.",
        "replace",
    )
    data = job.data.model_dump()
    assert (data["truncation"], data["order"]) == ("right", "sequential")


def test_training_without_a_profile_or_packing(tmp_path: Path) -> None:
    """`none` changes no chat, so it has no system prompt to hand on."""
    file = training_file(
        tmp_path,
        profile={"name": "none"},
        monitoring={"system_prompt_base": "Hi"},
        data={"dataset_path": "chats.jsonl", "enable_packing": False},
    )
    imported = import_file(file)
    assert (imported.job.prepare.profile.kind_name, imported.job.data.kind_name) == ("none", "padded_examples")
    reason = "the profile `none` brings no system prompt; plain_sft does"
    assert fate_of(imported, "monitoring.system_prompt_base") == ("left out", reason)


def test_training_profile_that_is_none_is_named_with_its_line(tmp_path: Path) -> None:
    """Better than a run without it."""
    file = training_file(tmp_path, profile={"name": "emoji_thin"})
    with pytest.raises(ConfigError, match=r"line \d+: prepare\.profile: unknown kind 'emoji_thin'; did you mean"):
        import_file(file)


@pytest.mark.parametrize(("template", "ours"), [("{{ enable_thinking }}", "chatml"), ("{{ messages }}", "auto")])
def test_training_template_that_puts_thoughts_is_replaced(template: str, ours: str, tmp_path: Path) -> None:
    """As TRAINING did: what it shows as thoughts must not be the model's own."""
    file = training_file(tmp_path)
    (tmp_path / "qwen" / "chat_template.jinja").write_text(template)
    assert import_file(file).job.prepare.chat.template == ours


@pytest.mark.parametrize(
    ("mode", "four_bits", "quantise"), [("lora", False, "none"), ("qlora", False, "nf4"), ("lora", True, "nf4")]
)
def test_training_lora_is_an_adapter(mode: str, four_bits: bool, quantise: str, tmp_path: Path) -> None:
    """Its numbers, and its defaults where the file is silent."""
    model = {"model_path": "qwen", "load_in_4bit": four_bits}
    lora = {"r": 8, "target_modules": ["q_proj", "v_proj"], "bias": "none"}
    imported = import_file(training_file(tmp_path, model=model, training_mode=mode, lora=lora))
    adapter = imported.job.model.model_dump()["adapter"]
    assert (adapter["r"], adapter["alpha"], adapter["dropout"]) == (8, 32, 0.05)
    assert (adapter["targets"], adapter["quantise"]) == (["q_proj", "v_proj"], quantise)
    assert fate_of(imported, "lora.bias") == ("left out", "no setting of an adapter here: biases are not trained")


def test_training_adapter_without_effect_is_said(tmp_path: Path) -> None:
    """As it comes all weights are trained, whatever stands under `lora`."""
    model = {"model_path": "qwen", "load_in_4bit": True}
    imported = import_file(training_file(tmp_path, model=model, training_mode="full"))
    assert imported.job.model.model_dump()["adapter"] is None
    assert fate_of(imported, "lora.r") == ("left out", "of no effect where training_mode = 'full'")
    reason = "weights are float32 while all of them are trained"
    assert fate_of(imported, "model.load_in_4bit") == ("left out", reason)
    with pytest.raises(ConfigError, match=r"training_mode = 'lore'; TRAINING knows full, lora, qlora"):
        import_file(training_file(tmp_path, training_mode="lore"))


@pytest.mark.parametrize(
    ("theirs", "ours", "fate"),
    [
        ("muon", "muon", "kept"),
        ("adamw_8bit", "adamw8bit", "kept"),
        ("galore_8bit", "galore", "changed"),
        ("paged_adamw_32bit", "adamw", "changed"),
        ("lion", "adamw", "changed"),
    ],
)
def test_training_optimizers_are_those_here(theirs: str, ours: str, fate: str, tmp_path: Path) -> None:
    """By their names; what is not the same is said, and what is not here too."""
    imported = import_file(training_file(tmp_path, optimizer={"type": theirs, "galore": {"rank": 64}}))
    assert (imported.job.optimizer.kind_name, fate_of(imported, "optimizer.type")[0]) == (ours, fate)
    assert imported.job.optimizer.model_dump().get("rank", 64) == 64
    said = fate_of(imported, "environment.optimizer_type")
    assert said == ("left out", "optimizer.type is what trained")


def test_expression_too_deep_for_the_parser_says_so(tmp_path: Path) -> None:
    """Its own error has no words."""
    file = text_file(tmp_path, "deep.py", "n_layer = " + "-" * 100_000 + "1")
    with pytest.raises(ConfigError, match=r"deep\.py(, line 1)?: is not valid Python: .*(nested|depth)"):
        import_file(file)


def test_older_peft_is_an_adapter(tmp_path: Path) -> None:
    """With a model from elsewhere and where it is enabled; else a word on what it would have been."""
    training_file(tmp_path)
    model = '[train.hf_model]\nmodel_name = "qwen"\n'
    peft = '[train.peft]\nenabled = true\nr = 4\ntarget_modules = ["q_proj"]\n'
    adapter = import_file(text_file(tmp_path, "peft.toml", model + peft)).job.model.model_dump()["adapter"]
    assert (adapter["r"], adapter["alpha"], adapter["targets"]) == (4, 16, ["q_proj"])
    without = import_file(text_file(tmp_path, "none.toml", model + peft.replace("true", "false")))
    assert without.job.model.model_dump()["adapter"] is None
    reason = "of no effect without train.peft.enabled and a model from elsewhere, train.hf_model"
    assert fate_of(without, "train.peft.r") == ("left out", reason)


def test_training_without_its_model_is_refused(tmp_path: Path) -> None:
    """The job would have nothing to train; --set names another folder."""
    with pytest.raises(ConfigError, match="model.model_path is missing"):
        import_file(text_file(tmp_path, "flat.json", '{"batch_size": 2}'))
    file = training_file(tmp_path, model={"model_path": "gone"})
    with pytest.raises(ConfigError, match=r"config\.json: model\.path: .*gone is no folder; name one"):
        import_file(file)
    model = tmp_path / "qwen"
    sets = [f"model.path={model}", f"prepare.tokenizer.path={model}"]
    imported = import_file(file, sets)
    assert imported.job.model.model_dump()["path"] == model
    assert load_file(written(imported, tmp_path)).job == imported.job


def test_craft_recurrent_network_has_defaults_of_its_own(tmp_path: Path) -> None:
    """Twelve layers of 768 are its transformer's."""
    text = "experiment: {model: {config: {architecture: simple_rnn}}, training: {max_steps: 9}}\n"
    model = import_file(text_file(tmp_path, "rnn.yaml", text)).job.model.model_dump()
    assert (model["kind"], model["n_hidden"], model["n_layer"]) == ("char_rnn", 512, 2)


def test_craft_values_arrive(tmp_path: Path) -> None:
    """Nested under `experiment`, with an interpolation and two names for one thing."""
    imported = import_file(text_file(tmp_path, "craft.yaml", CRAFT))
    job = imported.job
    assert (job.seed, job.train.max_steps, job.train.micro_batches_per_step) == (2, 500, 2)
    assert job.data.model_dump()["micro_batch_rows"] == 32
    assert job.schedule.model_dump() == {"kind": "warmup_cosine", "warmup_steps": 100, "floor": 0.01}
    assert fate_of(imported, "model.activation") == (
        "changed",
        "there is no relu here; relu2 is its square, which learns better",
    )
    assert fate_of(imported, "optimizer.target")[1] == "Adam is not offered: AdamW stands for it"
    assert job.prepare.source.model_dump()["path"] == tmp_path / "data/raw/got/got.txt"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("notes.txt", "x", r"notes.txt: is in no known format: nanoGPT's config files \(\.py\)"),
        ("gone.py", None, "gone.py: cannot be read: No such file"),
        ("gone.json", None, "no such file"),
        ("ours.toml", 'use = ["model/tiny"]', "is a configuration of this program already"),
        (
            "empty.py",
            "",
            r"holds nothing, and nothing that a file of nanoGPT holds \(such as eval_interval, .*\); nanoGPT's config",
        ),
        (
            "other.py",
            "import os\nDEBUG = True\nHOSTS = [1]",
            "holds DEBUG, HOSTS, and nothing that a file of nanoGPT holds",
        ),
        (
            "typo.py",
            "learning_rat = 1",
            r"holds learning_rat \(did you mean 'learning_rate'\?\), and nothing that a file of nano",
        ),
        (
            "six.py",
            "".join(f"x{n} = {n}\n" for n in range(6)),
            "holds x0, x1, x2, x3, x4, ..., and nothing that a file of nano",
        ),
        ("other.yaml", "optimizer: {cats: 1}", r"holds optimizer.cats( \(.*\))?, and nothing that a file of Craft"),
        ("other.toml", "[train]\nfoo = 1", r"holds train.foo( \(.*\))?, and nothing that a file of"),
        ("other.json", '{"name": 1}', "holds name, and nothing that a file of TRAINING holds"),
        (
            "bad.yaml",
            "training: {max_steps: many}\nmodel: {}",
            "line 1: training.max_steps = 'many' is not what Craft takes",
        ),
        ("vit.yaml", "model: {architecture: clip_style}", "has no counterpart"),
        ("odd.toml", "[prepare]\ntokenizer_type = 'morse'", "line 2: prepare.tokenizer_type = 'morse'; it knows char"),
    ],
)
def test_what_cannot_be_imported_is_refused(name: str, text: str | None, message: str, tmp_path: Path) -> None:
    """One message, with the file and what is known."""
    file = tmp_path / name
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        import_file(file)


def test_command_prints_toml_alone_on_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It can be redirected into a file; the report is on stderr."""
    file = python_file(tmp_path, NANOGPT["train_gpt2"])
    import_config(file)
    shown = capsys.readouterr()
    assert tomllib.loads(shown.out) == import_file(file).table
    assert "a file of nanoGPT" in shown.err
    import_config(file, json_output=True)
    record = json.loads(capsys.readouterr().out)
    assert (record["system"], record["written"], tomllib.loads(record["toml"])) == ("nanoGPT", None, record["config"])


def test_command_writes_a_new_experiment_and_never_over_one(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The name then works everywhere; what was there stays as it was."""
    file = python_file(tmp_path, NANOGPT["train_shakespeare_char"])
    assert main(["config", "import", str(file), "--to", "mine"]) == 0
    assert load("mine").job.train.max_steps == 5000
    before = (home / "experiments" / "mine" / "config.toml").read_bytes()
    assert main(["config", "import", str(file), "--to", "mine"]) == 2
    assert "is there already, and nothing is written over it" in capsys.readouterr().err
    assert (home / "experiments" / "mine" / "config.toml").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "message"), [("a/b", "is no name of an experiment"), ("digits", "would hide the experiment")]
)
def test_command_refuses_a_bad_name(name: str, message: str, tmp_path: Path) -> None:
    """Before the file is read."""
    with pytest.raises(ConfigError, match=message):
        import_config(tmp_path / "none.py", to=name)


def test_command_with_a_refused_file_writes_nothing(tmp_path: Path, home: Path) -> None:
    """Complete or absent."""
    assert main(["config", "import", str(text_file(tmp_path, "bad.py", "max_iters = -1")), "--to", "mine"]) == 2
    assert not (home / "experiments").exists()


ODD = st.sampled_from([None, -1, 0, 1, 1.5, 1e300, "x", "", True, False, [1], {}, {"a": 1}, 2**62, "a\0b", "${seed}"])


def nested(key: str, value: Any) -> dict[str, Any]:
    """A table with one dotted key."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


@pytest.mark.parametrize(
    ("module", "suffix", "base"),
    [(training, "json", {"model": {"model_path": "."}}), (craft, "yaml", {"model": {}}), (older, "json", {})],
    ids=["training", "craft", "older"],
)
@given(data=st.data())
def test_odd_values_are_a_job_or_one_message(
    module: Any, suffix: str, base: dict[str, Any], data: st.DataObject, tmp_path: Path
) -> None:
    """Whatever stands at any known key: no other error than one that its user can mend."""
    more = {*training_parts.LORA, *training_parts.GALORE, "optimizer.type"} if module is training else older.PEFT
    tables = (module.DIRECT, module.DEFAULTS, getattr(module, "FLAT", ()), getattr(module, "ALIASES", ()), more)
    keys = sorted({key for table in tables for key in table})
    chosen = data.draw(st.dictionaries(st.sampled_from(keys), ODD, min_size=1, max_size=4))
    table: dict[str, Any] = dict(base)
    for key, value in chosen.items():
        top = nested(key, value)
        name = next(iter(top))
        below = table.get(name)
        table[name] = below | top[name] if isinstance(below, dict) and isinstance(top[name], dict) else top[name]
    file = text_file(tmp_path, f"odd.{suffix}", json.dumps(table))
    foreign = flattened(file, table)
    try:
        book = module.translate(foreign)
    except ConfigError:
        return
    keys = [finding.key for finding in book.findings if finding.key]
    assert sorted(keys) == sorted(set(keys))


def flattened(file: Path, table: dict[str, Any]) -> Foreign:
    """As the readers hand it on."""
    values: dict[str, Any] = {}

    def walk(node: Any, path: str) -> None:
        if isinstance(node, dict) and node:
            for name, value in node.items():
                walk(value, f"{path}.{name}" if path else name)
        elif node is not None:
            values[path] = node

    walk(table, "")
    return Foreign("a system", file, values)


def test_floor_above_the_peak_is_changed_and_said(tmp_path: Path) -> None:
    """A rate that would have risen stays flat."""
    imported = import_file(python_file(tmp_path, {"learning_rate": 1e-4, "min_lr": 1e-3}))
    assert fate_of(imported, "min_lr") == ("changed", "the floor cannot lie above the peak, 0.0001")
    assert imported.job.schedule.model_dump()["floor"] == 1.0
