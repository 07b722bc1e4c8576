"""A save that is waited for."""

from collections.abc import Sequence

from ml_playground.training.checkpoint_protocols import CheckpointStore, NotSaved, Saved, Snapshot


def save(store: CheckpointStore, snapshot: Snapshot) -> Sequence[Saved]:
    """Save to the end; what became durable since the store was last asked.

    Raises:
        StorageError: The disk did not take it.
    """
    store.begin_save(snapshot)
    outcomes = store.drain()
    for outcome in outcomes:
        if isinstance(outcome, NotSaved):
            raise outcome.error
    return [outcome for outcome in outcomes if isinstance(outcome, Saved)]
