"""What an evaluation of answers found: a table for people, and a record."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ml_playground.commands.ledger_text import right_aligned
from ml_playground.core.chat_facts import json_of
from ml_playground.core.humanise import plural, printable
from ml_playground.evaluation.answers import Answered, Compared, Given, Shares
from ml_playground.evaluation.forgetting import Forgetting
from ml_playground.evaluation.intervals import Estimate
from ml_playground.evaluation.paired import p_text
from ml_playground.evaluation.questions import Asked

SHOWN_CHARACTERS = 240
"""Of a question or an answer among the mistakes."""


@dataclass(frozen=True, slots=True)
class Found:
    """All that an evaluation of answers gives."""

    checkpoint: str
    step: int
    weights: str
    data: str
    split: str
    asked: Asked
    answered: Answered
    against: Compared | None
    forgetting: Forgetting | None
    mistakes: Sequence[Given]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "schema_version": 1,
            **{name: getattr(self, name) for name in ("checkpoint", "step", "weights", "data", "split")},
            "questions": len(self.asked.questions),
            "of": self.asked.of,
            "unanswered_chats": self.asked.unanswered,
            **_plain(self.answered),
            "against": None if self.against is None else _plain(self.against),
            "also": None if self.forgetting is None else _plain(self.forgetting),
            "mistakes": [_record(one) for one in self.mistakes],
        }


def lines_of(found: Found) -> Iterator[str]:
    """A table for people."""
    here, asked = found.answered, found.asked
    chosen = "" if len(asked.questions) == asked.of else f" of {asked.of:,}, drawn by the seed"
    yield f"{found.split} split of {found.data}: {plural(len(asked.questions), 'question')}{chosen}; intervals hold with 95 % confidence"
    rows = [("exact match", _percent(here.shares.exact)), ("normalised match", _percent(here.shares.matched))]
    if here.loss is not None:
        rows.append(("loss on answers", _nats(here.loss)))
    error, interval = _percent(here.calibration.error)
    rows.append(("calibration error", (error, f"{interval}, sure to {here.calibration.confidence:.1%} on average")))
    yield from (f"  {name:<19} {value:>8}  {interval}".rstrip() for name, (value, interval) in rows)
    if here.unscored or here.cut or asked.unanswered:
        yield (
            f"  {plural(here.unscored, 'answer')} without one that could be scored, {here.cut:,} cut off at the longest length, "
            f"{plural(asked.unanswered, 'chat')} without an answer to compare with"
        )
    for name, values in here.groups.items():
        yield ""
        heads = (name, "questions", "exact", "normalised", "95 %")
        yield from right_aligned([heads, *(_group_row(value, shares) for value, shares in values.items())])
    if found.against is not None:
        yield ""
        yield from _against_lines(found.against, here)
    if found.forgetting is not None:
        yield ""
        yield from _forgetting_lines(found.forgetting)
    if found.mistakes:
        yield ""
        yield "wrong answers of which the model was surest, a token:"
        for one in found.mistakes:
            yield f"  {one.question.id}, sure to {one.answer.confidence:.1%}"
            for name, text in (
                ("asked", one.question.messages[-1].content),
                ("wanted", one.question.wanted),
                ("given", one.answer.text),
            ):
                yield f"    {name:<7} {_shortened(text)}"


def _group_row(value: str, shares: Shares) -> tuple[str, ...]:
    matched, interval = _percent(shares.matched)
    return value, f"{shares.questions:,}", _percent(shares.exact)[0], matched, interval


def _against_lines(other: Compared, here: Answered) -> Iterator[str]:
    there = other.answered
    yield f"against {other.name}:"
    value, interval = _percent(there.shares.matched)
    yield f"  normalised match there {value} {interval}; here {_signed(other.matched_difference, 100, ' points', 1)}"
    yield (
        f"  {other.only_here:,} answered here alone, {other.only_there:,} there alone: {p_text(other.p)} "
        "if both were equally good (McNemar, exact)"
    )
    if there.loss is not None and other.loss_difference is not None and here.loss is not None:
        yield f"  loss on answers there {there.loss.value:.4f}; here {_signed(other.loss_difference, 1, ' nats', 4)}"


def _forgetting_lines(found: Forgetting) -> Iterator[str]:
    yield f"on {found.name} ({found.split} split, {plural(found.targets, 'token')}), which this training was not about:"
    yield f"  loss before {found.before.value:.4f}, after {found.after.value:.4f}: {_signed(found.difference, 1, ' nats', 4)}"
    verdict = (
        "forgotten"
        if found.difference.low > 0
        else "better than before"
        if found.difference.high < 0
        else "no difference"
    )
    yield f"  {verdict}, as far as these rows can tell"


def _signed(one: Estimate, factor: float, unit: str, digits: int) -> str:
    value, low, high = (number * factor for number in one)
    return f"{value:+.{digits}f}{unit} ({low:+.{digits}f} to {high:+.{digits}f})"


def _percent(one: Estimate) -> tuple[str, str]:
    return f"{one.value:.1%}", f"({one.low:.1%} to {one.high:.1%})"


def _nats(one: Estimate) -> tuple[str, str]:
    return f"{one.value:.4f}", f"({one.low:.4f} to {one.high:.4f}) nats a target"


def _shortened(text: str) -> str:
    line = " ".join(printable(text).split())
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]}..."


def _plain(value: Any) -> Any:
    """Dataclasses as tables, estimates as tables of three numbers."""
    if isinstance(value, Estimate):
        return value._asdict()
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in cast(Mapping[str, Any], value).items()}
    return [_plain(inner) for inner in cast(list[Any], value)] if isinstance(value, list) else value


def _record(one: Given) -> dict[str, Any]:
    return {
        "id": one.question.id,
        "messages": [json_of(message) for message in one.question.messages],
        "wanted": one.question.wanted,
        "given": one.answer.text,
        "end": one.answer.end,
        "confidence": one.answer.confidence,
        "facts": dict(one.question.facts),
    }
