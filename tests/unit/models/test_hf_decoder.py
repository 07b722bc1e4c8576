"""Drawing from models of the transformers library: with a cache as without, in a batch as alone, and as the library draws."""

from pathlib import Path

import pytest
import torch

from ml_playground.configuration.sample_settings import SampleSettings
from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.core.values import ModelContext
from ml_playground.models.core.hf_causal_lm import HfCausalLmModel, build
from ml_playground.models.layers.packed_linear import Precision
from ml_playground.sampling.generate import generate, generate_uncached
from tests.fakes.hugging_face_folders import CONTEXT, MODELS, PADDED, VOCAB, model_of, saved, settings_of

PROMPTS = [[5, 9, 200, 7], [3], [250, 251, 8, 8, 100, 42, 17, 60, 61]]
DIVERGENCE: dict[Precision, float] = {"float32": 1e-6, "bfloat16": 2e-3, "int8": 2e-2}
"""Nats between the distributions of model and decoder, at most."""


def loaded(folder: Path, attention: str = "math", known_ids: int = VOCAB) -> HfCausalLmModel:
    """The model of a folder, ready to be drawn from."""
    facts = {"vocab_size": known_ids}
    return build(settings_of(folder), ModelContext(facts, attention="fused" if attention == "fused" else "math")).eval()


def drawn(model: HfCausalLmModel, settings: SampleSettings, *, cached: bool = True) -> list[list[int]]:
    """What each of PROMPTS is gone on with."""
    seeds = [11, 12, 13]
    if cached:
        steps = generate(model.decoder("float32"), PROMPTS, settings, seeds=seeds)
    else:
        steps = generate_uncached(model, PROMPTS, settings, seeds=seeds)
    rows: list[list[int]] = [[] for _ in PROMPTS]
    for tokens in steps:
        for token in tokens:
            rows[token.row].append(token.id)
    return rows


@pytest.mark.parametrize("attention", ["math", "fused"])
@pytest.mark.parametrize("kind", MODELS)
def test_texts_with_a_cache_in_a_batch_are_those_without_alone(kind: str, attention: str, tmp_path: Path) -> None:
    """Prompts of unequal length, beyond the windows of those that have some."""
    saved(kind, tmp_path)
    model = loaded(tmp_path, attention, known_ids=PADDED if kind == "llama" else VOCAB)
    settings = SampleSettings(max_new_tokens=6, temperature=0.9)
    assert drawn(model, settings) == drawn(model, settings, cached=False)


def test_texts_go_on_beyond_the_context_as_without_a_cache(tmp_path: Path) -> None:
    """The window begins anew, and its cache with it."""
    saved("gpt2", tmp_path)
    model, settings = loaded(tmp_path), SampleSettings(max_new_tokens=9, temperature=0.9)
    long = [[5, 9, 200, 7] * 7, [3] * (CONTEXT + 2)]
    found = [generate(model.decoder("float32"), long, settings, seeds=[1, 2])]
    found.append(generate_uncached(model, long, settings, seeds=[1, 2]))
    cached, plain = (
        {row: [t.id for step in steps for t in step if t.row == row] for row in (0, 1)} for steps in map(list, found)
    )
    assert cached == plain


@pytest.mark.parametrize("kind", MODELS)
def test_greedy_texts_are_what_the_library_generates(kind: str, tmp_path: Path) -> None:
    """Token by token, each prompt alone."""
    theirs = saved(kind, tmp_path)
    settings = SampleSettings(max_new_tokens=8, temperature=0)
    expected = [
        theirs.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=8,
            eos_token_id=None,
            pad_token_id=0,
        )[0, len(prompt) :].tolist()
        for prompt in PROMPTS
    ]
    assert drawn(loaded(tmp_path, known_ids=PADDED if kind == "llama" else VOCAB), settings) == expected


@pytest.mark.parametrize("precision", DIVERGENCE)
@pytest.mark.parametrize("kind", MODELS)
def test_decoder_at_each_precision_predicts_what_the_model_predicts(
    kind: str, precision: Precision, tmp_path: Path
) -> None:
    """A lower precision may cost this much and no more; a cache changes nothing."""
    model_of(kind).save_pretrained(tmp_path)
    model = loaded(tmp_path)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    ids = torch.randint(VOCAB, (2, 12), generator=torch.Generator().manual_seed(7))
    decoder = model.decoder(precision)
    with torch.no_grad():
        expected = model(ids).log_softmax(-1)
        found = decoder.logits(ids).float().log_softmax(-1)
    assert float((expected.exp() * (expected - found)).sum(-1).mean()) < DIVERGENCE[precision]
    state = decoder.new_state(2, 12)
    steps = torch.stack([decoder.step(part, state) for part in torch.split(ids, [5, 1, 6], dim=1)], dim=1)
    torch.testing.assert_close(steps[..., :VOCAB], decoder.logits(ids)[:, [4, 5, 11], :VOCAB], rtol=0.05, atol=0.05)


def test_ids_that_only_pad_the_vocabulary_are_never_drawn(tmp_path: Path) -> None:
    """They stand for no text, so a tokenizer could not write them down."""
    theirs = saved("llama", tmp_path)
    with torch.no_grad():
        # Large rows of either sign: some of them are likelier than all others, after any token.
        theirs.lm_head.weight[VOCAB:] *= 100
    theirs.save_pretrained(tmp_path)
    model = loaded(tmp_path)
    settings = SampleSettings(max_new_tokens=20, temperature=1.0)
    assert any(id_ >= VOCAB for row in drawn(model, settings, cached=False) for id_ in row)
    assert all(id_ < VOCAB for row in drawn(model, settings) for id_ in row)


def test_decoder_shares_what_it_does_not_pack(tmp_path: Path) -> None:
    """The tables of a large vocabulary are there once."""
    saved("qwen3", tmp_path)
    model = loaded(tmp_path)
    decoder = model.decoder("bfloat16")
    assert decoder._network.model.embed_tokens.weight is model.network.model.embed_tokens.weight
    assert decoder._network is not model.network
    assert type(model.network.lm_head) is torch.nn.Linear


@pytest.mark.parametrize(
    ("rows", "length", "starts", "message"),
    [
        (1, CONTEXT + 1, None, f"reads at most {CONTEXT} tokens, but {CONTEXT + 1} were asked for"),
        (2, 8, [0, 8], r"starts must hold one number from 0 to 7 for each of 2 rows, got \[0, 8\]"),
        (2, 8, [1], "starts must hold one number"),
    ],
)
def test_state_that_cannot_be_is_refused(
    rows: int, length: int, starts: list[int] | None, message: str, tmp_path: Path
) -> None:
    """As our own models refuse it."""
    saved("gpt2", tmp_path)
    with pytest.raises(DataError, match=message):
        loaded(tmp_path).decoder("float32").new_state(rows, length, None if starts is None else torch.tensor(starts))


def test_ids_that_do_not_fit_the_state_are_refused(tmp_path: Path) -> None:
    """Other rows, or more than was asked for."""
    saved("gpt2", tmp_path)
    decoder = loaded(tmp_path).decoder("float32")
    state = decoder.new_state(2, 4)
    decoder.step(torch.ones(2, 3, dtype=torch.long), state)
    with pytest.raises(DataError, match="made for 2 rows, but 1 rows of ids came"):
        decoder.step(torch.ones(1, 1, dtype=torch.long), state)
    with pytest.raises(DataError, match="made for 4 positions and has seen 3; 2 more cannot be read"):
        decoder.step(torch.ones(2, 2, dtype=torch.long), state)


def test_int8_elsewhere_than_on_a_cpu_is_refused(tmp_path: Path) -> None:
    """The operator exists for CPUs only."""
    saved("gpt2", tmp_path)
    with pytest.raises(ConfigError, match="works on the CPU only, but the model is on meta"):
        loaded(tmp_path).to("meta").decoder("int8")
