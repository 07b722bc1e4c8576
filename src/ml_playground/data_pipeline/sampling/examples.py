"""What cutting and packing ask of the chats of a split. Free of torch. N tokens, R chats."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json


class Examples(Protocol):
    """The chats of a split, one after the other."""

    tokens: NDArray[np.uint16 | np.uint32]
    """(N,) ids."""
    token_weights: NDArray[np.float32]
    """(N,) of each token as a target; 0: it is read, and never one."""
    starts: NDArray[np.int64]
    """(R,) where each chat begins."""
    lengths: NDArray[np.int64]
    """(R,) tokens of each."""

    def check(self) -> None:
        """Refuse to go on where they are no longer what they were.

        Raises:
            DataError: A file was written into.
        """
        ...


def names_of(folder: Path, split: str, rows: Sequence[int]) -> list[str]:
    """What the source called these chats: file and line, where it has lines."""
    wanted, found = set(rows), dict[int, str]()
    with (folder / f"{split}.chats").open("rb") as lines:
        for number, line in enumerate(lines):
            if number in wanted:
                found[number] = str(cast(dict[str, Any], from_json(line))["id"])
                if len(found) == len(wanted):
                    break
    return [found[row] for row in rows]
