"""The first steps on a device against the same in float32 on the CPU."""

from dataclasses import replace

import pytest
import torch

from ml_playground.commands.parity import REFERENCE, TOLERANCE, Compared, compare, first_losses
from ml_playground.core.torch_machine import devices_here

SAME = Compared("bfloat16 on cpu", (4.0, 3.0), (4.0, 3.001), 0.02)


def test_compare_on_the_cpu_holds_bfloat16_against_float32() -> None:
    """The numbers differ, for something else was computed, but no more than rounding explains."""
    compared = compare(REFERENCE)
    assert compared.way == "bfloat16 on cpu"
    assert 0 < compared.largest <= TOLERANCE["bfloat16"]


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_compare_on_a_gpu_holds_it_against_the_cpu(device: str) -> None:
    """Both precisions, on whichever GPU is there."""
    if device not in devices_here():
        pytest.skip(
            f"NOT TESTED: there is no {device} here; `mlp doctor --parity` makes this check on a machine with it"
        )
    for dtype in ("float32", "bfloat16") if device == "cuda" else ("float32",):
        runtime = REFERENCE.model_copy(update={"device": device, "dtype": dtype, "attention": "fused"})
        compared = compare(runtime)
        assert compared.largest <= compared.tolerance


def test_first_losses_fall_and_depend_on_the_weights() -> None:
    """Steps that learn nothing, or other weights that give the same losses, would hide every fault."""
    losses, others = first_losses(REFERENCE), first_losses(REFERENCE, seed=1)
    assert losses[0] > losses[1] + 0.1
    assert losses[1] > losses[2] + 0.1
    assert max(abs(one - other) for one, other in zip(losses, others, strict=True)) > TOLERANCE["float32"]


def test_first_losses_are_the_same_each_time() -> None:
    """Nothing of the process leaks into the comparison."""
    torch.rand(3)
    assert first_losses(REFERENCE) == first_losses(REFERENCE)


def test_finding_within_the_tolerance_is_fine() -> None:
    """How far apart, and what is allowed."""
    finding = SAME.finding()
    assert finding.level == "ok"
    assert finding.text == (
        "bfloat16 on cpu and float32 on the CPU differ by at most 1.0e-03 nats in 2 steps, 0.02 are allowed"
    )


@pytest.mark.parametrize("wrong", [3.1, float("nan")])
def test_finding_beyond_the_tolerance_is_a_problem_with_a_way_out(wrong: float) -> None:
    """A device that computes nonsense must not train."""
    finding = replace(SAME, losses=(4.0, wrong)).finding()
    assert finding.level == "problem"
    assert finding.text.endswith(
        f"more than the 0.02 that rounding explains: 4.0000, {wrong:.4f} instead of 4.0000, 3.0010"
    )
    assert finding.remedy.startswith("do not train so: ")
