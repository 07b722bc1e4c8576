"""What a recurrent model remembers of the texts that it draws: as much after a million tokens as after one. B rows, t new tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ml_playground.core.error_handling import DataError


@dataclass(slots=True)
class RecurrentState:
    """The state of a generation."""

    layers: list[tuple[Tensor, ...]]
    """For each layer what it carries from token to token, B rows each; zeros before the first token."""
    starts: Tensor | None
    """(B,) padding positions at the left of each row; None: no padding anywhere."""
    padding: int = 0
    """The most of them."""
    seen: int = 0
    """Positions seen so far, padding included."""

    @property
    def rows(self) -> int:
        """B."""
        return self.layers[0][0].shape[0]

    def select(self, rows: Tensor) -> None:
        """Hold these rows, (K,), in this order: beam search goes on from one in several ways, and leaves others."""
        self.layers = [tuple(carried.index_select(0, rows) for carried in layer) for layer in self.layers]
        self.starts = None if self.starts is None else self.starts.index_select(0, rows)

    def admit(self, ids: Tensor) -> Tensor | None:
        """Check that `ids` (B, t) go on with these rows, and count them.

        Returns:
            (B, t, 1) where a token is real; None where all are, which is known without asking the device.

        Raises:
            DataError: Another number of rows, or no token.
        """
        rows, new = ids.shape
        if rows != self.rows:
            raise DataError(f"The state was made for {self.rows} rows, but {rows} rows of ids came; make a new state.")
        if new < 1:
            raise DataError("A step needs at least one token in each row, got none.")
        seen, self.seen = self.seen, self.seen + new
        if self.starts is None or seen >= self.padding:
            return None
        positions = torch.arange(seen, self.seen, device=ids.device)
        return (positions >= self.starts[:, None])[..., None]


def empty_state(
    widths: Sequence[Sequence[tuple[int, ...]]],
    rows: int,
    length: int,
    starts: Tensor | None,
    *,
    dtype: torch.dtype,
    device: torch.device,
) -> RecurrentState:
    """Nothing seen yet; `widths` are the shapes of what each layer carries, without the rows.

    Raises:
        DataError: `starts` do not fit.
    """
    padding = 0 if starts is None else int(starts.max())
    if starts is not None and (starts.shape != (rows,) or int(starts.min()) < 0 or padding >= length):
        raise DataError(
            f"starts must hold one number from 0 to {length - 1} for each of {rows} rows, got {starts.tolist()}."
        )
    layers = [tuple(torch.zeros(rows, *shape, dtype=dtype, device=device) for shape in of_layer) for of_layer in widths]
    return RecurrentState(layers, None if starts is None else starts.to(device), padding)
