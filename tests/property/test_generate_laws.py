"""Laws of generation: cached equals uncached, a batch equals its rows alone, a seed means one text."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_playground.configuration.sample_settings import SampleSettings
from ml_playground.sampling.generate import generate, generate_uncached, window_start
from tests.fakes.forbids_last import ForbidsAll, ForbidsLast
from tests.fakes.history_model import HistoryModel

VOCABULARY = 7


def drawn(how: Callable[..., Any], model: Any, prompts: Sequence[Sequence[int]], **options: Any) -> list[list[int]]:
    """All tokens of each row."""
    rows: list[list[int]] = [[] for _ in prompts]
    for tokens in how(model, prompts, **options):
        for token in tokens:
            rows[token.row].append(token.id)
    return rows


prompts_of_any_length = st.lists(
    st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=14), min_size=1, max_size=4
)
ways_to_draw = st.builds(
    SampleSettings,
    max_new_tokens=st.integers(1, 18),
    temperature=st.sampled_from([0.0, 0.7, 1.5]),
    top_k=st.sampled_from([0, 3]),
    top_p=st.sampled_from([0.8, 1.0]),
    repetition_penalty=st.sampled_from([1.0, 1.4]),
    no_repeat_ngram=st.sampled_from([0, 1, 3]),
)
contexts = st.sampled_from([None, 1, 2, 5, 8, 16])
all_processors = st.sampled_from([(), (ForbidsLast(),), (ForbidsLast(3.0), ForbidsAll())])


@settings(max_examples=40)
@given(prompts_of_any_length, ways_to_draw, contexts, all_processors)
def test_generate_any_prompts_equals_uncached(
    prompts: list[list[int]], way: SampleSettings, max_context: int | None, processors: tuple[Any, ...]
) -> None:
    """The cache changes nothing, also where the context overflows, at different moments for different rows."""
    model = HistoryModel(VOCABULARY, max_context).eval()
    options: dict[str, Any] = {
        "settings": way,
        "seeds": range(len(prompts)),
        "stop_ids": {0},
        "processors": processors,
    }
    assert drawn(generate, model, prompts, **options) == drawn(generate_uncached, model, prompts, **options)


@settings(max_examples=40)
@given(prompts_of_any_length, ways_to_draw, contexts, all_processors)
def test_generate_batch_of_unequal_prompts_equals_each_alone(
    prompts: list[list[int]], way: SampleSettings, max_context: int | None, processors: tuple[Any, ...]
) -> None:
    """What else is in the batch changes no row: padding is invisible, random numbers and what processors see are a row's own."""
    model = HistoryModel(VOCABULARY, max_context).eval()
    together = drawn(generate, model, prompts, settings=way, seeds=range(len(prompts)), processors=processors)
    alone = [
        drawn(generate, model, [prompt], settings=way, seeds=[row], processors=processors)[0]
        for row, prompt in enumerate(prompts)
    ]
    assert together == alone


@given(st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=12), st.integers(1, 30), contexts)
def test_generate_stopped_and_gone_on_greedily_equals_one_go(
    prompt: list[int], cut: int, max_context: int | None
) -> None:
    """The window depends on the number of tokens alone, so a text can be gone on from at any point."""
    model = HistoryModel(VOCABULARY, max_context).eval()

    def greedy(ids: list[int], length: int) -> list[int]:
        way = SampleSettings(temperature=0.0, max_new_tokens=length)
        return drawn(generate, model, [ids], settings=way, seeds=[0])[0]

    first = greedy(prompt, cut)
    assert greedy(prompt, cut + 5) == first + greedy(prompt + first, 5)


@given(st.integers(1, 30), st.integers(31, 400))
def test_generate_longer_keeps_the_beginning(shorter: int, longer: int) -> None:
    """Asking for more tokens leaves the earlier ones as they were."""
    model = HistoryModel(VOCABULARY, 64).eval()
    short = drawn(generate, model, [[1]], settings=SampleSettings(max_new_tokens=shorter), seeds=[5])[0]
    assert (
        drawn(generate, model, [[1]], settings=SampleSettings(max_new_tokens=longer % 80 + 31), seeds=[5])[0][:shorter]
        == short
    )


@given(st.integers(1, 5000), st.integers(1, 64))
def test_window_start_any_length_keeps_half_to_all_of_the_context(tokens: int, max_context: int) -> None:
    """The window is never longer than the context, never shorter than half of it, and moves only when it is full."""
    start = window_start(tokens, max_context)
    assert tokens - start <= max_context
    assert tokens - start >= min(tokens, max(1, max_context // 2))
    following = window_start(tokens + 1, max_context)
    assert following == start or tokens - start == max_context


@pytest.mark.parametrize("tokens", [1, 10**6])
def test_window_start_unbounded_model_reads_everything(tokens: int) -> None:
    """A model without a longest context sees the whole row."""
    assert window_start(tokens, None) == 0


@settings(max_examples=40)
@given(prompts_of_any_length, st.integers(1, 4), st.floats(0.0, 2.0), contexts)
def test_generate_no_repeat_ngram_repeats_none_while_another_token_is_left(
    prompts: list[list[int]], length: int, temperature: float, max_context: int | None
) -> None:
    """A run of n tokens comes again only where every other token would have made one too."""
    model = HistoryModel(VOCABULARY, max_context).eval()
    way = SampleSettings(no_repeat_ngram=length, temperature=temperature, max_new_tokens=12)
    for prompt, new in zip(
        prompts, drawn(generate, model, prompts, settings=way, seeds=range(len(prompts))), strict=True
    ):
        ids = [*prompt, *new]
        for end in range(max(len(prompt), length - 1), len(ids)):
            before = {tuple(ids[at : at + length]) for at in range(end - length + 1)}
            head = tuple(ids[end - length + 1 : end])
            if (*head, ids[end]) in before:
                assert all((*head, other) in before for other in range(VOCABULARY))
