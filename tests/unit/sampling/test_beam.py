"""Beam search: what its settings refuse, what it says, and what Hugging Face finds in the same model."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from ml_playground.configuration.sample_settings import SampleSettings
from ml_playground.core.error_handling import CheckpointError, ConfigError
from ml_playground.sampling.beam import search
from ml_playground.sampling.texts import draw_texts
from ml_playground.tokenization.byte import ByteTokenizer
from tests.fakes.history_model import HistoryModel

BEAMS = SampleSettings(temperature=0.0, num_samples=1, num_beams=3, max_new_tokens=5)


def best(model: Any, settings: SampleSettings, stop_ids: set[int]) -> tuple[int, ...]:
    """Ids of the best continuation of token 1."""
    *_, found = search(model, [1], settings, stop_ids=stop_ids)
    return found[0].ids


def test_search_length_penalty_changes_the_winner() -> None:
    """A high one prefers the longer of two continuations, a low one the shorter."""
    model = HistoryModel(40, None, seed=3).eval()
    lengths = {
        penalty: len(
            best(model, BEAMS.model_copy(update={"length_penalty": penalty, "max_new_tokens": 8}), set(range(20)))
        )
        for penalty in (-4.0, 8.0)
    }
    assert lengths[-4.0] < lengths[8.0]


def test_search_more_beams_find_nothing_less_likely_than_greedy() -> None:
    """On this model the likeliest first token is a trap, and the search sees it."""
    model = HistoryModel(9, None, seed=2).eval()
    totals = []
    for beams in (1, 4):
        *_, found = search(model, [1], BEAMS.model_copy(update={"num_beams": beams, "max_new_tokens": 6}))
        totals.append(found[0].log_probability)
    assert totals[1] > totals[0]


def test_search_more_beams_than_ids_is_refused() -> None:
    """There are not so many continuations of one token."""
    with pytest.raises(ConfigError, match=r"num_beams = 3 is more than the 2 ids of the model; use fewer beams"):
        list(search(HistoryModel(2, None).eval(), [1], BEAMS))


def test_search_cache_that_cannot_branch_is_refused() -> None:
    """A model of somebody's plugin may lack it; greedy and drawn texts work without."""

    class Plain(HistoryModel):
        def new_state(self, rows: int, length: int, starts: torch.Tensor | None = None) -> Any:
            state = super().new_state(rows, length, starts)
            return type("State", (), {name: getattr(state, name) for name in ("total", "seen", "length", "starts")})()

    with pytest.raises(ConfigError, match=r"The cache of this model cannot branch.*set sample.num_beams = 1"):
        list(search(Plain(9, None).eval(), [1], BEAMS))


def test_search_leaves_the_mode_of_its_reader_alone() -> None:
    """Between its steps gradients can be taken as before, and after a search that is left in the middle, too."""
    steps = search(HistoryModel(9, None).eval(), [1], BEAMS)
    for _ in range(2):
        next(steps)
        assert not torch.is_inference_mode_enabled()


def test_search_diverged_model_says_so() -> None:
    """As when tokens are drawn."""
    model = HistoryModel(9, None).eval()
    model.out.data[0, 0] = math.nan
    with pytest.raises(CheckpointError, match=r"logits after 1 tokens are not numbers"):
        list(search(model, [1], BEAMS))


def test_texts_of_beams_come_best_first_with_their_scores() -> None:
    """The samples of a prompt are the best continuations, each once."""
    model = HistoryModel(257, None).eval()
    way = BEAMS.model_copy(update={"num_samples": 3})
    pieces = [piece for piece in draw_texts(model, ByteTokenizer(), [[65], [66]], way) if piece.end is not None]
    assert [(piece.prompt, piece.sample) for piece in pieces] == [(p, s) for p in range(2) for s in range(3)]
    scores = [piece.score for piece in pieces[:3]]
    assert None not in scores
    assert scores == sorted(scores, reverse=True)


def test_texts_of_beams_end_before_a_stop_text() -> None:
    """A beam whose text holds a stop is complete, and the stop is no part of it."""
    model = HistoryModel(257, None, seed=5).eval()
    tokenizer = ByteTokenizer()
    free = "".join(piece.text for piece in draw_texts(model, tokenizer, [[65]], BEAMS))
    assert free
    way = BEAMS.model_copy(update={"stop": (free[1],), "length_penalty": -4.0})
    pieces = [piece for piece in draw_texts(model, tokenizer, [[65]], way) if piece.end is not None]
    assert [piece.end for piece in pieces] == ["stop"]
    assert free[1] not in pieces[0].text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_beams": 2, "num_samples": 1}, r"num_beams = 2: temperature = 0.8 draws, .* set temperature = 0"),
        ({"num_beams": 2, "temperature": 0.0}, r"num_samples = 3 is more than 2 beams can find"),
        (
            {"num_beams": 2, "temperature": 0.0, "num_samples": 1, "engine": "llama_cpp"},
            r"engine = 'llama_cpp' cannot branch; set engine = 'torch'",
        ),
        ({"length_penalty": 2.0}, r"length_penalty = 2 compares .* but num_beams = 1; set num_beams above 1"),
    ],
)
def test_settings_of_beams_that_do_not_go_together_are_refused(settings: dict[str, Any], message: str) -> None:
    """A setting without effect, or one that contradicts the search, is an error with the way out."""
    with pytest.raises(ValidationError, match=message):
        SampleSettings(**settings)


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 1.8])
@pytest.mark.parametrize("ngram", [0, 2])
def test_search_finds_what_hugging_face_finds(tmp_path: Path, length_penalty: float, ngram: int) -> None:
    """The same GPT-2, once through our cache and once through theirs."""
    transformers: Any = pytest.importorskip("transformers")
    from ml_playground.core.values import ModelContext
    from ml_playground.models.core.gpt import build
    from ml_playground.models.settings import Gpt
    from ml_playground.models.weights.hugging_face import to_hugging_face

    torch.manual_seed(2)
    shape = Gpt(n_layer=2, n_head=2, n_embd=16, block_size=32, vocab_size=13, feed_forward="gelu_tanh")
    ours: Any = build(shape, ModelContext({"vocab_size": 13, "sequence_tokens": 32})).eval()
    for parameter in ours.parameters():
        parameter.data.mul_(8)
    to_hugging_face(shape, ours.state_dict(), tmp_path)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path).eval()
    way = {"length_penalty": length_penalty, "max_new_tokens": 7, "no_repeat_ngram": ngram, "num_beams": 3}
    *_, found = search(ours.decoder("float32"), [3, 1], BEAMS.model_copy(update=way), stop_ids={5})
    expected = theirs.generate(
        torch.tensor([[3, 1]]),
        attention_mask=torch.ones(1, 2, dtype=torch.long),
        num_beams=3,
        do_sample=False,
        max_new_tokens=7,
        length_penalty=length_penalty,
        no_repeat_ngram_size=ngram,
        early_stopping="never",
        eos_token_id=5,
        pad_token_id=0,
        output_scores=True,
        return_dict_in_generate=True,
    )
    ids = expected.sequences[0, 2:].tolist()
    ids = ids[: ids.index(5)] if 5 in ids else ids
    assert list(found[0].ids) == ids
    assert found[0].score == pytest.approx(float(expected.sequences_scores[0]), abs=1e-4)
