"""Sampling with a cache against without, one sequence of 256 tokens, the 6-layer 384-wide model at random weights."""

import argparse
import json
import time
from pathlib import Path

import torch
from paired import compare

from ml_playground.configuration.models import SampleSettings
from ml_playground.core.values import ModelContext
from ml_playground.models.core.gpt import build
from ml_playground.models.settings import Gpt
from ml_playground.sampling.generate import generate, generate_uncached

HERE = Path(__file__).parent
WAYS = {"cached": generate, "uncached": generate_uncached}


def draw(way: str, rows: int, tokens: int) -> float:
    """Tokens per second of drawing from one prompt token."""
    torch.manual_seed(0)
    context = ModelContext({"vocab_size": 65, "sequence_tokens": 256})
    model = build(Gpt(n_layer=6, n_head=6, n_embd=384), context).eval()
    settings = SampleSettings(max_new_tokens=tokens, temperature=0.8)
    with torch.inference_mode():
        for _ in WAYS[way](model, [[1]] * rows, settings.model_copy(update={"max_new_tokens": 8}), seeds=range(rows)):
            pass
        began = time.perf_counter()
        drawn = sum(len(step) for step in WAYS[way](model, [[1]] * rows, settings, seeds=list(range(rows))))
    return drawn / (time.perf_counter() - began)


def main() -> None:
    """The table, or one measurement of it in a process of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--rows", type=int, default=1)
    options = parser.parse_args()
    if options.way:
        print(json.dumps({"tokens_per_s": draw(options.way, options.rows, 255)}))
        return
    own = str(HERE / "sampling_speed.py")
    print("| what | tokens/s | against | ratio (lowest to highest of the pairs) |")
    print("|---|---|---|---|")
    for name, a, b in (
        ("cached, one sequence, against uncached", ["--way", "cached"], ["--way", "uncached"]),
        ("cached, 16 sequences, against one", ["--way", "cached", "--rows", "16"], ["--way", "cached"]),
    ):
        pair = compare([own, *a], [own, *b], figure="tokens_per_s")
        print(
            f"| {name} | {pair.a:,.0f} | {pair.b:,.0f} | {pair.ratio:.1f} ({pair.lowest:.1f} to {pair.highest:.1f}) |"
        )


main()
