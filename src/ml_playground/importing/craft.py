"""Craft's YAML (a composed file, an experiment, or a group's file) as jobs of ours."""

import re
from collections.abc import Mapping
from typing import Any

from ml_playground.core.error_handling import ConfigError
from ml_playground.importing.book import Book, Computed, Foreign, share_of_peak

SYSTEM = "Craft"

DEFAULTS: Mapping[str, Any] = {
    "model.d_model": 768,
    "model.n_head": 12,
    "model.n_layers": 12,
    "model.dropout": 0.1,
    "model.bias": True,
    "model.layer_norm_eps": 1e-5,
    "model.activation": "gelu",
    "optimizer.weight_decay": 0.0,
    "training.gradient_accumulation_steps": 1,
    "training.log_interval": 50,
    "training.eval_interval": 1000,
    "training.warmup_steps": 100,
    "generation.max_new_tokens": 200,
    "generation.temperature": 0.8,
    "seed": 42,
}
"""What its schemas take."""
RNN_DEFAULTS: Mapping[str, Any] = DEFAULTS | {"model.d_model": 512, "model.n_layers": 2}

# A key that several generations of Craft spelled differently: the first one that is stated counts.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "model.d_model": ("model.n_embd", "model.hidden_size"),
    "model.n_layers": ("model.n_layer", "model.num_layers"),
    "model.max_seq_length": ("model.block_size",),
    "optimizer.target": ("optimizer._target_",),
    "scheduler.target": ("scheduler._target_",),
    "training.num_epochs": ("training.epochs",),
    "training.torch_compile": ("training.compile_model",),
    "training.save_interval": ("training.save_steps_interval",),
    "training.time_save_interval_seconds": ("checkpointing.time_save_interval_seconds",),
    "training.keep_last": ("checkpointing.keep_last",),
    "generation.start_prompt": ("generation.prompt", "training.generation.start_prompt", "training.sample_start_text"),
    "generation.max_new_tokens": ("training.sample_max_new_tokens",),
    "generation.temperature": ("training.sample_temperature",),
    "data.batch_size": ("training.batch_size",),
}

DIRECT: Mapping[str, tuple[str, type]] = {
    "data.batch_size": ("data.micro_batch_rows", int),
    "model.n_head": ("model.n_head", int),
    "model.d_model": ("model.n_embd", int),
    "model.n_layers": ("model.n_layer", int),
    "model.d_hid": ("model.n_inner", int),
    "model.dropout": ("model.dropout", float),
    "model.bias": ("model.bias", bool),
    "model.layer_norm_eps": ("model.norm_eps", float),
    "optimizer.lr": ("optimizer.lr", float),
    "optimizer.weight_decay": ("optimizer.weight_decay", float),
    "optimizer.eps": ("optimizer.eps", float),
    "training.gradient_accumulation_steps": ("train.micro_batches_per_step", int),
    "training.max_grad_norm": ("train.grad_clip", float),
    "training.log_interval": ("train.log_every_steps", int),
    "training.activation_checkpointing": ("runtime.activation_checkpointing", bool),
    "training.torch_compile": ("runtime.compile", bool),
    "training.keep_last": ("checkpointing.keep_last", int),
    "checkpointing.keep_best": ("checkpointing.keep_best", int),
    "generation.max_new_tokens": ("sample.max_new_tokens", int),
    "generation.temperature": ("sample.temperature", float),
    "generation.top_k": ("sample.top_k", int),
    "generation.top_p": ("sample.top_p", float),
    "generation.repetition_penalty": ("sample.repetition_penalty", float),
    "generation.num_beams": ("sample.num_beams", int),
    "seed": ("seed", int),
}

NOTHING: Mapping[str, str] = {
    "defaults": "a group that Hydra would look up; import the composed file: .hydra/config.yaml of a run, or --cfg job",
    "hydra.": "Hydra's own; runs lie in runs/EXPERIMENT/",
    "callbacks.": "what watches a run is always on, or a hook: [hooks]",
    "callbacks": "what watches a run is always on, or a hook: [hooks]",
    "checkpointing.": "every checkpoint is whole, and the best one is kept: [checkpointing]",
    "checkpointing": "every checkpoint is whole, and the best one is kept: [checkpointing]",
    "evaluation": "a group that did not exist there",
    "project_name": "a run is filed under its experiment",
    "experiment_name": "the folder's name is the experiment's",
    "log_level": "what is said is for people; programs take --json",
    "resume_from": "mlp train goes on by itself where the last run of these settings stopped",
    "data.num_workers": "windows are read from a memory map; there is nothing to work for them",
    "data.type": "prepare.source and data.kind say it",
    "data.": "files are made by mlp prepare, and split by prepare.val_fraction",
    "model.vocab_size": "it comes from the tokenizer",
    "model.model_type": "model.kind says it",
    "model._target_": "model.kind says it",
    "model.target": "model.kind says it",
    "training.warmup_steps": "no schedule, so no warm-up",
    "training.weight_decay": "optimizer.weight_decay is what trained",
    "training.resume_from_checkpoint": "mlp train goes on by itself where the last run of these settings stopped",
    "training.checkpoint_dir": "runs lie in runs/EXPERIMENT/",
    "training.time_eval_interval_seconds": "evaluations come by steps: train.evaluate_every_steps",
    "training.log_throughput_interval_batches": "the speed is in every row of metrics.jsonl",
    "training.generation.": "[sample] and the hook samples say it",
    "scheduler.T_max": "the schedule ends with the run: train.max_steps says it",
    "scheduler.": "there is no such setting of a schedule here",
    "generation._target_": "one kind of sampling, with options",
    "generation.use_beam_search": "sample.num_beams above 1 says it",
    "generation.": "there is no such option of sampling here",
}


def translate(foreign: Foreign) -> Book:
    """A book with the job's table in it.

    Raises:
        ConfigError: A value is of the wrong type, or names a model that is none of ours.
    """
    plain, repeated = _plain(foreign)
    recurrent = plain.values.get("model.architecture") == "simple_rnn"
    book = Book(plain, RNN_DEFAULTS if recurrent else DEFAULTS)
    for key, first in repeated.items():
        book.overruled(key, foreign, f"{first} says it")
    _model(book)
    _data(book)
    _optimizer(book)
    _schedule(book)
    _length(book)
    _machine(book)
    prompt = book.value("generation.start_prompt", str)
    if prompt is not None:
        book.keep("generation.start_prompt", {"sample.prompts": [prompt]})
    book.direct(DIRECT)
    book.close(NOTHING, DIRECT)
    return book


def _plain(foreign: Foreign) -> tuple[Foreign, dict[str, str]]:
    """Without the table `experiment` around it, `${...}` looked up, each key under one name; and the keys said twice."""
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for key, value in foreign.values.items():
        values[_short(key)] = value
        lines[_short(key)] = foreign.lines.get(key, 0)
    unset = {_short(key): foreign.lines.get(key, 0) for key in foreign.unset}
    for key, value in values.items():
        if isinstance(value, str) and (reference := re.fullmatch(r"\$\{([\w.]+)\}", value)):
            named = _short(reference[1])
            # What another file holds is no value; it does no harm where nobody asks for it.
            values[key] = None if named in unset else values.get(named, Computed(value))
    unset |= {key: lines[key] for key, value in values.items() if value is None}
    values = {key: value for key, value in values.items() if value is not None}
    repeated: dict[str, str] = {}
    for key, others in ALIASES.items():
        for other in others:
            if other in values and key in values:
                repeated[other] = key
                del values[other]
            elif other in values:
                values[key], lines[key] = values.pop(other), lines.get(other, 0)
    plain = Foreign(foreign.system, foreign.file, values, lines | unset, list(unset))
    return plain, {key: first for key, first in repeated.items() if key in foreign.values}


def _short(key: str) -> str:
    key = re.sub(r"^(experiment\.(?=[a-z_]+\.)|experiment\.(?=seed$|device$))", "", key)
    return re.sub(r"^model\.config\.", "model.", key)


def _model(book: Book) -> None:
    architecture = book.value("model.architecture", str) or "transformer"
    if architecture == "simple_rnn":
        book.keep("model.architecture", {"model.kind": "char_rnn", "model.cell": "rnn"})
        book.keep("model.d_model", {"model.n_hidden": book.value("model.d_model", int)})
        book.settled("model.n_head", "model.bias", "model.layer_norm_eps", "model.activation", "model.d_hid")
        for key in ("n_head", "bias", "layer_norm_eps", "activation", "d_hid", "norm_first"):
            if book.states(f"model.{key}"):
                book.note(f"model.{key}", "a recurrent network has none")
        return
    if architecture != "transformer":
        where = book.foreign.where("model.architecture")
        raise ConfigError(
            f"{where}: model.architecture = {architecture!r} has no counterpart (transformer, simple_rnn)"
        )
    book.keep("model.architecture", {"model.kind": "gpt"})
    activation = book.value("model.activation", str)
    reason = "" if activation == "gelu" else f"there is no {activation} here; relu2 is its square, which learns better"
    book.keep("model.activation", {"model.feed_forward": "gelu" if activation == "gelu" else "relu2"}, reason)
    if book.value("model.norm_first", bool) is False:
        book.note("model.norm_first", "layers are normalised before, not behind; training is steadier so")
    else:
        book.leave("model.norm_first", "all models here normalise before a layer")
    heads = book.value("model.n_head", int)
    width = book.value("model.d_model", int)
    if heads and width and width % heads:
        fitting = next(number for number in range(heads, 0, -1) if width % number == 0)
        book.keep("model.n_head", {"model.n_head": fitting}, f"{width} cannot be shared by {heads} heads")


def _data(book: Book) -> None:
    context, longest = book.value("data.block_size", int), book.value("model.max_seq_length", int)
    if context is not None:
        book.keep("data.block_size", {"data.sequence_tokens": context})
    if longest is not None:
        alone = context is None
        shorter = not alone and longest < context
        ours = {"data.sequence_tokens" if alone else "model.block_size": context if shorter else longest}
        book.keep("model.max_seq_length", ours, "no shorter than data.block_size" if shorter else "")
    found = next(
        (
            (key, value)
            for key, value in book.foreign.values.items()
            if key.startswith("data.") and isinstance(value, str) and value.endswith(".txt")
        ),
        None,
    )
    if found:
        source = {"kind": "text_file", "path": book.path(found[1])}
        book.keep(found[0], {"prepare.source": source}, "prepare splits it: train and val never share a text")
    else:
        source = {"kind": "text_file", "path": book.path("input.txt")}
        book.habit(
            {"prepare.source": source}, "prepared files hold ids, and no text: name the text they were made from"
        )
    sizes = [key for key in book.foreign.values if key.startswith("data.") and key.endswith(".vocab_size")]
    if sizes:
        size = book.value(sizes[0], int)
        book.keep(
            sizes[0], {"prepare.tokenizer": {"kind": "byte_bpe", "vocab_size": size}}, "a tokenizer of bytes, merged"
        )
    else:
        book.habit({"prepare.tokenizer": {"kind": "char"}}, "a char level file; for subwords name another kind")


def _optimizer(book: Book) -> None:
    target = book.value("optimizer.target", str) or "torch.optim.AdamW"
    reason = "" if target.endswith(".AdamW") else f"{target.rpartition('.')[2]} is not offered: AdamW stands for it"
    betas = book.foreign.values
    ours: dict[str, Any] = {
        "optimizer.kind": "adamw",
        "optimizer.beta1": betas.get("optimizer.betas.0", 0.9),
        "optimizer.beta2": betas.get("optimizer.betas.1", 0.999),
    }
    book.keep("optimizer.target", ours, reason)
    for number in (0, 1):
        if book.states(f"optimizer.betas.{number}"):
            book.value(f"optimizer.betas.{number}", float)
            book.keep(f"optimizer.betas.{number}", {f"optimizer.beta{number + 1}": ours[f"optimizer.beta{number + 1}"]})


def _schedule(book: Book) -> None:
    warmup = book.value("training.warmup_steps", int)
    steps, lr = book.value("training.max_steps", int), book.value("optimizer.lr", float)
    warmup = min(warmup, steps) if steps is not None else warmup
    target = book.value("scheduler.target", str)
    if target is None:
        book.habit(
            {"schedule.kind": "warmup_constant", "schedule.warmup_steps": 0}, "no scheduler is named: a flat rate"
        )
        return
    reason = "" if target.endswith("CosineAnnealingLR") else f"half a cosine stands for {target.rpartition('.')[2]}"
    book.keep("scheduler.target", {"schedule.kind": "warmup_cosine"}, reason)
    book.keep("training.warmup_steps", {"schedule.warmup_steps": warmup})
    share, reason = share_of_peak(book.value("scheduler.eta_min", float) or 0.0, lr)
    book.keep("scheduler.eta_min", {"schedule.floor": share}, reason)


def _length(book: Book) -> None:
    steps, epochs = book.value("training.max_steps", int), book.value("training.num_epochs", int)
    if steps is not None:
        book.keep("training.max_steps", {"train.max_steps": steps})
        book.leave("training.num_epochs", "max_steps sets the length")
    else:
        book.keep("training.num_epochs", {"train.max_epochs": epochs or 1})
    every, saved = book.value("training.eval_interval", int), book.value("training.save_interval", int)
    reason = "" if every else "a run is always evaluated"
    book.keep("training.eval_interval", {"train.evaluate_every_steps": every or 1000}, reason)
    if saved is not None:
        book.keep("training.save_interval", {"checkpointing.every_steps": saved or "none"})
    seconds = book.value("training.time_save_interval_seconds", float)
    if seconds is not None:
        book.keep(
            "training.time_save_interval_seconds", {"checkpointing.every_minutes": seconds / 60 if seconds else "none"}
        )


def _machine(book: Book) -> None:
    device, forced = book.value("device", str), book.value("force_cpu", bool)
    if forced:
        book.keep("force_cpu", {"runtime.device": "cpu"})
        book.leave("device", "force_cpu = true")
        return
    book.leave("force_cpu", "runtime.device says it")
    if device is not None:
        book.keep("device", {"runtime.device": device})
    mixed = book.value("training.use_amp", bool)
    if mixed is not None:
        reason = "mixed precision in bfloat16 where this machine is faster so" if mixed else ""
        book.keep("training.use_amp", {"runtime.dtype": "auto" if mixed else "float32"}, reason)
