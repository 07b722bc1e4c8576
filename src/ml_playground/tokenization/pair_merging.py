"""Byte pairs merged by frequency, from counted words: the merges that Hugging Face `tokenizers` learns, in numpy.

All words lie in one array of symbols. A merge rewrites all places of its pair at once, and only their neighbours are
counted anew, so that a merge costs what it changes. Symbols are ids of the vocabulary; N is bytes of all different words.

Source: `BpeTrainer::do_train`, https://github.com/huggingface/tokenizers, tokenizers/src/models/bpe/trainer.rs
"""

import heapq
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int32]
Numbers = NDArray[np.int64]

# What stands between two words, and what a merge has swallowed.
BETWEEN, GONE = -1, -2
HALF = 32


def pair_of(left: Numbers | int, right: Numbers | int) -> Any:
    """Two symbols, numbers or arrays of them, as one number; its order is that of the pairs."""
    return (left << HALF) | right


class _Words:
    """All words as linked symbols, (N + words + 1,), with a gap before, between and behind them."""

    def __init__(self, words: Mapping[bytes, int], symbol_of_byte: Sequence[int]) -> None:
        self.counts = np.fromiter(words.values(), dtype=np.int64, count=len(words))
        sizes = np.fromiter(map(len, words), dtype=np.int64, count=len(words))
        raw = np.frombuffer(b"\0".join([b"", *words, b""]), dtype=np.uint8)
        self.symbols = np.array(symbol_of_byte, dtype=np.int32)[raw]
        self.symbols[0] = BETWEEN
        self.symbols[np.cumsum(sizes + 1)] = BETWEEN
        self.word = np.zeros(len(raw), dtype=np.int32)
        self.word[1:] = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes + 1)
        self.before = np.arange(-1, len(raw) - 1, dtype=np.int32)
        self.after = np.arange(1, len(raw) + 1, dtype=np.int32)

    def weights(self, places: Places) -> Numbers:
        """How often the word of each place occurs."""
        return self.counts[self.word[places]]

    def pairs(self) -> tuple[Numbers, Places]:
        """Every pair, and where it begins."""
        places = np.flatnonzero((self.symbols[:-1] >= 0) & (self.symbols[1:] >= 0)).astype(np.int32)
        return pair_of(self.symbols[places].astype(np.int64), self.symbols[places + 1].astype(np.int64)), places

    def standing(self, places: Places, left: int, right: int) -> Places:
        """Those of the places, ascending, where the pair still stands; of overlapping ones every other one."""
        places = places[(self.symbols[places] == left) & (self.symbols[self.after[places]] == right)]
        if left != right or not len(places):
            return places
        follows = np.append(False, self.after[places[:-1]] == places[1:])
        number = np.arange(len(places))
        first = np.maximum.accumulate(np.where(follows, 0, number))
        return places[(number - first) % 2 == 0]


class PairMerging:
    """Pairs with their counts; the most frequent one is merged, of equally frequent ones the smallest."""

    def __init__(self, words: Mapping[bytes, int], symbol_of_byte: Sequence[int]) -> None:
        self._words = _Words(words, symbol_of_byte)
        self._counts: dict[int, int] = {}
        self._queue: list[tuple[int, int, int]] = []
        # Where each pair was found, in the order of the findings: as the library, a find is merged by itself.
        self._places: dict[int, list[Places]] = {}
        pairs, places = self._words.pairs()
        self._note(pairs, places)

    def most_frequent(self, at_least: int) -> tuple[int, int, int] | None:
        """Take the next pair off the queue: left, right, and which of its findings; None: all others are too rare."""
        while self._queue:
            count, pair, finding = heapq.heappop(self._queue)
            if self._counts[pair] != -count:
                heapq.heappush(self._queue, (-self._counts[pair], pair, finding))
                continue
            return (pair >> HALF, pair & (1 << HALF) - 1, finding) if -count >= max(at_least, 1) else None
        return None

    def merge(self, left: int, right: int, finding: int, new: int) -> None:
        """Put a symbol in the place of a pair."""
        words = self._words
        places = words.standing(self._found(pair_of(left, right), finding), left, right)
        second = words.after[places]
        before, after = words.before[places], words.after[second]
        left_of, right_of = words.symbols[before], words.symbols[after]
        # Two merges side by side: the first has put the new symbol before the second.
        beside = (before[1:] == second[:-1]).nonzero()[0]
        if len(beside):
            left_of[beside + 1] = new
            before[beside + 1] = places[beside]
        words.symbols[places], words.symbols[second] = new, GONE
        words.after[places] = after
        words.before[after] = places

        has_left, has_right = left_of != BETWEEN, right_of != BETWEEN
        left_of, right_of = left_of[has_left].astype(np.int64), right_of[has_right].astype(np.int64)
        found = np.concatenate([before[has_left], places[has_right]])
        self._forget(np.concatenate([pair_of(left_of, left), pair_of(right, right_of)]), words.weights(found))
        self._note(np.concatenate([pair_of(left_of, new), pair_of(new, right_of)]), found)

    def _found(self, pair: int, finding: int) -> Places:
        """The places of one finding; where there were several, all places in the words of that one."""
        findings = self._places[pair]
        if len(findings) == 1:
            return findings[0]
        every = np.unique(np.concatenate(findings))
        return every[np.isin(self._words.word[every], self._words.word[findings[finding]])]

    def _forget(self, pairs: Numbers, weights: Numbers) -> None:
        order, groups, starts = _groups(pairs)
        for pair, weight in zip(groups, _sums(weights[order], starts), strict=True):
            self._counts[pair] = self._counts.get(pair, 0) - weight

    def _note(self, pairs: Numbers, places: Places) -> None:
        """Count pairs and queue them, with where they begin."""
        order, groups, starts = _groups(pairs)
        places = places[order]
        sums = _sums(self._words.weights(places), starts)
        ends = [*starts.tolist(), len(places)]
        for place, (pair, weight) in enumerate(zip(groups, sums, strict=True)):
            count = self._counts[pair] = self._counts.get(pair, 0) + weight
            if count > 0:
                findings = self._places.setdefault(pair, [])
                findings.append(places[ends[place] : ends[place + 1]])
                heapq.heappush(self._queue, (-count, pair, len(findings) - 1))


def _groups(pairs: Numbers) -> tuple[Numbers, list[int], Numbers]:
    """An order that brings equal pairs together and keeps places ascending, the different pairs, where each starts."""
    order = pairs.argsort(kind="stable")
    ordered = pairs[order]
    differs = np.ones(len(pairs), dtype=np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=differs[1:])
    starts = differs.nonzero()[0]
    return order, ordered[starts].tolist(), starts


def _sums(weights: Numbers, starts: Numbers) -> list[int]:
    """The sum of each group."""
    return np.add.reduceat(weights, starts).tolist() if len(starts) else []


def learn_merges(
    words: Mapping[bytes, int], vocabulary: Sequence[str], letter_of_byte: Sequence[str], size: int, at_least: int
) -> tuple[list[str], list[tuple[str, str]]]:
    """Merge the most frequent pair again and again.

    Args:
        words: How often each word occurs.
        vocabulary: What is there to begin with, a letter for each byte among it.
        letter_of_byte: Those letters, by byte.
        size: Ids the vocabulary may have.
        at_least: A pair that is rarer is not merged.

    Returns:
        The vocabulary, and the merges in the order in which they apply.
    """
    tokens = list(vocabulary)
    ids = {token: index for index, token in enumerate(tokens)}
    pairs = PairMerging(words, [ids[letter] for letter in letter_of_byte])
    # A pair of several findings is merged several times; its last turn decides about its place.
    merges: dict[tuple[str, str], None] = {}
    while len(tokens) < size and (found := pairs.most_frequent(at_least)) is not None:
        left, right, finding = found
        merged = tokens[left] + tokens[right]
        if merged not in ids:
            ids[merged] = len(tokens)
            tokens.append(merged)
        merges.pop((tokens[left], tokens[right]), None)
        merges[tokens[left], tokens[right]] = None
        pairs.merge(left, right, finding, ids[merged])
    return tokens, list(merges)
