"""Data that pack several documents into a row need a model that reads them apart."""

import json
from pathlib import Path

import pytest

from ml_playground.configuration.fitting import misfit_of_documents
from ml_playground.configuration.loading import load
from ml_playground.core.error_handling import ConfigError
from ml_playground.data_pipeline.settings import PackedExamples, PaddedExamples, TokenWindows
from ml_playground.models.recurrent.settings import MinGru
from ml_playground.models.settings import Gpt


def chats(folder: Path) -> str:
    """A source of one chat."""
    file = folder / "chats.jsonl"
    file.write_text(json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}))
    return f'prepare.source={{kind="jsonl_chat", path="{file}"}}'


def test_recurrent_model_with_packed_chats_is_refused_by_what_would_do(tmp_path: Path) -> None:
    """Its state would go from one chat to the next; the message names the other ways."""
    sets = [
        chats(tmp_path),
        'data={kind="packed_examples"}',
        'model={kind="min_gru"}',
        "prepare.tokenizer={kind='byte'}",
    ]
    with pytest.raises(ConfigError) as caught:
        load("python_stdlib", sets=sets)
    message = str(caught.value)
    assert "data.kind = 'packed_examples' puts several documents into one row, and model.kind = 'min_gru'" in message
    assert "set data.kind: padded_examples" in message
    assert "or model.kind: gpt, hf_causal_lm" in message


def test_only_packing_asks_for_it() -> None:
    """A chat a row, windows of text, and models that read documents apart are no misfit."""
    assert misfit_of_documents(PackedExamples(), MinGru()) is not None
    assert misfit_of_documents(PackedExamples(), Gpt()) is None
    assert misfit_of_documents(PaddedExamples(), MinGru()) is None
    assert misfit_of_documents(TokenWindows(), MinGru()) is None
