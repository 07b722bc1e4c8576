"""Symbolic answers between two marks, in the grammar of `grammar.py`."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from ml_playground.core.registry import load_object
from ml_playground.core.tokenizer_protocol import Tokenizer
from ml_playground.core.values import ChatExample, Message
from ml_playground.profiles.grammar import GrammarError, canonical, parse, same
from ml_playground.profiles.protocol import DataProfile
from ml_playground.profiles.settings import Regime3
from ml_playground.profiles.wording import common_problems, is_answer, prompted, words_of

BIASES = "ml_playground.profiles.text_bias:biases_of"
ENFORCER = "ml_playground.profiles.grammar_enforcer:enforcer"
AFTER_MARK = "ml_playground.profiles.after_stop:after_end_mark"


class Regime3Profile:
    """Every answer between marks; canonical, compared as expressions, and drawn in the grammar alone."""

    def __init__(self, settings: Regime3) -> None:
        self._settings = settings
        self._start, self._end = settings.start_mark, settings.end_mark
        self._in_grammar = settings.answers == "grammar"

    def transform(self, example: ChatExample, index: int) -> ChatExample:
        """Each answer between the marks: all of it where it has none; the mark that is missing, where it has one."""
        del index
        return replace(
            example,
            messages=tuple(map(self._marked, example.messages)),
            rejected=tuple(map(self._marked, example.rejected)),
        )

    def prompted(self, messages: Sequence[Message], today: date) -> tuple[Message, ...]:
        """With the system prompt, which names the marks."""
        return prompted(messages, self._settings, today, {"{start}": self._start, "{end}": self._end})

    def validate(self, example: ChatExample) -> Sequence[str]:
        """Whether each answer has the marks once, and an expression between them."""
        found = common_problems(example)
        for number, message in enumerate(example.messages, 1):
            if is_answer(message):
                found += [f"message {number} (assistant): {problem}" for problem in self._problems(message.content)]
        return found

    def logits_processors(self, tokenizer: Tokenizer, stop_ids: Collection[int]) -> Sequence[Any]:
        """The texts of `text_bias`; the grammar; and what makes a model end after the end mark."""
        settings = self._settings
        enforcing = self._in_grammar and settings.enforce
        return (
            *load_object(BIASES)(settings, tokenizer),
            *load_object(AFTER_MARK)(settings, tokenizer, stop_ids),
            # The last one: what it forbids, no other may allow again.
            *([load_object(ENFORCER)(settings, tokenizer)] if enforcing else []),
        )

    def answer_of(self, text: str) -> str | None:
        """What stands between the last pair of marks, canonical where it is an expression; None where there is no pair."""
        _, mark, rest = text.rpartition(self._start)
        inside, end, _ = rest.partition(self._end)
        if not mark or not end or not inside.strip():
            return None
        return self._canonical(inside.strip())

    def matches(self, given: str, wanted: str) -> bool:
        """Whether both answers are the same expression, or, where one is none, the same words.

        The wanted one may come without marks; the given one may not, for they are part of what is to be learnt.
        """
        one, other = self.answer_of(given), self.answer_of(wanted) or wanted
        if one is None:
            return False
        if self._in_grammar:
            try:
                return same(parse(one), parse(other), self._settings.commutative)
            except GrammarError:
                pass
        return words_of(one) == words_of(other)

    def _marked(self, message: Message) -> Message:
        return replace(message, content=self._with_marks(message.content)) if is_answer(message) else message

    def _with_marks(self, text: str) -> str:
        """An answer's text with both marks, and between them its canonical form where it has one."""
        has_start, has_end = self._start in text, self._end in text
        if not has_start and not has_end:
            before, answer = self._split(text)
            text = f"{before}{self._start} {answer} {self._end}"
        elif not has_end:
            text = f"{text} {self._end}"
        elif not has_start:
            text = f"{self._start} {text}"
        before, start, rest = text.rpartition(self._start)
        inside, end, after = rest.partition(self._end)
        if not end:
            return text
        return f"{before}{start} {self._canonical(inside.strip())} {end}{after}"

    def _split(self, text: str) -> tuple[str, str]:
        """What comes before an answer, and the answer: its last line, where only this is an expression; else all of it."""
        text = text.strip()
        steps, line_break, last = text.rpartition("\n")
        if self._in_grammar and line_break and not _problem(last) and _problem(text):
            return steps + line_break, last
        return "", text

    def _canonical(self, inside: str) -> str:
        """Canonical where it is an expression; else as it is."""
        return canonical(inside) if self._in_grammar and not _problem(inside) else inside

    def _problems(self, text: str) -> list[str]:
        starts, ends = text.count(self._start), text.count(self._end)
        if (starts, ends) != (1, 1) or text.index(self._start) > text.index(self._end):
            return [
                f"it has {starts} x {self._start} and {ends} x {self._end}; it takes one of each, the answer between them"
            ]
        inside = self.answer_of(text)
        if inside is None:
            return ["nothing stands between its marks"]
        problem = _problem(inside) if self._in_grammar else None
        return [f"its answer {inside!r:.80} is not in the grammar: {problem}"] if problem else []


def _problem(text: str) -> str | None:
    """Why a text is no expression; None where it is one."""
    try:
        parse(text)
    except GrammarError as error:
        return str(error)
    return None


def build(settings: Regime3, seed: int) -> DataProfile:
    """The profile; nothing in it is random."""
    del seed
    return Regime3Profile(settings)
