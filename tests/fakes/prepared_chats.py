"""Small prepared chats: rows in a file under a test's own folder, prepared by the real preparer, a token a byte."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_playground.core.deps import Deps
from ml_playground.data_pipeline.chats.chat_dataset import PreparedChats, as_chats
from ml_playground.data_pipeline.preparer import prepare
from tests.fakes.prepared_text import prepare_settings

FEW = [
    pair
    for hi, number, letter, why in (("Hi", 2, "é", "Why"), ("Ho", 3, "è", "Who"), ("Ha", 4, "ê", "How"))
    for pair in (
        (hi, "Hello."),
        (f"What is 2 + {number}?", str(number + 2)),
        (f"Say {letter}", letter),
        (f"{why}?", "Because it is so, and was so before."),
    )
]
"""Four chats, three times in other words of equal length: copies would all be on one side."""


def chats_source(folder: Path, pairs: Sequence[tuple[str, str]] = FEW) -> dict[str, Any]:
    """`[prepare.source]` over questions and answers, written to `folder/chats.jsonl`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]}
        for asked, answer in pairs
    ]
    (folder / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {"kind": "jsonl_chat", "path": str(folder / "chats.jsonl")}


def prepared_chats(folder: Path, pairs: Sequence[tuple[str, str]] = FEW, **settings: Any) -> PreparedChats:
    """Prepared, the plain template around each turn."""
    wanted = {"val_fraction": 0.25, "chat": {"template": "plain"}} | settings
    return as_chats(prepare(prepare_settings(chats_source(folder, pairs), tokenizer="byte", **wanted), Deps()))
