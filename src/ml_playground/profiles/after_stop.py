"""What makes a model end its turn once its answer has shown its end: more with each token that is drawn all the same. R rows, V ids."""

import math
import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ml_playground.core.tokenizer_protocol import Tokenizer
from ml_playground.profiles.settings import EmojiThink, EndingSettings, Regime3
from ml_playground.profiles.text_bias import LIMIT
from ml_playground.profiles.token_texts import Following


class Ending(NamedTuple):
    """Where a row is that has shown its end."""

    what: str
    """The emoji, or the mark."""
    times: int
    tokens_after: int
    free: Collection[int] = ()
    """Ids that may follow without penalty: the emoji that may come once more."""
    rewarded: bool = True
    """Whether nothing but the end of the turn may follow."""


class AfterEnd:
    """Takes from all tokens but those that end a turn, and gives to these, once a row has shown its end."""

    def __init__(
        self,
        label: str,
        settings: EndingSettings,
        stop_ids: Collection[int],
        shown: Callable[[Sequence[int]], bool],
        ending: Callable[[Sequence[int]], Ending | None],
    ) -> None:
        """Of one kind of end.

        Args:
            label: Its name in statistics.
            settings: Of penalty, growth and reward.
            stop_ids: Ids that end a turn.
            shown: Whether the last of these ids complete an end; cheap, for it is asked at each token.
            ending: Where ids are that may have shown an end; none: they have not.
        """
        self.label, self._settings, self._ending = label, settings, ending
        self._stop_ids = sorted(stop_ids)
        self._ended = Following(False, lambda before, drawn: before or shown(drawn))

    def __call__(self, logits: Tensor, drawn: Sequence[Sequence[int]]) -> Tensor:
        """Logits (R, V); rows that have not shown their end stay as they are."""
        ended = {row: ending for row, ids in enumerate(drawn) if (ending := self._ending_of(ids))}
        if not ended:
            return logits
        changed = logits.clone()
        settings = self._settings
        for row, ending in ended.items():
            changed[row] -= escalated(settings.penalty_after_end, settings.penalty_growth, ending.tokens_after)
            spared = torch.tensor([*self._stop_ids, *ending.free], device=logits.device)
            changed[row, spared] = logits[row, spared]
            if ending.rewarded:
                stops = torch.tensor(self._stop_ids, device=logits.device)
                changed[row, stops] = logits[row, stops] + min(LIMIT, settings.end_reward)
        return changed

    def statistics(self, drawn: Sequence[int]) -> Mapping[str, Any]:
        """Which end was shown, how often, and how many tokens came after it."""
        if (ending := self._ending_of(drawn)) is None:
            return {"shown": None, "times": 0, "tokens_after": 0}
        return {"shown": ending.what, "times": ending.times, "tokens_after": ending.tokens_after}

    def _ending_of(self, drawn: Sequence[int]) -> Ending | None:
        return self._ending(drawn) if self._ended.of(drawn) else None


def escalated(base: float, growth: float, tokens: int) -> float:
    """`base * growth ** tokens`, at most LIMIT; never infinite on the way."""
    if base == 0:
        return 0.0
    exponent = math.log(base) + tokens * math.log(growth)
    return LIMIT if exponent >= math.log(LIMIT) else math.exp(exponent)


def after_stop_marks(settings: EmojiThink, tokenizer: Tokenizer, stop_ids: Collection[int]) -> Sequence[AfterEnd]:
    """After as many emojis as may be asked for.

    How many were asked for stands in the prompt, which processors do not see: from the fewest to the most, another one of the same
    kind and the end of the turn are both left as they are, and all else is penalised.
    """
    if not stop_ids or not (settings.penalty_after_end or settings.end_reward):
        return ()
    least, most = settings.least_stops, settings.most_stops
    runs = "|".join(f"(?:{re.escape(emoji)}){{{least},{most}}}" for emoji in settings.stop_emojis)
    pattern = re.compile(rf"\n(?:{runs})")

    @cache
    def more(emoji: str, times: int) -> list[list[int]]:
        """Ids that go on with the run, as the tokenizer writes it in one go and piece by piece."""
        found: list[list[int]] = []
        so_far = tokenizer.encode("\n" + emoji * times)
        for extra in range(1, most - times + 1):
            whole = tokenizer.encode("\n" + emoji * (times + extra))
            found += [whole[len(so_far) :]] * (whole[: len(so_far)] == so_far) + [tokenizer.encode(emoji * extra)]
        return found

    def ending(drawn: Sequence[int]) -> Ending | None:
        text = tokenizer.decode(drawn)
        found = pattern.search(text)
        if found is None:
            return None
        run = found.group()[1:]
        emoji = max((one for one in settings.stop_emojis if run.startswith(one)), key=len)
        times = len(run) // len(emoji)
        after = _tokens_after(tokenizer, drawn, text[: found.end()])
        begun = list(drawn[len(drawn) - after :])
        free = {ids[after] for ids in more(emoji, times) if ids[:after] == begun and len(ids) > after}
        return Ending(emoji, times, 0, free, rewarded=False) if free else Ending(emoji, times, after)

    longest = max(len(("\n" + emoji * least).encode()) for emoji in settings.stop_emojis)
    return [AfterEnd("after the stop emojis", settings, stop_ids, _shows(tokenizer, pattern, longest), ending)]


def after_end_mark(settings: Regime3, tokenizer: Tokenizer, stop_ids: Collection[int]) -> Sequence[AfterEnd]:
    """After the mark that ends an answer."""
    if not stop_ids or not (settings.penalty_after_end or settings.end_reward):
        return ()
    mark = settings.end_mark

    def ending(drawn: Sequence[int]) -> Ending | None:
        text = tokenizer.decode(drawn)
        before, shown, _ = text.partition(mark)
        return Ending(mark, text.count(mark), _tokens_after(tokenizer, drawn, before + mark)) if shown else None

    shown = _shows(tokenizer, re.compile(re.escape(mark)), len(mark))
    return [AfterEnd(f"after {mark}", settings, stop_ids, shown, ending)]


def _shows(tokenizer: Tokenizer, pattern: re.Pattern[str], size_bytes: int) -> Callable[[Sequence[int]], bool]:
    """Whether a pattern of at most so many bytes ends with the last token: each token but the empty ones holds one of them."""
    window = size_bytes + 4
    return lambda drawn: pattern.search(tokenizer.decode(drawn[-window:])) is not None


def _tokens_after(tokenizer: Tokenizer, drawn: Sequence[int], until: str) -> int:
    """How many tokens came after the one with which a text was written."""
    return len(drawn) - bisect_left(
        range(len(drawn)), True, key=lambda count: tokenizer.decode(drawn[:count]).startswith(until)
    )
