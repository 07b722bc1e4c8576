"""What training will take: laws of the plan, and the constants it shares with what it plans."""

import pytest

from ml_playground.configuration.families import OPTIMIZERS
from ml_playground.configuration.loading import load
from ml_playground.core.registry import load_object
from ml_playground.planning import memory
from ml_playground.planning.memory import LARGEST_LOGITS, MOST_STACKED, MemoryPlan, planned_bytes

FACTS = {"vocab_size": 65, "sequence_tokens": 64}


def plan(*sets: str, vocab_size: int = 65) -> MemoryPlan:
    """The plan of the demo's job with some settings changed, all decided."""
    decided = ["runtime.dtype=bfloat16", "runtime.attention=math", "runtime.activation_checkpointing=false"]
    decided.append("runtime.allocator=system")
    job = load("python_stdlib", sets=["data.sequence_tokens=64", "data.micro_batch_rows=12", *decided, *sets]).job
    found = planned_bytes(job, {"vocab_size": vocab_size, "sequence_tokens": 64})
    assert found is not None
    return found


def test_plan_knows_every_optimizer() -> None:
    """A new kind says what it remembers."""
    assert memory.OPTIMIZERS.keys() == OPTIMIZERS.keys()


def test_plan_computes_as_many_logits_as_the_objective() -> None:
    """The two packages do not know each other; the number must be one."""
    assert load_object("ml_playground.objectives.next_token:LARGEST_LOGITS") == LARGEST_LOGITS


def test_plan_twice_the_rows_doubles_what_tokens_take_and_nothing_else() -> None:
    """Weights do not depend on the batch."""
    once, twice = plan(), plan("data.micro_batch_rows=24")
    of_tokens = once.activations + once.logits + once.working
    assert (twice.activations, twice.logits) == (2 * once.activations, 2 * once.logits)
    assert twice.total - once.total == of_tokens


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ("runtime.attention=fused", "runtime.attention=math"),
        ("train.ema_decay=0.0", "train.ema_decay=0.9"),
        ('optimizer={kind="muon"}', 'optimizer={kind="adamw"}'),
        ('optimizer={kind="adamw8bit"}', 'optimizer={kind="adamw"}'),
        ('optimizer={kind="galore", rank=16}', 'optimizer={kind="galore", rank=32}'),
    ],
)
def test_plan_what_spares_memory_is_planned_smaller(less: str, more: str) -> None:
    """Each of these settings exists because of it."""
    assert plan(less).total < plan(more).total


def test_plan_recomputation_spares_what_blocks_keep() -> None:
    """In a deep model; in a shallow one the code that it needs outweighs that."""
    deep = ("model.n_layer=48", "data.micro_batch_rows=96")
    less, more = plan("runtime.activation_checkpointing=true", *deep), plan(*deep)
    assert less.activations < more.activations / 5
    assert less.total < more.total
    assert plan("runtime.activation_checkpointing=true").program > plan().program


def test_plan_update_of_large_matrices_counts_where_batches_are_small() -> None:
    """Muon works on all matrices at once when the activations are gone; the larger of the two counts."""
    wide = ("model.n_embd=1024", "data.micro_batch_rows=1", "data.sequence_tokens=64")
    assert plan('optimizer={kind="muon"}', *wide).working > 2 * plan('optimizer={kind="adamw"}', *wide).working
    many = ("data.micro_batch_rows=512",)
    assert plan('optimizer={kind="muon"}', *many).working == plan('optimizer={kind="adamw"}', *many).working


def test_plan_stacks_as_much_at_once_as_muon() -> None:
    """The two packages do not know each other; the number must be one."""
    assert load_object("ml_playground.training.optim.muon:MOST_STACKED") == MOST_STACKED


def test_plan_preview_packs_the_weights_where_nothing_else_takes_as_much() -> None:
    """With few tokens and many weights a text on the way is what takes most, twice where averaged weights stand in for the others."""
    wide = ("model.n_embd=1024", "data.micro_batch_rows=1", 'optimizer={kind="adamw"}')
    drawn, averaged = plan(*wide), plan(*wide, "train.ema_decay=0.9")
    assert drawn.working + drawn.activations + drawn.logits == drawn.weights
    assert averaged.working + averaged.activations + averaged.logits == 2 * averaged.weights


def test_plan_large_vocabulary_logits_are_bounded() -> None:
    """The objective works through them in parts."""
    assert plan("data.micro_batch_rows=500", vocab_size=50_304).logits == 16 * LARGEST_LOGITS


def test_plan_snapshot_lies_where_activations_were_if_freed_memory_is_kept() -> None:
    """Only what does not fit there counts; or the weights, from which the flight check of all but short runs goes back."""
    short = ("runtime.allocator=retain", "train.max_steps=4", "schedule.warmup_steps=1", 'optimizer={kind="adamw"}')
    assert plan("data.micro_batch_rows=512", *short).snapshot == 0
    few = plan("model.n_embd=1024", "data.micro_batch_rows=1", *short)
    assert few.snapshot + few.activations + few.logits + few.working == few.weights + few.optimizer
    tried = plan("data.micro_batch_rows=512", *short, "train.max_steps=400")
    assert tried.snapshot == tried.weights
    assert plan("data.micro_batch_rows=512", *short, "train.max_steps=400", "runtime.flight_check=false").snapshot == 0


def test_plan_knows_which_runs_are_tried_before() -> None:
    """The two packages do not know each other; the number must be one."""
    assert load_object("ml_playground.training.flight:LEAST_STEPS") == memory.LEAST_TRIED_STEPS


def test_plan_on_the_device_leaves_out_the_snapshot() -> None:
    """A checkpoint is copied to the host."""
    found = plan()
    assert found.device == found.total - found.snapshot
    adamw = plan('optimizer={kind="adamw"}')
    assert adamw.snapshot == adamw.weights + adamw.optimizer
    assert found.weights < found.snapshot < adamw.snapshot
