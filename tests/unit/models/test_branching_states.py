"""States that branch: every kind of decoder goes on from selected rows as from texts read anew."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ml_playground.configuration.families import MODELS
from ml_playground.core.registry import load_object
from ml_playground.core.values import ModelContext
from ml_playground.models.core.hf_causal_lm import build
from tests.fakes.hugging_face_folders import MODELS as HUGGING_FACE
from tests.fakes.hugging_face_folders import VOCAB, saved, settings_of

SHAPES = {
    "gpt": {"n_layer": 2, "n_head": 2, "n_embd": 16, "attention_window": 4, "position": "rotary"},
    "char_rnn": {"cell": "lstm"},
    "min_gru": {},
}


@pytest.mark.parametrize("kind", SHAPES)
def test_select_any_kind_goes_on_as_from_texts_read_anew(kind: str) -> None:
    """Of our own models: a cache in rings, cells, recurrences."""
    torch.manual_seed(0)
    settings = load_object(MODELS[kind].settings)(**SHAPES[kind])
    context = ModelContext({"vocab_size": 9, "sequence_tokens": 16})
    check_branches(load_object(MODELS[kind].build)(settings, context).eval())


@pytest.mark.parametrize("kind", HUGGING_FACE)
def test_select_model_of_the_transformers_library_goes_on_as_from_texts_read_anew(kind: str, tmp_path: Path) -> None:
    """Their cache is theirs to reorder."""
    saved(kind, tmp_path)
    model = build(settings_of(tmp_path), ModelContext({"vocab_size": VOCAB})).eval()
    check_branches(model)


def check_branches(model: Any) -> None:
    """Rows that are repeated, left out and reordered, some of them padded at their left."""
    decoder = model.decoder("float32")
    texts = [[1, 2, 3, 4, 5, 6], [7, 8, 1], [4, 4, 4, 4]]
    state = decoder.new_state(3, 12, torch.tensor([0, 3, 2]))
    decoder.step(torch.tensor([[0] * (6 - len(text)) + text for text in texts]), state)
    rows, following = [2, 0, 2, 1], [3, 3, 5, 2]
    state.select(torch.tensor(rows))
    branched = decoder.step(torch.tensor(following)[:, None], state)
    with torch.no_grad():
        anew = [model(torch.tensor([[*texts[row], id_]]))[0, -1] for row, id_ in zip(rows, following, strict=True)]
    # Of a vocabulary that is padded, a decoder gives the padding no weight.
    known = branched.isfinite()
    assert known.any(dim=-1).all()
    torch.testing.assert_close(branched[known], torch.stack(anew)[known], rtol=1e-4, atol=1e-4)
