"""What the filters ask of a text as far as it goes: which tokens it holds, and which would repeat a run of tokens. R rows, V vocabulary."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from ml_playground.configuration.sample_settings import SampleSettings


class Ngrams:
    """Every run of n tokens of a text, by its first n - 1."""

    def __init__(self, length: int, ids: Sequence[int]) -> None:
        self._length = length
        self._tail: tuple[int, ...] = ()
        self._followers: defaultdict[tuple[int, ...], set[int]] = defaultdict(set)
        for id_ in ids:
            self.add(id_)

    def add(self, id_: int) -> None:
        """Take in the next token of the text."""
        if len(self._tail) == self._length - 1:
            self._followers[self._tail].add(id_)
        kept = (*self._tail, id_)
        self._tail = kept[max(0, len(kept) - self._length + 1) :]

    @property
    def repeating(self) -> set[int]:
        """The ids with which the text would end in a run that it already holds."""
        return self._followers.get(self._tail, set()) if len(self._tail) == self._length - 1 else set()


class Past:
    """Some rows of tokens, prompts included, as the filters that look back need them; what no setting asks for is not kept."""

    def __init__(
        self, rows: Sequence[Sequence[int]], vocab_size: int, settings: SampleSettings, device: torch.device
    ) -> None:
        self._vocab_size, self._device = vocab_size, device
        self.seen: Tensor | None = None
        if settings.repetition_penalty != 1.0:
            marks = torch.zeros(len(rows), vocab_size, dtype=torch.bool)
            for row, ids in zip(marks, rows, strict=True):
                row[torch.tensor(ids)] = True
            self.seen = marks.to(device)
        length = settings.no_repeat_ngram
        self._ngrams = [Ngrams(length, ids) for ids in rows] if length else []

    @property
    def repeating(self) -> Tensor | None:
        """(R, V) bool: the tokens that would repeat a run of `no_repeat_ngram` tokens; None where none would."""
        pairs = [(row, id_) for row, ngrams in enumerate(self._ngrams) for id_ in ngrams.repeating]
        if not pairs:
            return None
        marks = torch.zeros(len(self._ngrams), self._vocab_size, dtype=torch.bool)
        marks[tuple(torch.tensor(pairs).T)] = True
        return marks.to(self._device)

    def add(self, ids: Tensor, on_host: Sequence[int]) -> None:
        """Take in the next token of each row: (R,), and the same where Python can read them."""
        if self.seen is not None:
            self.seen.scatter_(1, ids[:, None], value=True)
        for ngrams, id_ in zip(self._ngrams, on_host, strict=bool(self._ngrams)):
            ngrams.add(id_)
