"""A rendered chat as ids: special tokens that the template wrote are ids of their own, what messages say never is one.

The whole text is encoded at once. Where the model takes over, at the beginning of an answer, a token must begin, too: if the
library would join the end of the prompt with the beginning of the answer, the text is cut there, for so it is in inference, where
the prompt is encoded before there is an answer. The ids of a prompt are therefore the first ids of the chat that follows from it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ml_playground.core.chat_template import Rendered
from ml_playground.core.tokenizer_protocol import (
    SPELLINGS,
    Ids,
    MarkedTokenizer,
    Spans,
    Tokenizer,
    ids_dtype,
    marks_of,
)


class Border(NamedTuple):
    """A place in a text, between two characters, at which something changes."""

    at: int
    """Characters before it."""
    hard: bool
    """Whether a token must begin here; else a token that lies across belongs to what follows."""


@dataclass(frozen=True, slots=True)
class EncodedChat:
    """Ids, and where its borders lie among them."""

    ids: Ids
    """(tokens,)"""
    borders: tuple[int, ...]
    """Tokens before each border, in their order."""


def control_of(tokenizer: Tokenizer) -> tuple[str, ...]:
    """How the tokens are spelled that steer: what a message says in their words is encoded as text."""
    return tuple(tokenizer.control if isinstance(tokenizer, MarkedTokenizer) else marks_of(tokenizer))


def tokens_of(tokenizer: Tokenizer) -> dict[str, str]:
    """The variables of special tokens that a template may use: bos_token, eos_token, pad_token."""
    spelled = {index: text for text, index in marks_of(tokenizer).items()}
    specials = {name: getattr(tokenizer.specials, name) for name in SPELLINGS}
    return {f"{name}_token": spelled[index] for name, index in specials.items() if index in spelled}


class ChatEncoder:
    """Encodes what a template has rendered."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._marked = tokenizer if isinstance(tokenizer, MarkedTokenizer) else None
        self._dtype = ids_dtype(tokenizer.vocab_size)
        self._marks = marks_of(tokenizer)
        longest_first = sorted(self._marks, key=lambda text: (-len(text), text))
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def ids(self, rendered: Rendered) -> list[int]:
        """Ids of a text alone, a prompt say."""
        return self.encode([rendered], [()])[0].ids.tolist()

    def encode(self, chats: Sequence[Rendered], borders: Sequence[Sequence[Border]]) -> list[EncodedChat]:
        """Ids of texts, and where their borders lie among them.

        Args:
            chats: As a template rendered them.
            borders: Of each, ascending.
        """
        if self._marked is not None:
            return self._encode_marked(self._marked, chats, borders)
        return [self._encode_plain(chat, ends) for chat, ends in zip(chats, borders, strict=True)]

    def _encode_marked(
        self, tokenizer: MarkedTokenizer, chats: Sequence[Rendered], borders: Sequence[Sequence[Border]]
    ) -> list[EncodedChat]:
        """By a library that finds special tokens itself and knows of each token where it lies; all chats at once."""
        whole = iter(tokenizer.encode_marked([chat.text for chat in chats if not chat.literal]))
        found: list[EncodedChat] = []
        for chat, places in zip(chats, borders, strict=True):
            spans = self._spans(tokenizer, chat, ()) if chat.literal else next(whole)
            cuts: list[int] = []
            # A cut may move what is joined before the next one; each turn adds a cut, so this ends.
            while more := [one.at for one in places if one.hard and one.at not in cuts and spans.is_inside(one.at)]:
                cuts.append(more[0])
                spans = self._spans(tokenizer, chat, cuts)
            at = tuple(spans.before(one.at) for one in places)
            found.append(EncodedChat(spans.ids.astype(self._dtype, copy=False), at))
        return found

    @staticmethod
    def _spans(tokenizer: MarkedTokenizer, chat: Rendered, cuts: Sequence[int]) -> Spans:
        """The text in parts: what only looks like a special token by itself, the rest cut where that is asked for."""
        literal = set(chat.literal)
        edges = sorted({0, len(chat.text), *cuts, *(edge for stretch in chat.literal for edge in stretch)})
        parts = list(pairwise(edges))
        # A cut inside of such a stretch makes two parts of it; both are text.
        plain = [any(start >= one[0] and end <= one[1] for one in literal) for start, end in parts]
        texts = [chat.text[start:end] for start, end in parts]
        marked = iter(
            tokenizer.encode_marked([text for text, is_plain in zip(texts, plain, strict=True) if not is_plain])
        )
        spans: list[Spans] = []
        for (start, end), text, is_plain in zip(parts, texts, plain, strict=True):
            if is_plain:
                ids = np.asarray(tokenizer.encode(text), dtype=np.uint32)
                spans.append(Spans(ids, np.full(len(ids), start), np.full(len(ids), end)))
            else:
                one = next(marked)
                spans.append(Spans(one.ids, one.starts + start, one.ends + start))
        if not spans:
            return tokenizer.encode_marked([""])[0]
        return Spans(*(np.concatenate([getattr(one, name) for one in spans]) for name in Spans._fields))

    def _encode_plain(self, chat: Rendered, borders: Sequence[Border]) -> EncodedChat:
        """By a tokenizer that knows no special tokens in texts: these are looked for, and what lies between them encoded."""
        ids: list[int] = []
        at: dict[int, int] = {}
        end = 0
        for found in self._pattern.finditer(chat.text):
            if not any(found.start() < stop and start < found.end() for start, stop in chat.literal):
                self._add(chat.text, end, found.start(), borders, ids, at)
                # A place within a mark belongs to what follows it.
                at |= {one.at: len(ids) for one in borders if found.start() <= one.at < found.end()}
                ids.append(self._marks[found[0]])
                end = found.end()
                at[end] = len(ids)
        self._add(chat.text, end, len(chat.text), borders, ids, at)
        return EncodedChat(np.array(ids, dtype=self._dtype), tuple(at[one.at] for one in borders))

    def _add(
        self, text: str, start: int, end: int, borders: Sequence[Border], ids: list[int], at: dict[int, int]
    ) -> None:
        """Encode a stretch between marks; a border lies where the ids of what is before it end, or a cut is made."""
        base, new = len(ids), self._encoded(text[start:end])
        at[start] = base
        for border in borders:
            if not start < border.at < end:
                continue
            before = self._encoded(text[start : border.at])
            if new[: len(before)] != before:
                if border.hard:
                    ids += before
                    start, base, new = border.at, len(ids), self._encoded(text[border.at : end])
                    before = []
                else:
                    before = _common(before, new)
            at[border.at] = base + len(before)
        ids += new
        at[end] = len(ids)

    def _encoded(self, text: str) -> list[int]:
        return self._tokenizer.encode(text) if text else []


def _common(one: list[int], other: list[int]) -> list[int]:
    """What two lists begin with alike."""
    size = next((place for place, (left, right) in enumerate(zip(one, other, strict=False)) if left != right), None)
    return one[:size] if size is not None else min(one, other, key=len)
