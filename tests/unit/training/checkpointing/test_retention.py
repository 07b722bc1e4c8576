"""Which checkpoints may go."""

from ml_playground.training.checkpointing.retention import Kept, to_drop


def test_to_drop_keeps_newest_best_and_multiples() -> None:
    """Each of the three reasons to stay, and nothing else."""
    there = [Kept(10, 5.0), Kept(20, 1.0), Kept(25, 3.0), Kept(30, 2.0), Kept(35, None), Kept(40, 9.0)]
    assert to_drop(there, keep_last=1, keep_best=1, keep_every_steps=10) == {25, 35}
    assert to_drop(there, keep_last=1, keep_best=1, keep_every_steps=None) == {10, 25, 30, 35}
    assert to_drop(there, keep_last=3, keep_best=0, keep_every_steps=None) == {10, 20, 25}


def test_to_drop_equally_good_keeps_the_newer() -> None:
    """Of equal losses the longer-trained model stays."""
    there = [Kept(1, 2.0), Kept(2, 2.0), Kept(3, 5.0)]
    assert to_drop(there, keep_last=1, keep_best=1, keep_every_steps=None) == {1}


def test_to_drop_nan_is_never_best() -> None:
    """A broken evaluation does not push out a real one."""
    there = [Kept(1, float("nan")), Kept(2, 4.0), Kept(3, None)]
    assert to_drop(there, keep_last=1, keep_best=2, keep_every_steps=None) == {1}
