"""Planned against measured memory of training: each case a real run in a process of its own, its peak above what importing takes.

`--part NAME` measures one case and prints its figures with those of the plan, which is how the constants of
src/ml_playground/models/utils/memory.py are fitted: `memory_table.py --json FILE` keeps every figure of every case.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from operator import itemgetter
from pathlib import Path

from our_training import job_of, random_text
from paired import Program, ProgramError
from shapes import BABY, GPT2, TINY, Shape
from tables import Row, Table, command_line, progress, publish

from ml_playground.planning.memory import MemoryPlan, planned_bytes

HERE = Path(__file__)
MEGABYTE = 1e6
# Steps until every buffer has been made; the run saves at its end.
STEPS = 4
# Runs of a case, which are a hundred megabytes apart where logits are large.
ROUNDS = 3

MODERN = (
    'model.position="rotary"',
    'model.norm="rms_norm"',
    'model.feed_forward="relu2"',
    "model.bias=false",
    "model.qk_norm=true",
)
LSTM, GRU, RNN = (f'{{kind="char_rnn", cell="{cell}", n_layer=3, n_hidden=384}}' for cell in ("lstm", "gru", "rnn"))
MIN_GRU = '{kind="min_gru", n_layer=4, n_embd=192}'
BPE = Shape(layers=4, heads=4, width=192, context=256, rows=16, vocabulary=4096)
SHORT = Shape(layers=8, heads=8, width=512, context=256, rows=4, vocabulary=4096)


@dataclass(frozen=True)
class Case:
    """A shape, and what else is set."""

    shape: Shape
    sets: tuple[str, ...] = ()
    quick: bool = False


CASES: Mapping[str, Case] = {
    "tiny": Case(TINY),
    "baby": Case(BABY, quick=True),
    "baby, float32": Case(BABY, ("runtime.dtype=float32",)),
    "baby, float32, recomputed": Case(BABY, ("runtime.dtype=float32", "runtime.activation_checkpointing=true")),
    "baby, recomputed": Case(BABY, ("runtime.activation_checkpointing=true",)),
    "baby, fused attention": Case(BABY, ("runtime.attention=fused",)),
    "baby, modern, Muon": Case(BABY, (*MODERN, 'optimizer={kind="muon"}'), quick=True),
    "baby, SwiGLU, averaged": Case(BABY, ('model.feed_forward="swiglu"', "train.ema_decay=0.99")),
    "4 layers of 192, 4,096 tokens": Case(BPE, quick=True),
    "8 layers of 512, untied head": Case(SHORT, ("model.tied_head=false",)),
    "8 layers of 512, 8 bits": Case(SHORT, ('optimizer={kind="adamw8bit"}',)),
    "8 layers of 512, GaLore": Case(SHORT, ('optimizer={kind="galore", rank=64}',)),
    "8 layers of 512, schedule-free": Case(
        SHORT, ('optimizer={kind="schedule_free"}', 'schedule={kind="warmup_constant"}')
    ),
    "LSTM": Case(BPE, (f"model={LSTM}",), quick=True),
    "LSTM, float32": Case(BPE, (f"model={LSTM}", "runtime.dtype=float32")),
    "LSTM, float32, recomputed": Case(
        BPE, (f"model={LSTM}", "runtime.dtype=float32", "runtime.activation_checkpointing=true")
    ),
    "GRU": Case(BPE, (f"model={GRU}",)),
    "GRU, float32": Case(BPE, (f"model={GRU}", "runtime.dtype=float32")),
    "RNN": Case(BPE, (f"model={RNN}",)),
    "RNN, float32": Case(BPE, (f"model={RNN}", "runtime.dtype=float32")),
    "minimal GRU": Case(BPE, (f"model={MIN_GRU}",), quick=True),
    "minimal GRU, float32": Case(BPE, (f"model={MIN_GRU}", "runtime.dtype=float32")),
    "minimal GRU, recomputed": Case(BPE, (f"model={MIN_GRU}", "runtime.activation_checkpointing=true")),
    "minimal GRU, Muon": Case(BPE, (f"model={MIN_GRU}", 'optimizer={kind="muon"}')),
    "gpt2": Case(GPT2),
    "gpt2, recomputed, Muon": Case(GPT2, ("runtime.activation_checkpointing=true", 'optimizer={kind="muon"}')),
}


def measure(case: Case) -> None:
    """Train in this process; print the peak above what it held before, and the plan."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["MLP_HOME"] = home
        text = Path(home) / "text.txt"
        random_text(case.shape.vocabulary, text)
        sets = ["runtime.compile=false", *case.sets]
        if not any(word.startswith("runtime.activation_checkpointing") for word in sets):
            sets.append("runtime.activation_checkpointing=false")
        job = job_of(case.shape, text, steps=STEPS, sets=sets)
        from ml_playground.core.deps import Deps
        from ml_playground.core.process_memory import forget_peak, peak_bytes, resident_bytes
        from ml_playground.core.torch_machine import rates_of
        from ml_playground.data_pipeline.preparer import prepare
        from ml_playground.training.engine import run_job

        prepare(job.prepare, Deps())
        # Measured once a machine, and kept: its large buffer is not this run's.
        rates_of("cpu")
        before, began_anew = resident_bytes(), forget_peak()
        if before is None or not began_anew:
            raise SystemExit("this system does not tell the peak of a part of a process; Linux does")
        run_job(job, Deps())
        peak = (peak_bytes() or 0) - before
    plan = planned_bytes(job, {"vocab_size": case.shape.vocabulary, "sequence_tokens": case.shape.context})
    if plan is None:
        raise SystemExit(f"the memory of models of kind {job.model.kind_name} is not planned")
    print(json.dumps({"measured": peak, "planned": plan.total, **asdict(plan)}))


def tables(options: argparse.Namespace) -> Iterator[Table]:
    """One line a case."""
    rows, problems = [], []
    for name, case in CASES.items():
        if options.quick and not case.quick:
            continue
        progress(name)
        try:
            program = Program(name, [str(HERE), "--part", name])
            runs = sorted((program.run() for _ in range(1 if options.quick else ROUNDS)), key=itemgetter("measured"))
        except ProgramError as error:
            problems.append(str(error))
            continue
        found = runs[len(runs) // 2]
        ratio = found["planned"] / found["measured"]
        spread = " to ".join(f"{run['measured'] / MEGABYTE:,.0f}" for run in (runs[0], runs[-1]))
        parts = [found[part] / MEGABYTE for part in PARTS]
        cells = [name, found["measured"] / MEGABYTE, spread, found["planned"] / MEGABYTE, ratio, *parts]
        rows.append(Row(cells, "planned memory", abs(ratio - 1)))
    columns = ["case", "measured, MB", "least to most", "planned, MB", "planned / measured", *PARTS]
    notes = [
        "Resident memory at its peak, above what the process held after its imports; a run of 4 steps, saved at its end.",
        "Of three runs the middle one: they lie a hundred megabytes and more apart where logits are large.",
    ]
    yield Table("memory", "Memory of training", columns, rows, notes, problems)


PARTS = tuple(field.name for field in fields(MemoryPlan))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--part"]:
        measure(CASES[sys.argv[2]])
    else:
        publish(tables, command_line(__doc__))
