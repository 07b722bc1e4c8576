"""Chat templates of the shapes that families of models use, a tokenizer that knows their special tokens, and chats prepared with them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from ml_playground.configuration.models import PrepareSettings
from ml_playground.core.deps import Deps
from ml_playground.data_pipeline.chats.chat_dataset import PreparedChats, as_chats
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.tokenization.hugging_face import HuggingFaceTokenizer
from ml_playground.tokenization.settings import HuggingFace

CHATML = """{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

LLAMA = """{{- bos_token }}
{%- for message in messages %}
{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""

GEMMA = """{{- bos_token }}
{%- if messages[0].role == 'system' %}{{ raise_exception('there is no role system') }}{% endif %}
{%- for message in messages %}
{{- '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\\n' + message.content | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""

MISTRAL = """{{- bos_token }}
{%- for message in messages %}
{%- if message.role == 'user' %}{{ '[INST] ' + message.content + ' [/INST]' }}
{%- elif message.role == 'assistant' %}{{ ' ' + message.content + eos_token }}
{%- else %}{{ raise_exception('only user and assistant') }}{% endif %}
{%- endfor %}"""

OWN = """{%- for message in messages %}
{%- if message.role == 'assistant' %}{% generation %}{{ 'A) ' ~ message.content ~ eos_token }}{% endgeneration %}
{%- else %}{{ 'Q) ' ~ message.content ~ ' ' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}A) {% endif %}"""

THINKING = """{%- set ns = namespace(last=-1) %}
{%- for message in messages %}{% if message.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' and loop.index0 > ns.last %}
{{- '<think>\\n' + (message.reasoning_content or '') + '\\n</think>\\n\\n' }}
{%- endif %}
{{- message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

STEADY: Mapping[str, str] = {"chatml": CHATML, "llama": LLAMA, "gemma": GEMMA, "mistral": MISTRAL, "own": OWN}
"""Those that leave earlier turns as they are."""
ENDS: Mapping[str, str] = {
    "chatml": "<|im_end|>", "llama": "<|eot_id|>", "gemma": "<end_of_turn>", "mistral": "</s>", "own": "</s>",
}  # fmt: skip
SPECIAL = (
    *("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    *("<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]"),
)
TEXT = "".join(f"What is {number} and {number + 1}? It is {2 * number + 1}, I think.\n" for number in range(60))


@cache
def library_tokenizer() -> PreTrainedTokenizerFast:
    """Byte pairs with the special tokens of all families; `<think>` is one that is not special, as in Qwen's."""
    made = Tokenizer(BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator([TEXT], BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False))
    made.add_special_tokens(list(SPECIAL))
    made.add_tokens([AddedToken("<think>", special=False), AddedToken("</think>", special=False)])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="</s>")


def tokenizer_folder(folder: Path, template: str | None = CHATML) -> Path:
    """That tokenizer on disk, with a chat template of its own."""
    library_tokenizer().save_pretrained(folder)
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


def our_tokenizer(folder: Path, template: str | None = CHATML) -> HuggingFaceTokenizer:
    """The same as we open it."""
    return HuggingFaceTokenizer.train(("any",), HuggingFace(path=tokenizer_folder(folder, template)))


def chat_file(path: Path, rows: Iterable[Any]) -> Path:
    """Rows as JSON Lines; a text is a line as it is."""
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def turns(*contents: str, **more: Any) -> dict[str, Any]:
    """A row in which user and assistant take turns."""
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[n % 2], "content": text} for n, text in enumerate(contents)], **more}


SOME: Sequence[Mapping[str, Any]] = tuple(turns(f"What is {n}?", f"It is {n}.") for n in range(8))


def chat_settings(path: Path, tokenizer: Mapping[str, Any], kind: str = "jsonl_chat", **others: Any) -> PrepareSettings:
    """`[prepare]` over a file of chats."""
    settings = {"source": {"kind": kind, "path": str(path)}, "tokenizer": tokenizer, "val_fraction": 0.25, **others}
    return PrepareSettings.model_validate_json(json.dumps(settings, default=str))


def prepared_chats(
    folder: Path, rows: Iterable[Any] = SOME, *, template: str | None = CHATML, kind: str = "jsonl_chat", **others: Any
) -> PreparedChats:
    """Rows, prepared with the tokenizer of all families."""
    path = chat_file(folder / "chats.jsonl", rows)
    tokenizer = {"kind": "hugging_face", "path": str(tokenizer_folder(folder / "tokenizer", template))}
    return as_chats(prepare(chat_settings(path, tokenizer, kind, **others), Deps()))
