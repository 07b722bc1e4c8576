"""What a model offers, and what draws from it. B rows, T tokens, C width, V vocabulary."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor

from ml_playground.models.layers.packed_linear import Precision

NOTHING_MEASURED: Mapping[str, Tensor] = {}


class States(NamedTuple):
    """What a model makes of ids before its head: for the loss, and for what is reported beside it."""

    hidden: Tensor
    """(B, T, C), as `NextTokenModel.hidden` gives it."""
    auxiliary: Tensor | None = None
    """(B,) nats that training adds to each target of a row; of the row's own ids alone, so that no split of a batch changes it."""
    measures: Mapping[str, Tensor] = NOTHING_MEASURED
    """Name -> (B,): what an evaluation reports beside the loss, as the mean over rows."""


class Layout(NamedTuple):
    """Where the tokens of rows belong that hold several documents: attention and positions restart with each of them."""

    positions: Tensor
    """(B, T) int64: in its document, from 0."""
    documents: Tensor
    """(B, T) int64: which one, growing along the row."""


class NextTokenModel(Protocol):
    """A torch.nn.Module that gives, for each position, logits of the next token from it and what came before.

    One that adds to its loss, or has something to report, offers `states(ids) -> States` beside `hidden`. One whose settings say
    `isolates_documents` takes a `Layout` as the second argument of `hidden`, and of `states` if it has that. Where each document then
    costs what its own tokens cost, and gives the same whatever else is in its row, it offers `longest_alone`: the most tokens of one
    for which that holds (`objectives.needed`).
    """

    @property
    def vocab_size(self) -> int:
        """V."""
        ...

    @property
    def max_context(self) -> int | None:
        """Longest context in tokens; None: unbounded."""
        ...

    def __call__(self, ids: Tensor) -> Tensor:
        """Logits (B, T, V) of ids (B, T)."""
        ...

    def hidden(self, ids: Tensor) -> Tensor:
        """Final normalised states (B, T, C), so that a loss may apply `head` in chunks."""
        ...

    def head(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of states (..., C)."""
        ...

    def decoder(self, precision: Precision) -> "Decoder":
        """A snapshot of this model for drawing tokens, its weights at a precision.

        Raises:
            ConfigError: The precision does not work where the model is.
        """
        ...


class Classifier(Protocol):
    """A torch.nn.Module that gives, for each image, logits of the classes it may belong to. K classes."""

    @property
    def classes(self) -> int:
        """K."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, channels, height, width)."""
        ...


class Decoder(Protocol):
    """Draws on a cache: gives logits of the next token of rows whose former tokens it has seen."""

    @property
    def vocab_size(self) -> int:
        """V."""
        ...

    @property
    def max_context(self) -> int | None:
        """Longest context in tokens; None: unbounded."""
        ...

    @property
    def device(self) -> torch.device:
        """Where ids are taken and logits are given."""
        ...

    def new_state(self, rows: int, length: int, starts: Tensor | None = None) -> Any:
        """An empty cache for `rows` rows of at most `length` positions.

        Args:
            rows: B.
            length: Positions to reserve, padding included.
            starts: (B,) number of padding positions at the left of each row, for prompts of unequal length; none: no padding.
                Padding is never attended to, and positions count from the first real token.
        """
        ...

    def step(self, ids: Tensor, state: Any) -> Tensor:
        """Logits (B, V) after the last of `ids` (B, t), which follow what `state` has seen; `state` advances in place."""
        ...

    def logits(self, ids: Tensor) -> Tensor:
        """Logits (B, T, V) of ids (B, T), without a cache: what a precision costs is measured with it."""
        ...


class LogitsProcessor(Protocol):
    """Changes what is likely next, by what a row has drawn so far and nothing else: rows are alone, and nothing is remembered."""

    @property
    def label(self) -> str:
        """Its name in statistics."""
        ...

    def __call__(self, logits: Tensor, drawn: Sequence[Sequence[int]]) -> Tensor:
        """Logits (R, V) of R rows whose drawn ids, without the prompt, are given -> (R, V); never NaN where the input is none."""
        ...

    def statistics(self, drawn: Sequence[int]) -> Mapping[str, Any]:
        """What it did to a row that has drawn these ids, as JSON values."""
        ...


def states_of(model: NextTokenModel, ids: Tensor, layout: Layout | None = None) -> States:
    """The states of ids (B, T), with what the model adds to its loss if it does."""
    more = () if layout is None else (layout,)
    offered: Any = getattr(model, "states", None)
    if offered is not None:
        return cast(States, offered(ids, *more))
    hidden: Any = model.hidden
    return States(hidden(ids, *more))
