"""Texts that are made likelier or less likely, by a schedule: whatever tokens they are made of. R rows, V ids."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ml_playground.core.tokenizer_protocol import Tokenizer
from ml_playground.profiles.settings import ProfileSettings
from ml_playground.profiles.token_texts import Automaton, Following, progress_of, token_texts

LIMIT = 1e4
"""Logits differ by tens; more than this changes nothing, and float16 ends at 65504."""


class _Progress(NamedTuple):
    """Of a row."""

    state: int
    times: int
    """How often the text stands in it."""


class TextBias:
    """Adds to the logits of tokens that would complete a text (a penalty), or bring the row nearer to its first one (a reward)."""

    def __init__(self, text: str, amount: float, schedule: Sequence[tuple[int, float]], texts: Sequence[str]) -> None:
        """Of one text.

        Args:
            text: Which; tokens that hold parts of a character are not seen.
            amount: What is added.
            schedule: Tokens and a factor, one after the other; afterwards it is 1.
            texts: Of each id, (V,).
        """
        self.text, self._amount, self._schedule = text, amount, tuple(schedule)
        rows = progress_of(text)
        # States from 1 on; the whole text, once reached within a token, stays reached, so that it cannot be missed.
        self._whole = len(text) + 1
        moves = {at + 1: {character: end + 1 for character, end in row.items()} for at, row in enumerate(rows)}
        others = dict.fromkeys(moves, 1)
        self._seeing = Automaton(moves | {self._whole: {}}, others | {self._whole: self._whole}, texts)
        self._going_on = Automaton(moves, others, texts)
        self._rows = Following(_Progress(1, 0), self._moved)
        self._ids: dict[tuple[int, torch.device], Tensor] = {}

    @property
    def label(self) -> str:
        """`penalty on '<think>'`."""
        return f"{'penalty' if self._amount < 0 else 'reward'} on {self.text!r}"

    def __call__(self, logits: Tensor, drawn: Sequence[Sequence[int]]) -> Tensor:
        """Logits (R, V) with the bias; rows that wrote a rewarded text have had theirs."""
        changed = logits.clone()
        for row, ids in enumerate(drawn):
            state, times = self._rows.of(ids)
            if self._amount > 0 and times:
                continue
            amount = max(-LIMIT, min(LIMIT, self._amount * self._factor(len(ids))))
            changed[row, self._biased(state, logits.device)] += amount
        return changed

    def statistics(self, drawn: Sequence[int]) -> Mapping[str, Any]:
        """How often the text was written, and how strong the bias was at the end."""
        return {
            "times": self._rows.of(drawn).times,
            "drawn": len(drawn),
            "amount": self._amount * self._factor(len(drawn)),
        }

    def _factor(self, drawn: int) -> float:
        for tokens, factor in self._schedule:
            if drawn < tokens:
                return factor
            drawn -= tokens
        return 1.0

    def _moved(self, before: _Progress, drawn: Sequence[int]) -> _Progress:
        completed = self._seeing.moved(self._from(before.state), drawn[-1]) == self._whole
        return _Progress(self._going_on.moved(before.state, drawn[-1]), before.times + completed)

    def _from(self, state: int) -> int:
        """A state that has not reached the whole text: behind it, as much of it as begins the next one."""
        return self._behind if state == self._whole else state

    @property
    def _behind(self) -> int:
        text = self.text
        return 1 + max(size for size in range(len(text)) if text.endswith(text[:size]))

    def _biased(self, state: int, device: torch.device) -> Tensor:
        """The ids that a row in a state is kept from, or drawn to."""
        state = self._from(state)
        if (known := self._ids.get((state, device))) is None:
            after = self._seeing.after(state)
            chosen = after == self._whole if self._amount < 0 else after > state
            known = self._ids[state, device] = torch.from_numpy(np.flatnonzero(chosen)).to(device)
        return known


def biases_of(settings: ProfileSettings, tokenizer: Tokenizer) -> Sequence[TextBias]:
    """A processor for each text of `text_bias`."""
    if not settings.text_bias:
        return ()
    stretches = [stretch.split("x") for stretch in settings.bias_schedule]
    schedule = [(int(tokens), float(factor)) for tokens, factor in stretches]
    texts = token_texts(tokenizer)
    return [TextBias(text, amount, schedule, texts) for text, amount in settings.text_bias.items()]
