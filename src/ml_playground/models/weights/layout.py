"""How a Hugging Face architecture is described: its config.json and its names, in terms of ours."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ml_playground.core.error_handling import ConfigError
from ml_playground.models.settings import Gpt


class Piece(NamedTuple):
    """One of our tensors and the tensors there that hold it, one below the other."""

    ours: str
    theirs: tuple[str, ...]
    shape: tuple[int, ...]
    """Of ours: (out, in) for a matrix, (C,) for a vector."""
    rows: tuple[int, ...]
    """How many rows each of theirs has."""
    transposed: bool = False
    """Theirs is (in, out), as GPT-2 has it."""

    def shape_there(self, number: int) -> tuple[int, ...]:
        """Shape of their tensor `number`."""
        shape = (self.rows[number], *self.shape[1:])
        return shape[::-1] if self.transposed else shape


class Layout(NamedTuple):
    """How one architecture says what ours says."""

    architecture: str
    """The class of the transformers library."""
    unsupported: Callable[[Mapping[str, Any]], list[str]]
    """What in a config.json has no counterpart here, in words."""
    settings: Callable[[Mapping[str, Any]], Gpt]
    """The settings that a config.json implies."""
    missing: Callable[[Gpt], list[str]]
    """What in our settings has no counterpart there, in words."""
    config: Callable[[Gpt], dict[str, Any]]
    """The config.json of settings whose vocab_size and block_size are stated."""
    pieces: Callable[[Gpt], Iterator[Piece]]
    """Every tensor."""
    ignored: tuple[str, ...]
    """Ends of names of tensors there that hold no weights."""


def stated(settings: Gpt) -> tuple[int, int]:
    """Vocabulary and positions of settings that state both."""
    if settings.vocab_size is None or settings.block_size is None:
        raise ValueError("vocab_size and block_size must be filled in before weights are named")
    return settings.vocab_size, settings.block_size


def refused(config: Mapping[str, Any], allowed: Mapping[str, tuple[Any, ...]]) -> list[str]:
    """Values of a config.json outside the allowed ones; the first allowed one is what a missing key means."""
    return [
        f"{key} = {config[key]!r} (supported: {' or '.join(repr(value) for value in values)})"
        for key, values in allowed.items()
        if key in config and config[key] not in values
    ]


def demanded(settings: Gpt, allowed: Mapping[str, tuple[Any, ...]]) -> list[str]:
    """Settings outside what an architecture can say."""
    return [
        f"model.{name} = {getattr(settings, name)!r} (it has {' or '.join(repr(value) for value in values)})"
        for name, values in allowed.items()
        if getattr(settings, name) not in values
    ]


def vectors(ours: str, theirs: tuple[str, ...], rows: tuple[int, ...]) -> Piece:
    """A vector, from one of theirs or several."""
    return Piece(ours, theirs, (sum(rows),), rows)


def matrix(ours: str, theirs: tuple[str, ...], rows: tuple[int, ...], columns: int, *, transposed: bool) -> Piece:
    """A matrix, from one of theirs or several."""
    return Piece(ours, theirs, (sum(rows), columns), rows, transposed)


def linear(
    ours: str, theirs: tuple[str, ...], rows: tuple[int, ...], columns: int, *, bias: bool, transposed: bool = False
) -> Iterator[Piece]:
    """A linear layer's matrix and, if it has one, its bias."""
    names = tuple(f"{name}.weight" for name in theirs)
    yield matrix(f"{ours}.weight", names, rows, columns, transposed=transposed)
    if bias:
        yield vectors(f"{ours}.bias", tuple(f"{name}.bias" for name in theirs), rows)


def first_that_holds(missing: Mapping[str, Sequence[str]], *, refusal: str, remedy: str) -> str:
    """The first architecture that lacks nothing.

    Args:
        missing: What each lacks of a model, in words.
        refusal: What is said where all lack something; what each lacks follows.
        remedy: What to do then.

    Raises:
        ConfigError: None holds the model; says why for each.
    """
    for name, problems in missing.items():
        if not problems:
            return name
    reasons = "".join(f"\n  {name}: {'; '.join(problems)}" for name, problems in missing.items())
    raise ConfigError(f"{refusal}:{reasons}\n{remedy}")
