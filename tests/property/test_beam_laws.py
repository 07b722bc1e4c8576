"""Laws of beam search: one beam is greedy, as many beams as there are texts find the best of all, and the cache changes nothing."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_playground.configuration.sample_settings import SampleSettings
from ml_playground.core.values import ModelContext
from ml_playground.models.core.gpt import build
from ml_playground.models.protocols import LogitsProcessor
from ml_playground.models.settings import Gpt
from ml_playground.sampling.beam import Continuation, search
from ml_playground.sampling.generate import generate
from tests.fakes.forbids_last import ForbidsLast
from tests.fakes.history_model import HistoryModel

VOCABULARY = 4
prompts = st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=9)
contexts = st.sampled_from([None, 3, 8])


def searched(model: Any, prompt: Sequence[int], beams: int, **options: Any) -> Sequence[Continuation]:
    """What a search with so many beams finds, best first."""
    steering = {name: options.pop(name, ()) for name in ("stop_ids", "processors")}
    way = {"num_samples": 1, "temperature": 0.0, "num_beams": beams, **options}
    # Unvalidated: settings know no search with a single beam, which is what is drawn at temperature 0.
    *_, found = search(model, prompt, SampleSettings().model_copy(update=way), **steering)
    return found


def log_probability(model: HistoryModel, prompt: Sequence[int], ids: Sequence[int]) -> float:
    """Of a continuation, each token from the whole text before it."""
    total = 0.0
    for at, id_ in enumerate(ids):
        logits = model(torch.tensor([[*prompt, *ids[:at]]])).detach()[0, -1].float()
        total += float(logits.log_softmax(-1, dtype=torch.float64)[id_])
    return total


@settings(max_examples=25)
@given(prompts, contexts, st.sampled_from([0, 2]), st.sampled_from([1.0, 1.3]), st.sampled_from([(), (ForbidsLast(),)]))
def test_search_one_beam_is_greedy(
    prompt: list[int], max_context: int | None, ngram: int, penalty: float, processors: Sequence[LogitsProcessor]
) -> None:
    """With a single open end, and nothing gained by going on, it is `generate`, also where the context overflows."""
    model = HistoryModel(VOCABULARY, max_context).eval()
    options: dict[str, Any] = {"no_repeat_ngram": ngram, "repetition_penalty": penalty, "max_new_tokens": 12}
    way = SampleSettings(temperature=0.0, num_samples=1, **options)
    steering: dict[str, Any] = {"stop_ids": {0}, "processors": processors}
    greedy = [token.id for tokens in generate(model, [prompt], way, seeds=[0], **steering) for token in tokens]
    assert list(searched(model, prompt, 1, **steering, length_penalty=0.0, **options)[0].ids) == greedy


@settings(max_examples=15)
@given(prompts, st.sampled_from([0.0, 0.6, 1.0, 2.0]))
def test_search_beams_for_every_text_finds_the_best_of_all(prompt: list[int], length_penalty: float) -> None:
    """Compared with every continuation there is, scored token by token without a cache."""
    model = HistoryModel(VOCABULARY, None).eval()
    new, stop = 3, 0
    texts = [
        ids
        for length in range(1, new + 1)
        for ids in itertools.product(range(VOCABULARY), repeat=length)
        if stop not in ids[:-1] and (ids[-1] == stop or length == new)
    ]
    scores = {ids: log_probability(model, prompt, ids) / len(ids) ** length_penalty for ids in texts}
    best = max(scores, key=lambda ids: scores[ids])
    # More beams than open ends of any length, in a vocabulary that is made larger by ids of no weight.
    model.out = torch.nn.Parameter(torch.cat([model.out, torch.zeros(8, VOCABULARY**new)], dim=1))
    model.embedding = torch.nn.Parameter(torch.cat([model.embedding, torch.zeros(VOCABULARY**new, 8)]))
    model.vocab_size += VOCABULARY**new
    found = searched(
        _masked(model), prompt, VOCABULARY**new, max_new_tokens=new, length_penalty=length_penalty, stop_ids={stop}
    )
    kept = best[:-1] if best[-1] == stop else best
    assert found[0].ids == kept
    assert found[0].score == pytest.approx(scores[best], abs=1e-5)


def _masked(model: HistoryModel) -> HistoryModel:
    """The model, never giving one of the ids beyond VOCABULARY."""
    head = model.head

    def masked(hidden: torch.Tensor) -> torch.Tensor:
        logits = head(hidden)
        logits[..., VOCABULARY:] = -torch.inf
        return logits

    model.head = masked
    return model


@settings(max_examples=25)
@given(prompts, st.integers(2, 4), contexts)
def test_search_scores_are_those_of_the_plain_forward_pass(
    prompt: list[int], beams: int, max_context: int | None
) -> None:
    """Branching caches hold what a model reads anew: a continuation's log-probability is that of its tokens, one by one."""
    model = HistoryModel(VOCABULARY, None).eval()
    for found in searched(model, prompt, beams, num_samples=beams, max_new_tokens=6):
        assert found.log_probability == pytest.approx(log_probability(model, prompt, found.ids), abs=1e-5)
        assert found.end == "length"


@pytest.mark.parametrize("window", [None, 4])
def test_search_gpt_scores_are_those_of_the_plain_forward_pass(window: int | None) -> None:
    """The same on a transformer whose cache is reserved memory, in rings where it has a window."""
    torch.manual_seed(0)
    facts = {"vocab_size": 11, "sequence_tokens": 24}
    shape = Gpt(n_layer=2, n_head=2, n_embd=16, position="rotary", attention_window=window, bigram_rows=32)
    model: Any = build(shape, ModelContext(facts)).eval()
    for found in searched(model.decoder("float32"), [3, 1, 4], 4, num_samples=4, max_new_tokens=9, stop_ids={5}):
        ids = [3, 1, 4, *found.ids, *([5] if found.end == "stop" else [])]
        plain = model(torch.tensor([ids])).detach()[0].log_softmax(-1, dtype=torch.float64)
        total = sum(float(plain[at, id_]) for at, id_ in enumerate(ids[3:], start=2))
        assert found.log_probability == pytest.approx(total, abs=1e-4)
