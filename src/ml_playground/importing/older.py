"""The TOML of the older ml_playground ([train.model], [train.runtime], ...) as jobs of ours."""

from collections.abc import Mapping
from typing import Any

from ml_playground.core.error_handling import ConfigError
from ml_playground.importing.book import Book, Foreign, share_of_peak

SYSTEM = "the older ml_playground"

DEFAULTS: Mapping[str, Any] = {
    "prepare.tokenizer_type": "char",
    "train.model.n_layer": 6,
    "train.model.n_head": 6,
    "train.model.n_embd": 384,
    "train.model.dropout": 0.0,
    "train.model.bias": False,
    "train.data.batch_size": 8,
    "train.data.block_size": 256,
    "train.data.grad_accum_steps": 1,
    "train.data.sampler": "random",
    "train.data.ngram_size": 1,
    "train.optim.learning_rate": 1e-3,
    "train.optim.weight_decay": 0.1,
    "train.optim.beta1": 0.9,
    "train.optim.beta2": 0.95,
    "train.optim.grad_clip": 1.0,
    "train.schedule.decay_lr": True,
    "train.schedule.warmup_iters": 200,
    "train.schedule.lr_decay_iters": 20_000,
    "train.schedule.min_lr": 1e-4,
    "train.runtime.max_iters": 100_000,
    "train.runtime.eval_interval": 1000,
    "train.runtime.eval_iters": 100,
    "train.runtime.log_interval": 10,
    "train.runtime.seed": 1337,
    "train.peft.enabled": False,
    "train.peft.r": 8,
    "train.peft.lora_alpha": 16.0,
    "train.peft.lora_dropout": 0.0,
    "sample.sample.start": "\n",
    "sample.sample.temperature": 0.9,
    "sample.sample.max_new_tokens": 128,
    "sample.sample.num_samples": 1,
    "sample.sample.top_k": 0,
}
"""Its default_config.toml, which it lays under every experiment."""

DIRECT: Mapping[str, tuple[str, type]] = {
    "train.model.n_layer": ("model.n_layer", int),
    "train.model.n_head": ("model.n_head", int),
    "train.model.n_embd": ("model.n_embd", int),
    "train.model.dropout": ("model.dropout", float),
    "train.model.bias": ("model.bias", bool),
    "train.model.vocab_size": ("model.vocab_size", int),
    "train.data.batch_size": ("data.micro_batch_rows", int),
    "train.data.block_size": ("data.sequence_tokens", int),
    "train.data.grad_accum_steps": ("train.micro_batches_per_step", int),
    "train.data.sampler": ("data.order", str),
    "train.optim.learning_rate": ("optimizer.lr", float),
    "train.optim.weight_decay": ("optimizer.weight_decay", float),
    "train.optim.beta1": ("optimizer.beta1", float),
    "train.optim.beta2": ("optimizer.beta2", float),
    "train.optim.grad_clip": ("train.grad_clip", float),
    "train.runtime.max_iters": ("train.max_steps", int),
    "train.runtime.eval_interval": ("train.evaluate_every_steps", int),
    "train.runtime.eval_iters": ("train.evaluation_batches", int),
    "train.runtime.log_interval": ("train.log_every_steps", int),
    "train.runtime.seed": ("seed", int),
    "sample.runtime.seed": ("sample.seed", int),
    "sample.sample.num_samples": ("sample.num_samples", int),
    "sample.sample.max_new_tokens": ("sample.max_new_tokens", int),
    "sample.sample.temperature": ("sample.temperature", float),
    "sample.sample.top_k": ("sample.top_k", int),
    "sample.sample.top_p": ("sample.top_p", float),
    "train.hf_model.block_size": ("data.sequence_tokens", int),
    "train.hf_model.gradient_checkpointing": ("runtime.activation_checkpointing", bool),
}

PEFT: Mapping[str, tuple[str, type]] = {
    "train.peft.r": ("model.adapter.r", int),
    "train.peft.lora_alpha": ("model.adapter.alpha", float),
    "train.peft.lora_dropout": ("model.adapter.dropout", float),
    "train.peft.target_modules": ("model.adapter.targets", list),
}

TRACKER = "no tracker is needed: metrics.jsonl, mlp runs and report.html show a run"
NAMES = "the files of a run have fixed names"
FOLDERS = "runs lie in runs/EXPERIMENT/, data in data/; MLP_HOME moves both"
NOTHING: Mapping[str, str] = {
    "shared.": FOLDERS,
    "prepare.raw_dir": "prepare.source names the text",
    "prepare.dataset_dir": FOLDERS,
    "prepare.add_structure_tokens": "it had no effect there",
    "prepare.doc_separator": "it had no effect there; documents end with the tokenizer's own mark",
    "prepare.extras.": "free-form settings of one experiment's own code",
    "train.extras.": "free-form settings of one experiment's own code",
    "sample.extras.": "free-form settings of one experiment's own code",
    "train.data.dataset_dir": FOLDERS,
    "train.data.train_bin": NAMES,
    "train.data.val_bin": NAMES,
    "train.data.meta_pkl": NAMES,
    "train.data.tokenizer": "prepare.tokenizer says it once",
    "train.runtime.out_dir": FOLDERS,
    "train.runtime.eval_only": "evaluating is a command: mlp evaluate RUN",
    "train.runtime.tensorboard_enabled": TRACKER,
    "train.runtime.tensorboard_update_mode": TRACKER,
    "train.runtime.always_save_checkpoint": "checkpointing.every_steps and keep_best decide it",
    "train.runtime.iters_per_epoch": "an epoch is counted from the data",
    "train.runtime.ckpt_atomic": "every checkpoint is complete or absent",
    "train.runtime.ckpt_write_metadata": "every checkpoint has its manifest",
    "train.runtime.ckpt_last_filename": NAMES,
    "train.runtime.ckpt_best_filename": NAMES,
    "train.runtime.ckpt_top_k": "checkpointing.keep_best says it",
    "train.runtime.ckpt_greater_is_better": "the objective knows which way its metrics are better",
    "train.runtime.checkpointing.read_policy": "a run goes on from its newest checkpoint; sampling chooses by itself",
    "train.checkpointing.": "a copy of train.runtime.checkpointing there",
    "train.peft.extend_mlp_targets": "model.adapter.targets names matrices; as it comes: all but the output layer",
    "train.peft.": "no setting of an adapter here: biases are not trained",
    "sample.runtime.": "a run is sampled with what it was trained with",
    "sample.runtime_ref": "a run is sampled with what it was trained with",
    "export.": "exporting is a command of its own, with settings of its own",
}


def translate(foreign: Foreign) -> Book:
    """A book with the job's table in it.

    Raises:
        ConfigError: A value is of the wrong type, or has no meaning here and cannot be left out.
    """
    book = Book(foreign, DEFAULTS)
    _model(book)
    _adapter(book)
    _text(book)
    _schedule(book)
    _saving(book)
    _machine(book)
    start = book.value("sample.sample.start", str)
    book.keep(
        "sample.sample.start", {"sample.prompts": [start or "\n"]}, "" if start else "a text begins with a line end"
    )
    context = book.value("train.model.block_size", int)
    if context is not None:
        book.keep("train.model.block_size", {"model.block_size": context})
    book.direct(DIRECT)
    book.close(NOTHING, [*DIRECT, *PEFT])
    return book


def _model(book: Book) -> None:
    name = book.value("train.hf_model.model_name", str)
    if name is None:
        book.habit({"model.kind": "gpt", "optimizer.kind": "adamw"}, "the model and the optimizer that it has")
        return
    sizes = ("n_layer", "n_head", "n_embd", "dropout", "bias", "vocab_size", "block_size")
    for key in sizes:
        book.leave(f"train.model.{key}", "train.hf_model decides it")
    book.settled(
        *(f"train.model.{key}" for key in sizes),
        *(["train.data.block_size"] * book.states("train.hf_model.block_size")),
    )
    book.keep(
        "train.hf_model.model_name",
        {"model.kind": "hf_causal_lm", "model.path": book.path(name)},
        "a model is read from a local folder, and never fetched",
    )
    book.habit({"optimizer.kind": "adamw"}, "the optimizer that it has")


def _adapter(book: Book) -> None:
    if not book.value("train.peft.enabled", bool) or not book.states("train.hf_model.model_name"):
        for key in book.stated("train.peft."):
            book.leave(key, "of no effect without train.peft.enabled and a model from elsewhere, train.hf_model")
        return
    book.keep("train.peft.enabled", {"model.adapter.kind": "lora"})
    book.direct(PEFT)


def _text(book: Book) -> None:
    text = book.value("prepare.raw_text_path", str)
    if text is None:
        book.habit(
            {"prepare.source": {"kind": "text_file", "path": book.path("raw")}},
            "its experiments read ./raw beside the file in code of their own; name the text, or another kind of source",
        )
    else:
        book.keep("prepare.raw_text_path", {"prepare.source": {"kind": "text_file", "path": book.path(text)}})
    key, size = "prepare.tokenizer_type", book.value("train.data.ngram_size", int)
    if book.states("train.hf_model.model_name"):
        tokenizer = {"kind": "hugging_face", "path": book.path(book.value("train.hf_model.model_name", str))}
        book.keep(key, {"prepare.tokenizer": tokenizer}, "a model from elsewhere knows the ids of its own tokenizer")
        return
    kinds = {"char": "char", "word": "word", "tiktoken": "tiktoken_bpe"}
    kind = book.value(key, str)
    if kind not in kinds:
        raise ConfigError(f"{book.foreign.where(key)}: {key} = {kind!r}; it knows {', '.join(kinds)}")
    if kind == "char" and size != 1:
        book.keep("train.data.ngram_size", {"prepare.tokenizer": {"kind": "ngram", "n": size}})
        book.note(key, "n-grams of characters are a kind of tokenizer of their own")
        return
    book.leave("train.data.ngram_size", "1 is what every tokenizer does")
    book.keep(key, {"prepare.tokenizer": {"kind": kinds[kind]}})


def _schedule(book: Book) -> None:
    section = "train.schedule."
    steps = book.value("train.runtime.max_iters", int)
    warmup, lowest = book.value(f"{section}warmup_iters", int), book.value(f"{section}min_lr", float)
    end, peak = book.value(f"{section}lr_decay_iters", int), book.value("train.optim.learning_rate", float)
    if not book.value(f"{section}decay_lr", bool):
        book.keep(f"{section}decay_lr", {"schedule.kind": "warmup_constant", "schedule.warmup_steps": 0})
        for name in ("warmup_iters", "lr_decay_iters", "min_lr"):
            book.leave(section + name, "decay_lr = false: the rate is flat from the first step on")
        return
    book.keep(f"{section}decay_lr", {"schedule.kind": "warmup_cosine"})
    book.keep(
        f"{section}warmup_iters",
        {"schedule.warmup_steps": min(warmup, steps)},
        "" if warmup <= steps else f"a warm-up cannot be longer than the run of {steps:,} steps",
    )
    share, reason = share_of_peak(lowest, peak)
    book.keep(f"{section}min_lr", {"schedule.floor": share}, reason)
    end_text = f"the schedule comes down as the run ends, at step {steps:,}, and not at {end:,}"
    book.note(f"{section}lr_decay_iters", "train.max_steps says it" if end == steps else end_text)


def _saving(book: Book) -> None:
    section = "train.runtime."
    minutes = book.value(f"{section}ckpt_time_interval_minutes", int)
    if minutes is not None:
        book.keep(f"{section}ckpt_time_interval_minutes", {"checkpointing.every_minutes": minutes or "none"})
    for key, ours in (("last", "keep_last"), ("best", "keep_best")):
        kept = book.value(f"{section}checkpointing.keep.{key}", int)
        if kept is not None:
            least = max(kept, 1 if key == "last" else 0)
            reason = "" if least == kept else "the newest checkpoint is always kept"
            book.keep(f"{section}checkpointing.keep.{key}", {f"checkpointing.{ours}": least}, reason)
    if book.value(f"{section}ckpt_metric", str) is not None:
        book.leave(f"{section}ckpt_metric", "perplexity is the exponential of the loss, by which checkpoints are best")
    smoothing, patience = (
        book.value(f"{section}best_smoothing_alpha", float),
        book.value(f"{section}early_stop_patience", int),
    )
    if patience:
        # There the share of the newest value, here that of the past.
        weight = 0.0 if smoothing is None or not smoothing else 1 - smoothing
        book.keep(
            f"{section}early_stop_patience",
            {"hooks.early_stopping": {"kind": "early_stopping", "patience": patience, "smoothing": weight}},
        )
    elif patience is not None:
        book.leave(f"{section}early_stop_patience", "0: no run ends early unless a hook says so")
    if smoothing is not None:
        book.leave(
            f"{section}best_smoothing_alpha", "hooks.early_stopping.smoothing is one minus it; the best is not smoothed"
        )
    decay = book.value(f"{section}ema_decay", float)
    if decay is not None:
        reason = "" if decay < 1 else "1 would never move"
        book.keep(f"{section}ema_decay", {"train.ema_decay": decay if decay < 1 else 0.9999}, reason)
    epochs = book.value(f"{section}max_epochs", int)
    if epochs is not None:
        book.leave(f"{section}max_epochs", "max_iters sets the length; for epochs set train.max_epochs instead")


def _machine(book: Book) -> None:
    section = "train.runtime."
    for key, kind in (("device", str), ("compile", bool)):
        if (value := book.value(section + key, kind)) is not None:
            book.keep(section + key, {f"runtime.{key}": value})
    dtype = book.value(f"{section}dtype", str)
    if dtype == "float16":
        reason = "float16 needs a loss scale and is not offered; auto is bfloat16 where that is faster"
        book.keep(f"{section}dtype", {"runtime.dtype": "auto"}, reason)
    elif dtype is not None:
        book.keep(f"{section}dtype", {"runtime.dtype": dtype})
