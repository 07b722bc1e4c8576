"""The folder of a tokenizer of bytes that belongs to chats, as preparing leaves it."""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from ml_playground.core.chat_encoding import control_of, tokens_of
from ml_playground.core.chat_facts import NAME, TEMPLATE_NAME, ChatFacts, HeldOut
from ml_playground.core.chat_template import ChatTemplate
from ml_playground.tokenization.byte import END_OF_TEXT, ByteTokenizer
from tests.fakes.history_model import HistoryModel

PLAIN = (
    "{% for message in messages %}{{ message['role'] + ':' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
DAY = date(2026, 11, 22)


def chat_folder(
    folder: Path,
    template: str = PLAIN,
    *,
    profile: Mapping[str, Any] | None = None,
    held_out: Sequence[HeldOut] = (),
) -> Path:
    """Made, and given back."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = ByteTokenizer()
    tokenizer.save(folder)
    facts = ChatFacts(
        stop_ids=(END_OF_TEXT,),
        template_sha256=ChatTemplate(template).sha256,
        today=DAY,
        tokens=tokens_of(tokenizer),
        control=control_of(tokenizer),
        profile=profile,
        held_out=tuple(held_out),
    )
    (folder / NAME).write_text(facts.text, encoding="utf-8")
    (folder / TEMPLATE_NAME).write_text(template, encoding="utf-8")
    return folder


def silent_model() -> HistoryModel:
    """Ends every answer at once."""
    model = HistoryModel(257, None).eval()
    model.embedding.data[:] = 1
    model.positions.data[:] = 0
    model.out.data[:] = 0
    model.out.data[:, END_OF_TEXT] = 1000
    return model
