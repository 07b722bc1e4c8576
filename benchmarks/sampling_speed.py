"""Sampling from the same model in turn: ours at each precision, llama.cpp, and transformers with its cache; 16 sequences against one.

All ways live in one process and draw short texts in turn, so that each ratio is between neighbours in time.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from shapes import SHAPES, Shape
from tables import Row, Table, command_line, progress, publish

from ml_playground.configuration.sample_settings import SampleSettings
from ml_playground.core.torch_machine import rates_of
from ml_playground.core.values import ModelContext
from ml_playground.models.core.gpt import GptModel, build
from ml_playground.models.protocols import Decoder
from ml_playground.models.settings import Gpt
from ml_playground.sampling.generate import generate

TOKENS = {"baby": 96, "gpt2": 24}
"""Of a text: long enough that its beginning does not count, short enough that neighbours are near."""
BYTES = {"float32": 4, "bfloat16": 2, "int8": 1}

Draw = Callable[[], int]
"""Draws one batch of texts; gives the number of tokens."""


def model_of(shape: Shape) -> GptModel:
    """GPT-2's layout at random weights."""
    torch.manual_seed(0)
    settings = Gpt(n_layer=shape.layers, n_head=shape.heads, n_embd=shape.width, feed_forward="gelu_tanh")
    return build(settings, ModelContext({"vocab_size": shape.vocabulary, "sequence_tokens": shape.context})).eval()


def ours(decoder: Decoder, tokens: int, rows: int = 1) -> Draw:
    """Texts from a decoder, as `mlp sample` draws them."""
    settings = SampleSettings(max_new_tokens=tokens, temperature=0.8)
    return lambda: sum(len(step) for step in generate(decoder, [[1]] * rows, settings, seeds=range(rows)))


def of_transformers(shape: Shape, tokens: int) -> Mapping[str, Draw]:
    """The library's own generation, with its cache, in both precisions; nothing where it is not installed."""
    if find_spec("transformers") is None:
        return {}
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_layer": shape.layers, "n_head": shape.heads, "n_embd": shape.width, "n_positions": shape.context}
    config = GPT2Config(vocab_size=shape.vocabulary, **sizes, bos_token_id=None, eos_token_id=None)
    ids = torch.tensor([[1]])
    way = {"do_sample": True, "temperature": 0.8, "top_k": 0, "use_cache": True, "pad_token_id": 0}

    def drawn_by(model: GPT2LMHeadModel) -> Draw:
        return lambda: (
            model.generate(ids, max_new_tokens=tokens, attention_mask=torch.ones_like(ids), **way).shape[1] - 1
        )

    float32 = GPT2LMHeadModel(config).eval()
    bfloat16 = GPT2LMHeadModel(config).eval().to(torch.bfloat16)
    return {"transformers bfloat16": drawn_by(bfloat16), "transformers float32": drawn_by(float32)}


def of_llama_cpp(model: GptModel, folder: Path, tokens: int) -> Mapping[str, Draw]:
    """Our engine llama_cpp; nothing where the extra is not installed."""
    if find_spec("xllamacpp") is None:
        return {}
    from ml_playground.export.llama_cpp import build as engine

    return {f"llama_cpp {precision}": ours(engine(model, precision, folder), tokens) for precision in BYTES}


def speeds(draws: Mapping[str, Draw], rounds: int) -> dict[str, list[float]]:
    """Tokens per second of each way, round after round, after a first one that does not count."""
    found: dict[str, list[float]] = {name: [] for name in draws}
    for number in range(rounds + 1):
        for name, draw in draws.items():
            began_s = time.perf_counter()
            drawn = draw()
            if number:
                found[name].append(drawn / (time.perf_counter() - began_s))
        progress(f"round {number} of {rounds}")
    return found


def ratio(a: list[float], b: list[float]) -> float:
    """Median of the ratios of neighbours."""
    return statistics.median(x / y for x, y in zip(a, b, strict=True))


def one_sequence(name: str, rounds: int) -> Table:
    """Every way to draw one text from one shape, against transformers in bfloat16."""
    shape = SHAPES[name]
    model = model_of(shape)
    matrices = sum(p.numel() for key, p in model.named_parameters() if p.dim() > 1 and "position" not in key)
    with tempfile.TemporaryDirectory() as folder:
        draws = {f"torch {p}": ours(model.decoder(p), TOKENS[name]) for p in BYTES}
        draws |= of_llama_cpp(model, Path(folder), TOKENS[name]) | of_transformers(shape, TOKENS[name])
        found = speeds(draws, rounds)
    peer = found.get("transformers bfloat16")
    read_rate = rates_of("cpu").read_bytes_per_s
    best = max(
        (way for way in found if not way.startswith("transformers")), key=lambda way: statistics.median(found[way])
    )
    rows = []
    for way, figures in found.items():
        share = ratio(figures, [1.0] * rounds) * matrices * BYTES[way.split()[1]] / read_rate
        against = None if peer is None else ratio(figures, peer)
        target = "sample against transformers" if way == "torch bfloat16" else ""
        target = "sample with the fast engine against transformers" if way == best else target
        rows.append(Row([way, statistics.median(figures), against, share], target if peer else "", against))
        if way == best and name == "gpt2":
            rows.append(Row(["that, in a share of the memory's rate", None, None, share], LIMIT, share))
    notes = [f"{matrices / 1e6:.1f} M weights are read for a token; the memory gives {read_rate / 1e9:.0f} GB/s."]
    columns = ["way", "tokens/s", "against transformers in bfloat16", "weights read, of the memory's rate"]
    problems = [] if peer else ["transformers is not installed (extra hf)"]
    return Table(f"sampling_{name}", f"One sequence, {name}, tokens/s", columns, rows, notes, problems)


LIMIT = "sample in a share of the memory limit"


def many_sequences(name: str, rounds: int, rows_at_once: int = 16) -> Table:
    """A batch against one sequence."""
    model = model_of(SHAPES[name])
    decoders = {precision: model.decoder(precision) for precision in BYTES}
    draws: dict[str, Draw] = {}
    for precision, decoder in decoders.items():
        draws |= {f"{precision} {rows}": ours(decoder, TOKENS[name], rows) for rows in (1, rows_at_once)}
    found = speeds(draws, rounds)
    rows = []
    for precision in BYTES:
        one, many = found[f"{precision} 1"], found[f"{precision} {rows_at_once}"]
        value = ratio(many, one)
        target = "sample 16 sequences against one" if precision != "int8" else ""
        rows.append(Row([f"torch {precision}", statistics.median(one), statistics.median(many), value], target, value))
    columns = ["way", "one, tokens/s", f"{rows_at_once} at once, tokens/s", "ratio"]
    return Table(f"sampling_batch_{name}", f"{rows_at_once} sequences against one, {name}", columns, rows)


def tables(options: argparse.Namespace) -> Iterator[Table]:
    """All tables; the small shape alone when it must be quick."""
    for name in ["baby"] if options.quick else ["baby", "gpt2"]:
        rounds = 3 if options.quick else 7
        yield one_sequence(name, rounds)
        yield many_sequences(name, rounds if name == "baby" else 3)


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    publish(tables, command_line(__doc__))
