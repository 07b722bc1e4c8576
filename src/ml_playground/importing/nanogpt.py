"""nanoGPT's config files (train, fine-tune, evaluate, sample) as jobs of ours.

Source: nanoGPT's train.py and sample.py, whose module-level names are its settings and whose values here are its defaults.
"""

from collections.abc import Mapping
from typing import Any

from ml_playground.importing.book import Book, Foreign, share_of_peak

SYSTEM = "nanoGPT"

DEFAULTS: Mapping[str, Any] = {
    "eval_interval": 2000,
    "log_interval": 1,
    "eval_iters": 200,
    "always_save_checkpoint": True,
    "init_from": "scratch",
    "dataset": "openwebtext",
    "gradient_accumulation_steps": 40,
    "batch_size": 12,
    "block_size": 1024,
    "n_layer": 12,
    "n_head": 12,
    "n_embd": 768,
    "dropout": 0.0,
    "bias": False,
    "learning_rate": 6e-4,
    "max_iters": 600_000,
    "weight_decay": 0.1,
    "beta1": 0.9,
    "beta2": 0.95,
    "grad_clip": 1.0,
    "decay_lr": True,
    "warmup_iters": 2000,
    "lr_decay_iters": 600_000,
    "min_lr": 6e-5,
    "seed": 1337,
}

DIRECT: Mapping[str, tuple[str, type]] = {
    "block_size": ("data.sequence_tokens", int),
    "batch_size": ("data.micro_batch_rows", int),
    "gradient_accumulation_steps": ("train.micro_batches_per_step", int),
    "n_layer": ("model.n_layer", int),
    "n_head": ("model.n_head", int),
    "n_embd": ("model.n_embd", int),
    "dropout": ("model.dropout", float),
    "bias": ("model.bias", bool),
    "max_iters": ("train.max_steps", int),
    "eval_iters": ("train.evaluation_batches", int),
    "log_interval": ("train.log_every_steps", int),
    "grad_clip": ("train.grad_clip", float),
    "learning_rate": ("optimizer.lr", float),
    "weight_decay": ("optimizer.weight_decay", float),
    "beta1": ("optimizer.beta1", float),
    "beta2": ("optimizer.beta2", float),
    "seed": ("seed", int),
    "num_samples": ("sample.num_samples", int),
    "max_new_tokens": ("sample.max_new_tokens", int),
    "temperature": ("sample.temperature", float),
    "top_k": ("sample.top_k", int),
}

WANDB = "no tracker is needed: metrics.jsonl, mlp runs and report.html show a run"
NOTHING: Mapping[str, str] = {
    "out_dir": "runs lie in runs/EXPERIMENT/, each in a folder of its own; MLP_HOME moves them",
    "eval_only": "evaluating is a command: mlp evaluate RUN",
    "wandb_log": WANDB,
    "wandb_project": WANDB,
    "wandb_run_name": WANDB,
    "backend": "one process trains here",
    "ckpt_path": "runs are found by themselves",
}

GPT2: Mapping[str, tuple[int, int, int]] = {
    "gpt2": (12, 12, 768),
    "gpt2-medium": (24, 16, 1024),
    "gpt2-large": (36, 20, 1280),
    "gpt2-xl": (48, 25, 1600),
}
"""Layers, heads, width."""

SHAKESPEARE = {
    "kind": "url_text",
    "url": "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
    "sha256": "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
}


def translate(foreign: Foreign) -> Book:
    """A book with the job's table in it.

    Raises:
        ConfigError: A value is of the wrong type, or computed.
    """
    book = Book(foreign, DEFAULTS)
    book.habit({"model.kind": "gpt", "optimizer.kind": "adamw"}, "nanoGPT has this model and this optimizer alone")
    _data(book)
    _beginning(book)
    _schedule(book)
    _checkpoints(book)
    _machine(book)
    if (start := book.value("start", str)) is not None:
        book.keep("start", {"sample.prompts": [start]})
    book.direct(DIRECT)
    book.close(NOTHING, DIRECT)
    return book


def _data(book: Book) -> None:
    name = book.value("dataset", str)
    if name == "shakespeare_char":
        source, tokenizer, reason = SHAKESPEARE, {"kind": "char"}, ""
    elif name == "shakespeare":
        source, tokenizer, reason = SHAKESPEARE, {"kind": "tiktoken_bpe", "encoding": "gpt2"}, ""
    elif name == "openwebtext":
        source = {"kind": "hub_dataset", "name": "Skylion007/openwebtext"}
        tokenizer, reason = {"kind": "tiktoken_bpe", "encoding": "gpt2"}, ""
    else:
        source = {"kind": "text_file", "path": book.path(f"data/{name}/input.txt")}
        tokenizer = {"kind": "tiktoken_bpe", "encoding": "gpt2"}
        reason = "what its prepare.py reads is not known; name your text in prepare.source, and your tokenizer"
    fraction = 0.0005 if name == "openwebtext" else 0.1
    book.keep(
        "dataset", {"prepare.source": source, "prepare.tokenizer": tokenizer, "prepare.val_fraction": fraction}, reason
    )


def _beginning(book: Book) -> None:
    """From random weights, published ones, or a checkpoint."""
    begin = book.value("init_from", str)
    if begin in GPT2:
        layers, heads, width = GPT2[begin]
        size = {"model.n_layer": layers, "model.n_head": heads, "model.n_embd": width, "model.bias": True}
        for key in ("n_layer", "n_head", "n_embd", "bias"):
            book.leave(key, f"init_from = {begin!r} decides it")
        book.keep(
            "init_from",
            # Published weights have 1024 positions, and the tanh form of GELU.
            {"model.weights": book.path(begin), "model.block_size": 1024, "model.feed_forward": "gelu_tanh", **size},
            "weights are read from a local Hugging Face folder: put it there, or set model.weights",
        )
        # What the file leaves to nanoGPT's defaults must not overrule the published size.
        book.settled("n_layer", "n_head", "n_embd", "bias")
    elif begin == "resume":
        book.leave("init_from", "mlp train goes on by itself where the last run of these settings stopped")
    else:
        book.leave("init_from", "random weights are what a job begins with")


def _schedule(book: Book) -> None:
    """Warm-up and half a cosine, which end with the run here; or a flat rate."""
    warmup, peak = book.value("warmup_iters", int), book.value("learning_rate", float)
    lowest, steps, end = book.value("min_lr", float), book.value("max_iters", int), book.value("lr_decay_iters", int)
    if not book.value("decay_lr", bool):
        book.keep("decay_lr", {"schedule.kind": "warmup_constant", "schedule.warmup_steps": 0})
        for key in ("warmup_iters", "lr_decay_iters", "min_lr"):
            book.leave(key, "decay_lr = False: the rate is flat from the first step on")
        return
    book.keep("decay_lr", {"schedule.kind": "warmup_cosine"})
    shorter = min(warmup, steps)
    book.keep(
        "warmup_iters",
        {"schedule.warmup_steps": shorter},
        "" if shorter == warmup else f"a warm-up cannot be longer than the run of {steps:,} steps",
    )
    share, reason = share_of_peak(lowest, peak)
    book.keep("min_lr", {"schedule.floor": share}, reason)
    if end == steps:
        book.leave("lr_decay_iters", "the schedule ends with the run: train.max_steps says it")
    elif book.states("lr_decay_iters") or end != steps:
        book.note("lr_decay_iters", f"the schedule comes down as the run ends, at step {steps:,}, and not at {end:,}")


def _checkpoints(book: Book) -> None:
    every = book.value("eval_interval", int)
    book.keep("eval_interval", {"train.evaluate_every_steps": every})
    if book.value("always_save_checkpoint", bool):
        book.keep("always_save_checkpoint", {"checkpointing.every_steps": every})
    else:
        book.keep(
            "always_save_checkpoint",
            {"checkpointing.every_steps": "none", "checkpointing.keep_best": 1},
            "besides the best one, the newest is kept too: every ten minutes, and at the end",
        )


def _machine(book: Book) -> None:
    """Device, precision, compiler: where the file does not say, this machine's best is taken."""
    device, dtype, compiled = book.value("device", str), book.value("dtype", str), book.value("compile", bool)
    if device is not None:
        plain = device.partition(":")[0]
        reason = "" if plain == device else "one device of a kind is used: choose it with CUDA_VISIBLE_DEVICES"
        book.keep("device", {"runtime.device": plain}, reason)
    if dtype == "float16":
        book.keep("dtype", {"runtime.dtype": "auto"}, "float16 needs a loss scale and is not offered; auto is bfloat16")
    elif dtype is not None:
        book.keep("dtype", {"runtime.dtype": dtype})
    if compiled is not None:
        book.keep("compile", {"runtime.compile": compiled})
