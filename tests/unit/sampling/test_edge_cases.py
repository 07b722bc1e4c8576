"""The catalogue of edge cases of drawing texts, each by itself, on the one engine: from a prompt's text to the text that follows."""

from collections import Counter
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from ml_playground.configuration.sample_settings import SampleSettings
from ml_playground.core.error_handling import ConfigError
from ml_playground.sampling.filters import filtered
from ml_playground.sampling.generate import generate
from ml_playground.sampling.prompts import encode_prompt
from ml_playground.sampling.texts import draw_texts
from ml_playground.tokenization.byte import ByteTokenizer
from ml_playground.tokenization.char import CharTokenizer
from ml_playground.tokenization.settings import Char
from tests.fakes.history_model import HistoryModel

LETTERS = CharTokenizer.train(["abcdefgh \n"], Char())
LOGITS = torch.tensor([[2.0, 1.0, 0.5, -1.0, 3.0], [0.1, 0.2, 0.3, 0.4, 0.5]])


def model(max_context: int | None = None, seed: int = 0) -> HistoryModel:
    """Over the letters of `LETTERS`."""
    return HistoryModel(LETTERS.vocab_size, max_context, seed=seed).eval()


def texts(model: Any, prompts: list[str], **options: Any) -> list[str]:
    """What follows each prompt, one text each."""
    settings = SampleSettings(**{"num_samples": 1, "max_new_tokens": 12, **options})
    ids = [encode_prompt(prompt, LETTERS, model.max_context).ids for prompt in prompts]
    drawn = [""] * len(prompts)
    for piece in draw_texts(model, LETTERS, ids, settings):
        drawn[piece.prompt] += piece.text
    return drawn


def kept(**options: Any) -> list[int]:
    """How many tokens of each row of LOGITS may be drawn."""
    return filtered(LOGITS, SampleSettings(**{"temperature": 1.0, **options})).isfinite().sum(dim=-1).tolist()


def test_temperature_low_and_high_changes_the_spread() -> None:
    """Of many draws a low one takes nearly always the likeliest, a high one many different."""
    spread = {}
    for temperature in (0.05, 5.0):
        drawn = texts(model(), ["a"] * 60, max_new_tokens=1, temperature=temperature)
        spread[temperature] = len(Counter(drawn))
    assert spread[0.05] < spread[5.0]


def test_temperature_of_zero_is_greedy_whatever_the_seed() -> None:
    """No draw decides."""
    assert texts(model(), ["abc"], temperature=0.0, seed=1) == texts(model(), ["abc"], temperature=0.0, seed=2)


@pytest.mark.parametrize("k", [0, 5, 6, 1000])
def test_top_k_of_none_or_of_all_changes_nothing(k: int) -> None:
    """Also beyond the vocabulary."""
    assert kept(top_k=k) == [5, 5]


def test_top_k_counts_the_survivors() -> None:
    """Exactly k in each row."""
    assert [kept(top_k=k) for k in (1, 2, 4)] == [[1, 1], [2, 2], [4, 4]]


def test_top_p_keeps_exactly_the_nucleus() -> None:
    """The smallest set that reaches p: 0.62 + 0.23 of the first row; of the second, which is nearly even, four."""
    assert kept(top_p=1.0) == [5, 5]
    assert kept(top_p=0.75) == [2, 4]
    assert kept(top_p=1e-9) == [1, 1]


def test_top_k_comes_before_top_p() -> None:
    """The nucleus is one of the k, with their probabilities alone."""
    assert kept(top_p=0.9) == [3, 5]
    assert kept(top_k=2, top_p=0.9) == [2, 2]


@pytest.mark.parametrize("wrong", [{"top_p": 0.0}, {"top_k": -1}, {"max_new_tokens": 0}, {"temperature": -0.1}])
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    """No probability, fewer than no tokens, a text of no length: none of them is guessed at."""
    with pytest.raises(ValidationError):
        SampleSettings(**wrong)


def test_filters_leave_their_input_alone() -> None:
    """Logits may be read again."""
    before = LOGITS.clone()
    filtered(LOGITS, SampleSettings(top_k=2, top_p=0.5, min_p=0.1, temperature=0.5))
    assert torch.equal(LOGITS, before)


def test_repetition_penalty_lowers_repeats() -> None:
    """Fewer letters come again than without it."""
    repeats = {}
    for penalty in (1.0, 5.0):
        text = texts(model(seed=4), ["a"], repetition_penalty=penalty, temperature=0.0, max_new_tokens=8)[0]
        repeats[penalty] = len(text) - len(set(text))
    assert repeats[5.0] < repeats[1.0]


def test_prompts_of_different_length_in_one_batch_are_gone_on_with_as_alone() -> None:
    """The right answer to padding: it is not there."""
    prompts = ["a", "abcdefgh abcd", "hg fe"]
    for temperature in (0.0, 1.3):
        together = texts(model(8), prompts, temperature=temperature)
        alone = [
            "".join(
                piece.text
                for piece in draw_texts(
                    model(8),
                    LETTERS,
                    [LETTERS.encode(other) for other in prompts[: place + 1]],
                    SampleSettings(num_samples=1, max_new_tokens=12, temperature=temperature),
                    rows_at_once=1,
                )
                if piece.prompt == place
            )
            for place in range(len(prompts))
        ]
        assert together == alone


def test_prompt_longer_than_the_context_is_read_at_its_end() -> None:
    """Only the last tokens decide, and a note says so."""
    prompt = encode_prompt("abcdefgh" * 4, LETTERS, 8)
    assert "only the last" in prompt.notes[0]
    assert len(texts(model(8), ["abcdefgh" * 4], temperature=0.0)[0]) == 12


def test_no_prompts_give_no_texts() -> None:
    """An empty list is no error."""
    assert texts(model(), []) == []


def test_empty_prompt_begins_a_text() -> None:
    """With what the tokenizer has for a beginning."""
    assert len(texts(model(), [""])[0]) == 12


def test_prompt_of_unknown_characters_alone_is_refused() -> None:
    """Nothing of it could be read."""
    with pytest.raises(ConfigError, match="knows no character of the prompt"):
        encode_prompt("XYZ", LETTERS, None)


def test_rows_that_end_at_different_times_end_at_their_own() -> None:
    """Each at its first stop, the others undisturbed."""
    free = texts(model(seed=2), ["a", "b", "c"], temperature=0.0)
    stopped = texts(model(seed=2), ["a", "b", "c"], temperature=0.0, stop=("e",))
    assert stopped == [text.partition("e")[0] for text in free]


def test_equal_seeds_give_equal_texts_and_others_others() -> None:
    """A seed means one text."""
    draws = [texts(model(), ["ab"], temperature=1.5, seed=seed, max_new_tokens=40)[0] for seed in (7, 7, 8)]
    assert draws[0] == draws[1] != draws[2]


def test_bytes_that_are_no_character_are_shown_as_such() -> None:
    """A model of bytes may write what no text holds; nothing raises."""
    byte_model = HistoryModel(257, None).eval()
    settings = SampleSettings(num_samples=1, max_new_tokens=30, temperature=3.0)
    pieces = draw_texts(byte_model, ByteTokenizer(), [[200]], settings)
    text = "".join(piece.text for piece in pieces)
    assert "\ufffd" in text


def test_context_of_one_token_still_draws() -> None:
    """The shortest there is."""
    assert len(texts(model(1), ["abc"])[0]) == 12


def test_more_new_tokens_than_the_context_holds_are_drawn() -> None:
    """The window moves on; the prompt is not given back unchanged."""
    tokens = [step[0].id for step in generate(model(4), [[1, 2]], SampleSettings(max_new_tokens=30), seeds=[0])]
    assert len(tokens) == 30
