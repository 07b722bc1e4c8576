"""Is what was written what was trained? Ids, logits, greedy text and its end, compared with a folder that was opened again.

T tokens of a row, V vocabulary.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from torch import Tensor

COMPARED_TOKENS = 256
"""Of each row, whose logits are compared."""
NEW_TOKENS = 32
"""That are drawn greedily after each prompt."""
MOST_APART = 1e-4
"""Difference of two logits that the order of sums in float32 explains, as a share of the largest logit, or of one."""

Ids = Sequence[int]


@dataclass(frozen=True, slots=True)
class Probe:
    """A row that both sides read."""

    name: str
    """Where it comes from."""
    ids: Ids
    """As training has them."""
    prompt: int
    """How many of them a greedy text goes on from."""
    text: str | None = None
    """What they were made of, where that is a text."""
    messages: Sequence[Mapping[str, Any]] = ()
    """Where it is a chat: the turns that the prompt was made of, before the answer."""
    tools: Any = None
    """Which the chat's template is given."""

    @property
    def encoded(self) -> Ids:
        """What the folder's tokenizer is to give: of a chat what an answer is drawn after, as its users do."""
        return self.ids[: self.prompt] if self.messages else self.ids


class Reopened(Protocol):
    """A folder, opened by those who will use it."""

    def ids_of(self, probe: Probe) -> Ids | None:
        """Ids of a probe's text or chat; none: there is no tokenizer."""
        ...

    def logits(self, ids: Ids) -> Tensor:
        """(T, V) in float32."""
        ...

    def greedy(self, prompt: Ids, new_tokens: int) -> Ids:
        """What follows a prompt, a mark that ended it included."""
        ...

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end a text."""
        ...


class Trained(Protocol):
    """The model of a checkpoint, as it is run here."""

    @property
    def max_context(self) -> int | None:
        """Tokens that it reads at once; none: any number."""
        ...

    def logits(self, ids: Ids) -> Tensor:
        """(T, V) in float32."""
        ...

    def greedy(self, prompt: Ids, new_tokens: int) -> Ids:
        """What follows a prompt, a mark that ended it left out."""
        ...

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end a text."""
        ...


@dataclass(frozen=True, slots=True)
class Parity:
    """What was compared, and what came out."""

    rows: int
    tokens: int
    """Of all rows; 0 without a tokenizer: no ids were compared."""
    unequal_ids: Sequence[str]
    """Rows whose ids differ, and where."""
    positions: int
    """Whose logits were compared."""
    largest_difference: float
    """Of two logits."""
    allowed_difference: float
    drawn: int
    """Tokens of greedy texts, of both sides the same."""
    unequal_texts: Sequence[str]
    """Greedy texts that differ, and where."""
    ties: int
    """Greedy texts that differ where the two best tokens are equally likely up to rounding."""
    stop_ids: Sequence[int]
    stop_ids_there: Sequence[int]
    ended: int
    """Greedy texts that ended by such an id, at the same place on both sides."""

    def problems(self) -> Sequence[str]:
        """Why the folder is not the model; empty: it is."""
        return list(self._problems())

    def _problems(self) -> Iterator[str]:
        if self.unequal_ids:
            yield f"token ids differ in {len(self.unequal_ids)} of {self.rows} rows ({self.unequal_ids[0]})"
        # Written so that NaN fails.
        if not self.largest_difference <= self.allowed_difference:
            yield f"logits differ by {self.largest_difference:.3g}, rounding explains {self.allowed_difference:.3g}"
        if self.unequal_texts:
            yield f"{len(self.unequal_texts)} of {self.rows} greedy texts differ ({self.unequal_texts[0]})"
        if self.stop_ids != self.stop_ids_there:
            yield f"a text ends here at the ids {list(self.stop_ids)}, there at {list(self.stop_ids_there)}"

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"agree": not self.problems()}


@dataclass(frozen=True, slots=True)
class _Greedy:
    """Two greedy texts after one prompt."""

    drawn: int
    ended: bool
    tie: bool
    difference: str | None


def compare(trained: Trained, reopened: Reopened, probes: Sequence[Probe], progress: Callable[[int], None]) -> Parity:
    """Read every probe on both sides; `progress` is told after each how many are done."""
    unequal: list[str] = []
    tokens = positions = 0
    furthest = largest = 0.0
    texts: list[_Greedy] = []
    for number, probe in enumerate(probes, start=1):
        there = reopened.ids_of(probe)
        tokens += 0 if there is None else len(probe.encoded)
        if there is not None and list(there) != list(probe.encoded):
            unequal.append(f"{probe.name}: {_where(probe.encoded, there)}")
        read = probe.ids[: min(COMPARED_TOKENS, trained.max_context or COMPARED_TOKENS)]
        here = trained.logits(read)
        apart = (here - reopened.logits(read)).abs().max().item()
        # max() of Python passes NaN over.
        furthest = apart if not apart <= furthest else furthest
        largest = max(largest, here.abs().max().item())
        positions += len(read)
        texts.append(_greedy(trained, reopened, probe, MOST_APART * max(1.0, largest)))
        progress(number)
    return Parity(
        rows=len(probes),
        tokens=tokens,
        unequal_ids=unequal,
        positions=positions,
        largest_difference=furthest,
        allowed_difference=MOST_APART * max(1.0, largest),
        drawn=sum(one.drawn for one in texts),
        unequal_texts=[one.difference for one in texts if one.difference],
        ties=sum(one.tie for one in texts),
        stop_ids=sorted(trained.stop_ids),
        stop_ids_there=sorted(reopened.stop_ids),
        ended=sum(one.ended for one in texts),
    )


def _greedy(trained: Trained, reopened: Reopened, probe: Probe, allowed: float) -> _Greedy:
    most = trained.max_context
    prompt = probe.ids[: probe.prompt] if most is None else probe.ids[: min(probe.prompt, max(1, most - NEW_TOKENS))]
    new_tokens = NEW_TOKENS if most is None else min(NEW_TOKENS, most - len(prompt))
    if new_tokens < 1:
        return _Greedy(0, ended=False, tie=False, difference=None)
    here, there = list(trained.greedy(prompt, new_tokens)), list(reopened.greedy(prompt, new_tokens))
    ended_here, ended_there = len(here) < new_tokens, bool(there) and there[-1] in reopened.stop_ids
    there = there[:-1] if ended_there else there
    if here == there and ended_here == ended_there:
        return _Greedy(len(here), ended=ended_here, tie=False, difference=None)
    place = next((at for at, (one, other) in enumerate(zip(here, there, strict=False)) if one != other), None)
    if place is not None:
        logits = trained.logits([*prompt, *here[:place]])[-1]
        if abs((logits[here[place]] - logits[there[place]]).item()) <= 2 * allowed:
            return _Greedy(place, ended=False, tie=True, difference=None)
    return _Greedy(0, ended=False, tie=False, difference=f"{probe.name}: {_where(here, there)}")


def _where(here: Ids, there: Ids) -> str:
    """The first place at which two rows of ids part."""
    pairs = enumerate(zip(here, there, strict=False))
    place, pair = next(((at, pair) for at, pair in pairs if pair[0] != pair[1]), (None, None))
    if pair is None:
        return f"{len(here)} ids here, {len(there)} there"
    return f"id {place} is {pair[0]} here and {pair[1]} there"


def divergence(expected: Tensor, found: Tensor) -> float:
    """Kullback-Leibler divergence of two predictions from logits (..., T, V): nats a token, 0 where they are equal."""
    left, right = expected.double().log_softmax(-1), found.double().log_softmax(-1)
    return float((left.exp() * (left - right)).sum(-1).mean())
