"""README.md of an exported folder: what the model is, how it came about, how it is used, and how well it agrees."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from ml_playground.core.humanise import count, loss_text, plural
from ml_playground.export.hugging_face import Report


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an exported model comes from, in words that mean something to strangers: no paths."""

    name: str
    run: str
    """Id of the run; empty for a checkpoint that was named itself."""
    model: str
    """Kind, and what of it was set."""
    parameters: int
    data: str
    """Kind of the source, and the fingerprint of what was prepared."""
    tokenizer: str
    step: int
    max_steps: int
    targets: float
    """Trained, in all."""
    weights: str
    """raw or ema."""
    loss: float | None
    """On the validation split, in nats a target; none: it was not measured."""
    base: str | None
    """Name of the model that was trained further."""
    typed: str
    """The command that exports it again."""
    with_tokenizer: bool
    chat: bool
    profile: str | None = None
    """Kind of the run's profile, which may steer drawing, as no file of this folder can."""


def card_of(origin: Origin, report: Report) -> str:
    """The whole text."""
    return "\n".join([*_front(origin), "", *_facts(origin, report), "", *_use(origin), "", *_parity(report), ""])


def _front(origin: Origin) -> Iterator[str]:
    """What the hub and other readers of model cards look for."""
    yield "---"
    yield "library_name: transformers"
    yield "pipeline_tag: text-generation"
    if origin.base:
        yield f"base_model: {json.dumps(origin.base)}"
    yield "---"


def _facts(origin: Origin, report: Report) -> Iterator[str]:
    yield f"# {origin.name}"
    yield ""
    yield "| | |"
    yield "|---|---|"
    rows = {
        "run": origin.run,
        "model": origin.model,
        "parameters": count(origin.parameters),
        "trained further from": origin.base or "",
        "data": origin.data,
        "tokenizer": origin.tokenizer if origin.with_tokenizer else f"{origin.tokenizer}, not in this folder",
        "step": f"{origin.step:,} of {origin.max_steps:,}" if origin.max_steps else "",
        "trained on": f"{plural(origin.targets, 'token')}" if origin.targets else "",
        "validation loss": "" if origin.loss is None else f"{loss_text(origin.loss)} nats a token",
        "weights": f"{'averaged over steps' if origin.weights == 'ema' else 'of the step itself'}, {report.dtype}",
    }
    for name, value in rows.items():
        if value:
            yield f"| {name} | {value.replace('|', chr(92) + '|')} |"
    yield ""
    yield f"Made by ML Playground: `{origin.typed}`."


def _use(origin: Origin) -> Iterator[str]:
    yield "## Use"
    yield ""
    yield "```python"
    names = "AutoModelForCausalLM, AutoTokenizer" if origin.with_tokenizer else "AutoModelForCausalLM"
    yield f"from transformers import {names}"
    yield ""
    yield 'model = AutoModelForCausalLM.from_pretrained("this-folder")'
    if not origin.with_tokenizer:
        yield "```"
        yield ""
        yield f"There is no tokenizer in this folder; ids mean what the run's own ({origin.tokenizer}) says."
        return
    yield 'tokenizer = AutoTokenizer.from_pretrained("this-folder")'
    if origin.chat:
        yield 'messages = [{"role": "user", "content": "..."}]'
        yield (
            "inputs = tokenizer.apply_chat_template("
            'messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)'
        )
    else:
        yield 'inputs = tokenizer("...", return_tensors="pt")'
    yield "output = model.generate(**inputs, max_new_tokens=200)"
    yield 'print(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))'
    yield "```"
    if origin.profile:
        yield ""
        yield (
            f"The chats were prepared with the profile `{origin.profile}`: what it adds to questions and system prompts, and the rules by "
            "which it steers drawing, are code, which no folder carries; `mlp chat` and `mlp sample` apply them."
        )


def _parity(report: Report) -> Iterator[str]:
    parity = report.parity
    yield "## Parity"
    yield ""
    yield (
        "This folder was opened again with transformers alone and compared with the checkpoint it was written from, before it got its "
        f"name. Compared on {report.compared}."
    )
    yield ""
    yield "| | |"
    yield "|---|---|"
    ids = f"equal for {plural(parity.tokens, 'token')} of {plural(parity.rows, 'row')}"
    yield f"| token ids | {ids if parity.tokens else 'not compared: no tokenizer in this folder'} |"
    yield (
        f"| logits | at most {parity.largest_difference:.2g} apart at {plural(parity.positions, 'position')}; "
        f"rounding in float32 explains {parity.allowed_difference:.2g} |"
    )
    ties = f", {plural(parity.ties, 'text')} up to two tokens that are equally likely" if parity.ties else ""
    yield f"| greedy text | equal, {plural(parity.drawn, 'token')} after {plural(parity.rows, 'prompt')}{ties} |"
    stops = ", ".join(map(str, parity.stop_ids)) or "none"
    yield f"| end of a text | equal: ids {stops}; {plural(parity.ended, 'text')} ended so, at the same place |"
    if report.rounding is not None:
        yield (
            f"| rounding to {report.dtype} | moves logits by at most {report.rounding.largest_change:.2g}, predictions by "
            f"{report.rounding.divergence_nats:.2g} nats a token, against the float32 of the checkpoint |"
        )
    if report.merging is not None:
        yield f"| merging the adapter | moves logits by at most {report.merging:.2g} |"
    yield ""
    yield f"With {', '.join(f'{name} {version}' for name, version in report.versions.items())}. All numbers: parity.json."
