"""TRAINING's chats, profiles, adapters and optimizers as ours."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_playground.core.error_handling import ConfigError
from ml_playground.importing.book import Book

DEFAULTS: Mapping[str, Any] = {
    "profile.name": "emoji_think",
    "data.enable_packing": True,
    "training_mode": "full",
    "lora.r": 16,
    "lora.alpha": 32,
    "lora.dropout": 0.05,
}
LORA: Mapping[str, tuple[str, type]] = {
    "lora.r": ("model.adapter.r", int),
    "lora.alpha": ("model.adapter.alpha", float),
    "lora.dropout": ("model.adapter.dropout", float),
    "lora.target_modules": ("model.adapter.targets", list),
}
GALORE: Mapping[str, tuple[str, type]] = {
    "optimizer.galore.rank": ("optimizer.rank", int),
    "optimizer.galore.update_proj_gap": ("optimizer.update_proj_gap", int),
    "optimizer.galore.scale": ("optimizer.scale", float),
}
PAGED = "moments are paged on CUDA alone: optimizer.kind = 'paged_adamw' there"
OPTIMIZERS: Mapping[str, tuple[str, str]] = {
    "muon": ("muon", ""),
    "adamw": ("adamw", ""),
    "adamw_torch": ("adamw", ""),
    "adamw_torch_fused": ("adamw", ""),
    "adamw_8bit": ("adamw8bit", ""),
    "paged_adamw_8bit": ("adamw8bit", "moments are in 8 bits, and stay on the device"),
    "paged_adamw_32bit": ("adamw", PAGED),
    "galore": ("galore", ""),
    "galore_8bit": ("galore", "its moments are float32 here"),
}
"""Its name -> ours, and what is another thing here."""
THINKING_TEMPLATES = ("<think>", "</think>", "reasoning_content", "enable_thinking")
TEMPLATE_FILES = ("chat_template.jinja", "tokenizer_config.json")


def chats(book: Book, folder: str) -> None:
    """Rows under `messages`, the profile that makes something of them, and how they are laid into rows of tokens.

    Raises:
        ConfigError: A value is of the wrong type.
    """
    path = book.path(book.value("data.dataset_path", str) or "dataset.jsonl")
    book.keep("data.dataset_path", {"prepare.source": {"kind": "jsonl_chat", "path": path}})
    packed = book.value("data.enable_packing", bool)
    kind = {"data.kind": "packed_examples" if packed else "padded_examples", "data.truncation": "right"}
    book.keep("data.enable_packing", kind)
    profile = book.value("profile.name", str)
    hidden = "hidden thoughts go with their tags; TRAINING took away the tags alone" if profile == "emoji_think" else ""
    book.keep("profile.name", {"prepare.profile.kind": profile}, hidden)
    prompt = book.value("monitoring.system_prompt_base", str)
    if profile == "none":
        book.leave("monitoring.system_prompt_base", "the profile `none` brings no system prompt; plain_sft does")
    elif prompt is not None:
        book.keep("monitoring.system_prompt_base", {"prepare.profile.system_prompt": prompt})
    if profile != "none":
        book.habit({"prepare.profile.data_system_prompt": "replace"}, "the system prompt of a row was overwritten")
    if profile in ("emoji_think", "regime3") and _puts_thoughts(Path(folder)):
        book.habit(
            {"prepare.chat.template": "chatml"}, "as there: the model's own puts thoughts of its own into answers"
        )


def adapter(book: Book) -> None:
    """All weights, or small matrices beside frozen ones.

    Raises:
        ConfigError: A value is of the wrong type, or there is no such way to train.
    """
    mode, four_bits = book.value("training_mode", str), book.value("model.load_in_4bit", bool)
    if mode == "full":
        book.leave("training_mode", "all weights are trained where [model.adapter] is not set")
        book.leave("model.load_in_4bit", "weights are float32 while all of them are trained")
        for key in book.stated("lora."):
            book.leave(key, "of no effect where training_mode = 'full'")
        return
    if mode not in ("lora", "qlora"):
        where = book.foreign.where("training_mode")
        raise ConfigError(f"{where}: training_mode = {mode!r}; TRAINING knows full, lora, qlora")
    book.keep("training_mode", {"model.adapter.kind": "lora"})
    if four_bits:
        book.keep("model.load_in_4bit", {"model.adapter.quantise": "nf4"})
    elif mode == "qlora":
        book.habit({"model.adapter.quantise": "nf4"}, "qlora: frozen matrices in four bits, on CUDA alone")
    book.direct(LORA)


def optimizer(book: Book) -> None:
    """What its factory, else the transformers library made.

    Raises:
        ConfigError: A value is of the wrong type.
    """
    kind = book.value("optimizer.type", str)
    key = "optimizer.type" if kind is not None else "environment.optimizer_type"
    kind = kind if kind is not None else book.value(key, str) or "adamw"
    ours, reason = OPTIMIZERS.get(kind, ("adamw", "there is no such optimizer here: AdamW stands for it"))
    plain = {} if ours == "muon" else {"optimizer.beta2": 0.999, "optimizer.weight_decay": 0.0}
    book.keep(key, {"optimizer.kind": ours, **plain}, reason)
    if key == "optimizer.type":
        book.leave("environment.optimizer_type", "optimizer.type is what trained")
    if ours == "galore":
        book.direct(GALORE)


def _puts_thoughts(folder: Path) -> bool:
    """Whether a model's chat template has to do with hidden thoughts; a folder that is not there is refused elsewhere."""
    files = [folder / name for name in TEMPLATE_FILES if (folder / name).is_file()]
    texts = [file.read_text(encoding="utf-8", errors="replace") for file in files]
    return any(sign in text for text in texts for sign in THINKING_TEMPLATES)
