"""What each id stands for, and how all tokens of a vocabulary move an automaton over characters. V ids."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ml_playground.core.tokenizer_protocol import Tokenizer

CODE_POINTS = 0x110000
NOWHERE = 0
"""The state that no text leads out of."""
States = NDArray[np.uint16]
StateT = TypeVar("StateT")


@lru_cache(maxsize=4)
def token_texts(tokenizer: Tokenizer) -> Sequence[str]:
    """What each id stands for within a text, (V,); empty for special ids, U+FFFD for parts of a character.

    Seen behind another token, for some tokenizers leave out the blank of what begins a text.
    """
    beside = tokenizer.encode("a")[-1:]
    before = tokenizer.decode(beside)
    found: list[str] = []
    for index in range(tokenizer.vocab_size):
        text = tokenizer.decode([*beside, index])
        found.append(text.removeprefix(before) if text.startswith(before) else tokenizer.decode([index]))
    return found


class Automaton:
    """A deterministic automaton over characters, and the tokens of a vocabulary as its moves."""

    def __init__(self, moves: Mapping[int, Mapping[str, int]], others: Mapping[int, int], texts: Sequence[str]) -> None:
        """Of states numbered from 0.

        Args:
            moves: State -> character -> next state.
            others: State -> next state for every character that `moves` does not name; none named: NOWHERE.
            texts: Of each id, (V,).
        """
        alphabet = sorted({character for row in moves.values() for character in row})
        classes = {character: number for number, character in enumerate(alphabet)}
        states = 1 + max([*moves, *others, *(end for row in moves.values() for end in row.values())])
        self._table = np.full((states, len(alphabet) + 1), NOWHERE, dtype=np.uint16)
        for state, end in others.items():
            self._table[state] = end
        for state, row in moves.items():
            for character, end in row.items():
                self._table[state, classes[character]] = end
        self._texts, self._classes = texts, classes
        self._order, self._columns = self._columns_of(texts)
        self._after: dict[int, States] = {}

    def _columns_of(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], list[NDArray[np.uint16]]]:
        """The ids, longest text first, and the classes of their first, second, ... characters as far as they have one."""
        lengths = np.array([len(text) for text in texts])
        order = np.argsort(-lengths, kind="stable")
        class_of = np.full(CODE_POINTS, len(self._classes), dtype=np.uint16)
        for character, number in self._classes.items():
            class_of[ord(character)] = number
        joined = "".join(texts[int(index)] for index in order)
        codes = class_of[np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype="<u4")]
        lengths = lengths[order]
        starts = np.cumsum(lengths) - lengths
        longest = int(lengths[0]) if len(lengths) else 0
        # Ids with more than `at` characters come first.
        counts = [int(np.count_nonzero(lengths > at)) for at in range(longest)]
        return order, [codes[starts[:count] + at] for at, count in enumerate(counts)]

    def after(self, state: int) -> States:
        """The state after each token, (V,), from a given one; kept, for there are few."""
        if (known := self._after.get(state)) is not None:
            return known
        found = np.full(len(self._order), state, dtype=np.uint16)
        for column in self._columns:
            part = found[: len(column)]
            part[:] = self._table[part, column]
        self._after[state] = np.empty_like(found)
        self._after[state][self._order] = found
        return self._after[state]

    def moved(self, state: int, index: int) -> int:
        """The state after one token; an id without a text moves nothing."""
        for character in self._texts[index] if index < len(self._texts) else "":
            state = int(self._table[state, self._classes.get(character, -1)])
        return state


class Following(Generic[StateT]):
    """What a function of a row's ids gives, by what it gave for all but the last; the newest rows are at hand, others found anew."""

    def __init__(self, start: StateT, step: Callable[[StateT, Sequence[int]], StateT], at_most: int = 1024) -> None:
        """From a first state.

        Args:
            start: Of a row without ids.
            step: From the state before the last id, and all ids.
            at_most: Rows that are kept: each row of a batch needs one.
        """
        self._start, self._step, self._at_most = start, step, at_most
        self._known: OrderedDict[tuple[int, ...], StateT] = OrderedDict()

    def of(self, drawn: Sequence[int]) -> StateT:
        """The state of a row."""
        ids = tuple(drawn)
        if not ids:
            return self._start
        if ids not in self._known:
            before = self._known.get(ids[:-1])
            self._known[ids] = self._from_start(ids) if before is None else self._step(before, ids)
            if len(self._known) > self._at_most:
                self._known.popitem(last=False)
        return self._known[ids]

    def _from_start(self, ids: tuple[int, ...]) -> StateT:
        state = self._start
        for end in range(1, len(ids) + 1):
            state = self._step(state, ids[:end])
        return state


def progress_of(text: str) -> list[dict[str, int]]:
    """How far a text has come, 0 to its length, by what is written next (Knuth, Morris, Pratt); not named: back to 0.

    The last row says how it goes on behind the whole text.
    """
    rows: list[dict[str, int]] = []
    border = 0
    for at, character in enumerate(text):
        row = dict(rows[border]) if at else {}
        following = row.get(character, 0)
        rows.append({**row, character: at + 1})
        border = following if at else 0
    rows.append(dict(rows[border]))
    return rows
