"""The learner as it was before the trial flight, and what keeping it takes."""

from pathlib import Path

import pytest
import torch

from ml_playground.configuration.models import CheckpointingSettings
from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import CheckpointError
from ml_playground.core.values import Progress
from ml_playground.training.checkpoint_protocols import Snapshot
from ml_playground.training.checkpointing.directory_store import DirectoryStore
from ml_playground.training.checkpointing.snapshot_buffer import SnapshotBuffer
from ml_playground.training.flight_kept import Kept, kept_of, refuse_differences
from tests.fakes.saving import save

NUMBERS = 1000


def state() -> dict[str, dict[str, torch.Tensor]]:
    """Of a learner before its first step; one moment is zero but for its sign."""
    return {
        "model": {"w": torch.arange(float(NUMBERS)), "unused": torch.empty(0)},
        "optimizer": {
            "exp_avg/w": torch.zeros(NUMBERS),
            "exp_avg_sq/w": torch.zeros(10, NUMBERS).T,
            "sign": -torch.zeros(NUMBERS),
            "step/w": torch.zeros(()),
            # A single block of weights has a single scale (adamw8bit).
            "scale/w": torch.zeros(1),
        },
    }


def kept(buffer: SnapshotBuffer, **arguments: DirectoryStore) -> Kept:
    """The state, then changed; as it was is what is kept."""
    now = state()
    store = arguments.get("store")
    found = kept_of(now, buffer, None if store is None else store.latest(), Deps().clock)
    assert found is not None
    for tensors in now.values():
        for tensor in tensors.values():
            tensor.fill_(7.0)
    return found


@pytest.mark.parametrize("among_freed", [False, True])
def test_state_of_a_first_start_is_kept_to_the_bit_without_its_zeros(among_freed: bool) -> None:
    """Minus zero is not zero; what is zero all over takes the memory of one number."""
    found = kept(SnapshotBuffer(among_freed=among_freed))
    refuse_differences("kept", state(), found.state())
    optimizer = found.state()["optimizer"]
    sizes = {name: tensor.untyped_storage().nbytes() for name, tensor in optimizer.items()}
    assert sizes["exp_avg/w"] == sizes["exp_avg_sq/w"] == 4
    assert sizes["sign"] >= 4 * NUMBERS


def test_state_from_a_checkpoint_is_read_again_each_time(tmp_path: Path) -> None:
    """Nothing of it stays in memory; averages that a branch has left behind are not asked for."""
    store = DirectoryStore(tmp_path, CheckpointingSettings())
    saved = state() | {"ema": {"w": torch.ones(NUMBERS)}}
    save(store, Snapshot(Progress(1, 9, 0.0, 0.0, 0.0), saved, hooks={}, config="{}", data_fingerprint=""))
    found = kept(SnapshotBuffer(among_freed=True), store=store)
    refuse_differences("kept", state(), found.state())
    first, second = found.state()["model"]["w"], found.state()["model"]["w"]
    assert first.data_ptr() != second.data_ptr()


def test_state_that_no_memory_is_left_for_is_not_kept() -> None:
    """The run is then not tried before."""
    assert kept_of(state(), SnapshotBuffer(most_bytes=10), None, Deps().clock) is None


def test_states_that_differ_are_refused_by_name() -> None:
    """Three of them are enough."""
    other = state()
    for name in other["optimizer"]:
        other["optimizer"][name] = other["optimizer"][name] + 1
    with pytest.raises(
        CheckpointError, match="put back is not what it was: optimizer/exp_avg/w, .* and 2 more. A run could not go on"
    ):
        refuse_differences("put back", state(), other)
