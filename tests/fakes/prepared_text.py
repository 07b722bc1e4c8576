"""Small prepared data sets: texts in files under a test's own folder, prepared by the real preparer."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_playground.configuration.models import PrepareSettings
from ml_playground.core.deps import Deps
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.data_pipeline.text_dataset import PreparedText, as_text


def prepare_settings(source: Mapping[str, Any], *, tokenizer: Any = "char", **others: Any) -> PrepareSettings:
    """`[prepare]` from plain values, as a file would give them; of texts so small any share may be unknown."""
    kind = {"kind": tokenizer} if isinstance(tokenizer, str) else tokenizer
    settings = {"source": source, "tokenizer": kind, "max_loss_fraction": 1.0, **others}
    return PrepareSettings.model_validate_json(json.dumps(settings))


def text_settings(path: Path, *, tokenizer: Any = "char", **others: Any) -> PrepareSettings:
    """`[prepare]` over a file or a folder."""
    return prepare_settings({"kind": "text_file", "path": str(path)}, tokenizer=tokenizer, **others)


def write_texts(folder: Path, texts: Mapping[str, str]) -> Path:
    """Files by name, bytes as given; returns the folder."""
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return folder


def prepared_text(folder: Path, text: str, **settings: Any) -> PreparedText:
    """One text, prepared."""
    write_texts(folder, {"text.txt": text})
    return as_text(prepare(text_settings(folder / "text.txt", **settings), Deps()))
