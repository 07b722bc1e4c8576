"""The texts of `mlp sample` on a screen or in a pipe, as they grow."""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import typer

from ml_playground.core.deps import never
from ml_playground.core.humanise import plural, printable

if TYPE_CHECKING:
    from ml_playground.sampling.texts import Piece

SEPARATOR = "---------------"
"""Stands on a line of its own between two texts."""


@dataclass(slots=True)
class Text:
    """A continuation as far as it was drawn."""

    prompt: str
    sample: int
    text: str = ""
    tokens: int = 0
    end: Literal["length", "stop", "interrupted"] = "interrupted"
    score: float | None = None
    """Of a beam search, in nats."""
    statistics: Sequence[Mapping[str, Any]] = ()
    """What each processor of the run's profile did, beside its label."""
    wanted: str | None = None
    """The answer of the data, where the prompt is one of its held-out questions."""
    lead: str | None = None
    """What is shown before it; none: the prompt."""


def gather(
    pieces: "Iterable[Piece]",
    texts: list[Text],
    num_samples: int,
    screen: "Screen | None",
    stop_requested: Callable[[], bool] = never,
) -> list[Text]:
    """Fill the texts piece by piece, shown as they grow; those that a stop left without a token are dropped."""
    for piece in pieces:
        text = texts[piece.prompt * num_samples + piece.sample]
        text.text += piece.text
        text.tokens = piece.tokens
        text.end, text.score, text.statistics = piece.end or "interrupted", piece.score, piece.statistics
        if screen is not None:
            screen.show()
        if stop_requested():
            break
    if ended := [text for text in texts if text.end == "stop" and not text.tokens]:
        other = "--prompt ''" if any(text.prompt for text in ended) else "another --prompt"
        typer.echo(f"note: the model ended {len(ended)} of {plural(len(texts), 'text')} at once; try {other}", err=True)
    whole = sum(text.end != "interrupted" for text in texts)
    if whole < len(texts):
        texts = [text for text in texts if text.tokens or text.end != "interrupted"]
        if screen is not None:
            screen.show_rest(texts)
        typer.echo(f"interrupted: {whole} whole and {len(texts) - whole} unfinished texts", err=True)
    return texts


class Screen:
    """Texts on stdout, one after the other: the first unfinished one as it grows, later ones when their turn comes."""

    def __init__(self, texts: Sequence[Text]) -> None:
        self._texts = texts
        self._at = 0
        self._shown = 0

    def show(self) -> None:
        """Write what has become known."""
        while self._at < len(self._texts):
            self._write_current()
            if self._texts[self._at].end == "interrupted":
                return
            self._leave()

    def show_rest(self, texts: Sequence[Text]) -> None:
        """Write all there is, finished or not; `texts` lack what has not begun, which lies behind the current one."""
        while self._at < len(texts):
            self._texts = texts
            self._write_current()
            self._leave()

    def _write_current(self) -> None:
        text = whole_text(self._texts[self._at])
        if self._shown == 0 and self._at > 0:
            write_text(f"{SEPARATOR}\n")
        write_text(text[self._shown :])
        self._shown = len(text)

    def _leave(self) -> None:
        if not whole_text(self._texts[self._at]).endswith("\n"):
            write_text("\n")
        self._at += 1
        self._shown = 0


def whole_text(text: Text) -> str:
    """The prompt and what follows it; of a held-out question, also what would be right."""
    lead = text.prompt if text.lead is None else text.lead
    wanted = f"\nwanted: {text.wanted}" if text.wanted is not None and text.end != "interrupted" else ""
    return lead + text.text + wanted


def processor_lines(texts: Sequence[Text]) -> list[str]:
    """What the processors did to all texts together: their counts, summed; nothing of those that did nothing."""
    found: dict[str, Counter[str]] = {}
    for text in texts:
        for statistics in text.statistics:
            counts = found.setdefault(str(statistics["label"]), Counter())
            # How long a text is, and how strong a bias, is said of every text; what happened is counted.
            counts.update(
                {key: value for key, value in statistics.items() if isinstance(value, int) and key != "drawn" and value}
            )
    return [
        f"processor {label}: {', '.join(f'{key} {value:,}' for key, value in counts.items())}"
        for label, counts in found.items()
        if counts
    ]


def write_text(text: str) -> None:
    """To stdout at once, in a form that cannot disturb a terminal."""
    encoding = sys.stdout.encoding or "utf-8"
    # A model of bytes may write what steers a terminal; a pipe gets what was drawn, but for what its encoding lacks.
    safe = printable(text, encoding) if sys.stdout.isatty() else text.encode(encoding, "replace").decode(encoding)
    typer.echo(safe, nl=False, color=True)
