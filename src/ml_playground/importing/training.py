"""TRAINING's config.json, nested or flat, as jobs of ours."""

from collections.abc import Mapping
from typing import Any

from ml_playground.core.error_handling import ConfigError
from ml_playground.importing import training_parts
from ml_playground.importing.book import Book, Foreign

SYSTEM = "TRAINING"

FLAT: Mapping[str, str] = {
    "batch_size": "hyperparams.batch_size",
    "gradient_accumulation": "hyperparams.gradient_accumulation",
    "learning_rate": "hyperparams.learning_rate",
    "warmup_steps": "hyperparams.warmup_steps",
    "epochs": "hyperparams.num_epochs",
    "max_length": "hyperparams.max_length",
    "save_steps": "hyperparams.save_steps",
    "eval_steps": "hyperparams.eval_steps",
    "eval_max_tokens": "hyperparams.max_new_tokens",
    "model_path": "model.model_path",
    "load_in_4bit": "model.load_in_4bit",
    "log_steps": "environment.logging_steps",
    "dataset_path": "data.dataset_path",
}
"""Keys of the flat form, and what they are called in the nested one."""

DEFAULTS: Mapping[str, Any] = {
    "hyperparams.batch_size": 1,
    "hyperparams.gradient_accumulation": 16,
    "hyperparams.learning_rate": 2e-4,
    "hyperparams.warmup_steps": 100,
    "hyperparams.num_epochs": 1,
    "hyperparams.max_length": 2048,
    "hyperparams.max_new_tokens": 2048,
    "hyperparams.save_steps": 1000,
    "hyperparams.save_total_limit": 3,
    "hyperparams.eval_steps": 500,
    "hyperparams.eval_strategy": "no",
    "hyperparams.use_gradient_checkpointing": True,
    "monitoring.validation_split": 0.05,
    "data.seed": 42,
    "data.shuffle": True,
    "environment.logging_steps": 10,
    "environment.max_grad_norm": 1.0,
    **training_parts.DEFAULTS,
}

DIRECT: Mapping[str, tuple[str, type]] = {
    "hyperparams.batch_size": ("data.micro_batch_rows", int),
    "hyperparams.gradient_accumulation": ("train.micro_batches_per_step", int),
    "hyperparams.learning_rate": ("optimizer.lr", float),
    "hyperparams.max_length": ("data.sequence_tokens", int),
    "hyperparams.max_new_tokens": ("sample.max_new_tokens", int),
    "hyperparams.save_steps": ("checkpointing.every_steps", int),
    "hyperparams.save_total_limit": ("checkpointing.keep_last", int),
    "hyperparams.use_gradient_checkpointing": ("runtime.activation_checkpointing", bool),
    "monitoring.validation_split": ("prepare.val_fraction", float),
    "monitoring.preview_temperature": ("sample.temperature", float),
    "data.seed": ("seed", int),
    "environment.logging_steps": ("train.log_every_steps", int),
    "environment.max_grad_norm": ("train.grad_clip", float),
}

DEAD = "nothing read it there either"
QUEUE = "the daemon's and the queue's, not a run's"
NOTHING: Mapping[str, str] = {
    "hyperparams.effective_batch_size": "data.micro_batch_rows x train.micro_batches_per_step",
    "profile.": "nothing read it there; what a profile takes here: prepare.profile.*",
    "monitoring.": "what watches a run is always on, or a hook: [hooks]",
    "monitoring.validation_max_samples": "the whole validation part is kept; train.evaluation_batches limits what is read of it",
    "locked.": "a run records its own settings, and refuses to go on with others",
    "data.validation_dataset_path": "the validation part is cut from the source: prepare.val_fraction",
    "data.min_length": DEAD,
    "data.max_length_override": DEAD,
    "data.augmentation": DEAD,
    "data.packing_strategy": "chats are packed by best fit",
    "model.tokenizer_path": "the tokenizer is that of the model's folder",
    "model.load_in_8bit": DEAD,
    "model.load_in_4bit": "training_mode says it",
    "model.": DEAD,
    "output.": "runs lie in runs/EXPERIMENT/; checkpoints are safetensors, and the same command resumes",
    "environment.dataloader_num_workers": "windows are read from a memory map; there is nothing to work for them",
    "environment.pin_memory": "decided by the device",
    "environment.report_to": "no tracker is needed: metrics.jsonl, mlp runs and report.html show a run",
    "environment.nan_detection": "always on: train.on_bad_step says what is done",
    "environment.": "one process trains here",
    "lora.": "no setting of an adapter here: biases are not trained",
    "galore.": "nothing read it there; optimizer.galore is what trained",
    "optimizer.": "the optimizer's own settings here: docs/reference/optimizer.md",
    "fortune_teller.": "there is no weighting by surprise here",
    "config_version": "a job needs no number: an unknown key is an error",
    "description": "its place is the README.md beside config.toml",
    "model_name": "the folder's name is the experiment's",
    "model_display_name": "the folder's name is the experiment's",
    "base_model": "model.path says it",
    "current_model_dir": "checkpoints lie in the run",
    "num_eval_samples": "sample.num_samples is for drawn texts; there is no scored sample",
    "eval_timeout_seconds": "an evaluation has no time limit",
    **dict.fromkeys(
        (
            *("poll_interval", "snapshot_time", "schema_id", "self_correction.", "auto_generate.", "remote_eval."),
            *("curriculum.", "retention.", "performance_baselines."),
        ),
        QUEUE,
    ),
}


def translate(foreign: Foreign) -> Book:
    """A book with the job's table in it.

    Raises:
        ConfigError: A value is of the wrong type, or says too little.
    """
    book = Book(_nested(foreign), DEFAULTS)
    for key, nested in FLAT.items():
        if key in foreign.values and nested in foreign.values:
            same = foreign.values[key] == foreign.values[nested]
            book.overruled(key, foreign, f"{nested} says {'it' if same else 'otherwise, and is what trained'}")
    _model_and_data(book)
    training_parts.adapter(book)
    _length(book)
    training_parts.optimizer(book)
    _warmup(book)
    _precision(book)
    every, strategy = book.value("hyperparams.eval_steps", int), book.value("hyperparams.eval_strategy", str)
    book.keep("hyperparams.eval_steps", {"train.evaluate_every_steps": every})
    if strategy != "steps":
        book.note("hyperparams.eval_strategy", f"a run is always evaluated: every {every:,} steps, and at the end")
    else:
        book.leave("hyperparams.eval_strategy", "every so many steps is what is done")
    book.direct(DIRECT)
    book.close(NOTHING, [*DIRECT, *FLAT, *training_parts.LORA, *training_parts.GALORE])
    return book


def _nested(foreign: Foreign) -> Foreign:
    """The flat keys under their nested names; a nested key wins, as it did there."""
    values = dict(foreign.values)
    lines = dict(foreign.lines)
    for key, nested in FLAT.items():
        if key in values:
            value, line = values.pop(key), lines.pop(key, 0)
            if nested not in values:
                values[nested] = value
                lines[nested] = line
    return Foreign(foreign.system, foreign.file, values, lines, foreign.unset)


def _model_and_data(book: Book) -> None:
    folder = book.value("model.model_path", str)
    if not folder:
        raise ConfigError(
            f"{book.foreign.file}: model.model_path is missing; it names the Hugging Face folder that is trained further"
        )
    path = book.path(folder)
    book.keep(
        "model.model_path",
        {
            "model": {"kind": "hf_causal_lm", "path": path},
            "prepare.tokenizer": {"kind": "hugging_face", "path": path},
        },
    )
    training_parts.chats(book, path)
    order = "random" if book.value("data.shuffle", bool) else "sequential"
    book.keep("data.shuffle", {"data.order": order})


def _length(book: Book) -> None:
    steps, epochs = book.value("hyperparams.max_steps", int), book.value("hyperparams.num_epochs", int)
    if steps is not None:
        book.keep(
            "hyperparams.max_steps",
            {"train.max_steps": steps},
            "it counts here; TRAINING made one pass, whatever it said",
        )
        book.leave("hyperparams.num_epochs", "max_steps sets the length")
        book.settled("hyperparams.num_epochs")
        return
    reason = "" if epochs == 1 else "it counts here; TRAINING made one pass, whatever it said"
    book.keep("hyperparams.num_epochs", {"train.max_epochs": epochs}, reason)


def _warmup(book: Book) -> None:
    warmup = book.value("hyperparams.warmup_steps", int)
    book.keep(
        "hyperparams.warmup_steps",
        {"schedule.kind": "warmup_constant", "schedule.warmup_steps": warmup},
        "it warms up here; TRAINING handed it to a constant schedule, which ignored it",
    )


def _precision(book: Book) -> None:
    precision = book.value("hyperparams.fp_precision", str)
    if precision == "fp16":
        reason = "float16 needs a loss scale and is not offered; auto is bfloat16 where that is faster"
        book.keep("hyperparams.fp_precision", {"runtime.dtype": "auto"}, reason)
    elif precision is not None:
        known = {"bf16": "bfloat16", "fp32": "float32"}
        book.keep("hyperparams.fp_precision", {"runtime.dtype": known.get(precision, precision)})
