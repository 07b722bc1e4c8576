"""Keeps an answer the beginning of an expression, whatever tokens it is made of. R rows, V ids."""

import string
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ml_playground.core.tokenizer_protocol import Tokenizer
from ml_playground.profiles.grammar import MOST_NESTED
from ml_playground.profiles.settings import Regime3
from ml_playground.profiles.token_texts import NOWHERE, Automaton, Following, progress_of, token_texts

MODES = ("value", "operator", "minus", "whole", "point", "fraction", "symbol", "closed")
"""Where in an expression: before it, after '(', after '-', in the digits, after '.', in the digits after it, in a name, after ')'."""
NAME = string.ascii_letters + string.digits + "_-"


class _Place(NamedTuple):
    """Of a row."""

    state: int
    answers: int
    """How many it has completed."""
    broken: int
    """How many it broke off, which only a vocabulary without the needed characters can make it do."""


class GrammarEnforcer:
    """After the start mark only tokens that keep the answer the beginning of an expression in canonical layout; then the end mark.

    Outside of an answer everything may be drawn, but a token that would write the start mark and something wrong behind it.
    """

    label = "grammar"

    def __init__(self, start_mark: str, end_mark: str, texts: Sequence[str]) -> None:
        """Of two marks, and the text of each id, (V,)."""
        moves, others, self._outside = answer_moves(start_mark, end_mark)
        self._automaton = Automaton(moves, others, texts)
        self._empty = np.array([not text for text in texts])
        self._rows = Following(_Place(1, 0, 0), self._moved)
        self._masks: dict[tuple[int, int, torch.device], Tensor | None] = {}

    def __call__(self, logits: Tensor, drawn: Sequence[Sequence[int]]) -> Tensor:
        """Logits (R, V), -inf where the grammar is left; as they are where no token would keep it."""
        masks = {
            row: mask
            for row, ids in enumerate(drawn)
            if (mask := self._mask(self._rows.of(ids).state, logits)) is not None
        }
        if not masks:
            return logits
        rows = torch.tensor(list(masks), device=logits.device)
        before = logits[rows]
        held = before.masked_fill(~torch.stack(list(masks.values())), -torch.inf)
        # A row of which nothing would be left has no softmax.
        held = torch.where(held.isneginf().all(dim=-1, keepdim=True), before, held)
        return logits.index_copy(0, rows, held)

    def statistics(self, drawn: Sequence[int]) -> Mapping[str, Any]:
        """How many answers were completed and broken off, and whether the row ended within one."""
        state, answers, broken = self._rows.of(drawn)
        return {"answers": answers, "broken": broken, "unfinished": state > self._outside}

    def allowed(self, state: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which ids keep the grammar in a state, (V,); special ones do not within an answer."""
        found = self._automaton.after(state) != NOWHERE
        return found & ~self._empty if state > self._outside else found

    def _mask(self, state: int, logits: Tensor) -> Tensor | None:
        """Which ids keep the grammar, (V,), on the device of the logits; None: all of them."""
        key = state, logits.shape[-1], logits.device
        if key not in self._masks:
            # A model may know more ids than its tokenizer: these stand for nothing.
            found = np.full(logits.shape[-1], state <= self._outside)
            tokens = self.allowed(state)[: len(found)]
            found[: len(tokens)] = tokens
            self._masks[key] = None if found.all() else torch.from_numpy(found).to(logits.device)
        return self._masks[key]

    def _moved(self, before: _Place, drawn: Sequence[int]) -> _Place:
        state = self._automaton.moved(before.state, drawn[-1])
        if state == NOWHERE:
            return _Place(1, before.answers, before.broken + 1)
        completed = before.state > self._outside and state <= self._outside
        return _Place(state, before.answers + completed, before.broken)


def answer_moves(start_mark: str, end_mark: str) -> tuple[dict[int, dict[str, int]], dict[int, int], int]:
    """The automaton: state -> character -> next state; state -> next state for all others; the last state outside of an answer.

    States 1, 2, ... count the characters of the start mark that stand there; behind them come those within an answer.
    """
    outside = len(start_mark)
    lead = outside + 1
    first = lead + 1
    end = first + len(MODES) * (MOST_NESTED + 1)
    rows = progress_of(start_mark)[:-1]
    moves = {at + 1: {character: to + 1 for character, to in row.items()} for at, row in enumerate(rows)}
    others = dict.fromkeys(moves, 1)

    def at(mode: str, depth: int) -> int:
        return first + depth * len(MODES) + MODES.index(mode)

    moves[lead] = {" ": at("value", 0)}
    for depth in range(MOST_NESTED + 1):
        behind = {" ": at("value", depth), ")": at("closed", depth - 1)} if depth else {" ": end}
        digits = dict.fromkeys(string.digits, at("whole", depth))
        more_digits = dict.fromkeys(string.digits, at("fraction", depth))
        letters = dict.fromkeys(string.ascii_letters, at("symbol", depth))
        opening = {"(": at("operator", depth + 1)} if depth < MOST_NESTED else {}
        moves |= {
            at("value", depth): {**opening, "-": at("minus", depth), **digits, **letters},
            at("operator", depth): letters,
            at("minus", depth): digits,
            at("whole", depth): {**digits, ".": at("point", depth), **behind},
            at("point", depth): more_digits,
            at("fraction", depth): {**more_digits, **behind},
            at("symbol", depth): {**dict.fromkeys(NAME, at("symbol", depth)), **behind},
            at("closed", depth): behind,
        }
    for place, character in enumerate(end_mark):
        moves[end + place] = {character: end + place + 1 if place + 1 < len(end_mark) else 1}
    return moves, others, outside


def enforcer(settings: Regime3, tokenizer: Tokenizer) -> GrammarEnforcer:
    """The processor of a profile."""
    return GrammarEnforcer(settings.start_mark, settings.end_mark, token_texts(tokenizer))
