"""All that `mlp analyze quality` finds about some drawn texts, as JSON and as lines to read."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from ml_playground.analysis.copies import Copy, Search, copied_share
from ml_playground.analysis.quality import (
    Anomaly,
    Headers,
    Lines,
    Ngrams,
    anomalies_of,
    headers_of,
    lines_of,
    ngrams_of,
    words_of,
)
from ml_playground.core.humanise import plural, printable

SHOWN = 5
"""Entries of a list that are shown to a reader; JSON has them all."""
EXCERPT = 70
"""Characters of a copied stretch that are shown."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How closely to look."""

    ngram: int = 3
    """Words of a run."""
    copy_characters: int = 50
    """From which length on a stretch of the training text counts as copied."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What of the texts stands in the training text."""

    share: float
    """Of the characters, those in copied stretches; NaN without characters."""
    held_out_share: float | None
    """The same of as much held-out text: how much any text repeats the other; none: there is no held-out text."""
    known_words: float
    """Share of the words that occur in the training text, small letters and capitals alike; NaN without words."""
    unknown_words: Mapping[str, int]
    """The most frequent others."""
    copies: Sequence[Mapping[str, Any]]
    """Longest first: text, start, length, source, and the stretch itself."""


@dataclass(frozen=True, slots=True)
class Quality:
    """What was found."""

    origin: str
    """Where the texts come from."""
    texts: int
    characters: int
    words: int
    distinct_words: int
    settings: Settings
    headers: Headers
    lines: Lines
    ngrams: Ngrams
    anomalies: Sequence[Anomaly]
    copied: Copied | None
    """None where no training text was at hand."""
    notes: Sequence[str] = ()

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        shares = {"lines": self.lines.distinct_share, "ngrams": self.ngrams.distinct_share}
        plain = asdict(self)
        for part, share in shares.items():
            plain[part]["distinct_share"] = share
        return plain


def quality_of(
    texts: Sequence[str],
    origin: str,
    settings: Settings,
    *,
    training: Iterable[str] | None = None,
    held_out: Callable[[], Iterable[str]] | None = None,
    notes: Sequence[str] = (),
) -> Quality:
    """Look at some texts.

    Args:
        texts: Each by itself.
        origin: Where they come from.
        settings: How closely to look.
        training: The text that the model was trained on, in pieces; read once. None: copies are not looked for.
        held_out: A text of the same source that it was not trained on, to compare with.
        notes: What its user should know.
    """
    words = [word for text in texts for word in words_of(text)]
    return Quality(
        origin=origin,
        texts=len(texts),
        characters=sum(map(len, texts)),
        words=len(words),
        distinct_words=len({word.lower() for word in words}),
        settings=settings,
        headers=headers_of(texts),
        lines=lines_of(texts),
        ngrams=ngrams_of(texts, settings.ngram),
        anomalies=anomalies_of(texts),
        copied=None if training is None else _copied(texts, words, settings, training, held_out),
        notes=notes,
    )


def _copied(
    texts: Sequence[str],
    words: Sequence[str],
    settings: Settings,
    training: Iterable[str],
    held_out: Callable[[], Iterable[str]] | None,
) -> Copied:
    size = sum(map(len, texts))
    other = "" if held_out is None else "".join(_first(held_out(), size))
    search, beside = Search(texts, settings.copy_characters), Search([other], settings.copy_characters)
    missing = {word.lower() for word in words}
    rest = ""
    for piece in training:
        search.read(piece)
        beside.read(piece)
        if missing:
            # The last word may go on in the next piece.
            whole, rest = _whole_words(rest + piece)
            missing.difference_update(word.lower() for word in words_of(whole))
    missing.difference_update(word.lower() for word in words_of(rest))
    unknown = Counter(word.lower() for word in words if word.lower() in missing)
    copies = search.copies()
    return Copied(
        share=copied_share(texts, copies),
        held_out_share=copied_share([other], beside.copies()) if other else None,
        known_words=1 - unknown.total() / len(words) if words else float("nan"),
        unknown_words=dict(sorted(unknown.items(), key=lambda item: (-item[1], item[0]))[:15]),
        copies=[_shown(copy, texts) for copy in sorted(copies, key=lambda copy: (-copy.length, copy.text, copy.start))],
    )


def _first(pieces: Iterable[str], characters: int) -> Iterator[str]:
    for piece in pieces:
        yield piece[:characters]
        characters -= len(piece)
        if characters <= 0:
            return


def _whole_words(text: str) -> tuple[str, str]:
    """The text up to its last white space, and the rest."""
    at = max(text.rfind(" "), text.rfind("\n"))
    return text[: at + 1], text[at + 1 :]


def _shown(copy: Copy, texts: Sequence[str]) -> dict[str, Any]:
    return asdict(copy) | {"stretch": texts[copy.text][copy.start : copy.end]}


def lines_to_read(quality: Quality) -> Iterator[str]:
    """What a reader wants to know, the most telling first."""
    yield f"{quality.origin}: {plural(quality.texts, 'text')}, {quality.characters:,} characters, {quality.words:,} words"
    yield from (f"note: {note}" for note in quality.notes)
    if quality.copied is not None:
        yield from _copied_lines(quality.copied, quality.settings)
    lines, ngrams = quality.lines, quality.ngrams
    yield ""
    yield f"lines:     {lines.non_empty:,} that are not empty, {lines.distinct_share:.1%} of them different"
    if lines.longest_run > 1:
        yield f"           {lines.longest_run} equal ones in a row"
    yield from _counted(lines.repeated)
    yield f"{ngrams.length} words:   {ngrams.total:,} runs, {ngrams.distinct_share:.1%} of them different"
    yield from _counted(ngrams.repeated)
    headers = quality.headers
    if headers.texts:
        names = ", ".join(f"{printable(name)} ({count})" for name, count in islice(headers.names.items(), SHOWN))
        yield f"headers:   in {headers.texts} of {plural(quality.texts, 'text')}: {names}"
        for name, values in islice(headers.values.items(), SHOWN):
            yield f"           {printable(name)}: {', '.join(f'{printable(v)} ({n})' for v, n in islice(values.items(), SHOWN))}"
    if headers.years:
        yield f"years:     {', '.join(f'{year} ({count})' for year, count in headers.years.items())}"
    yield from _anomaly_lines(quality.anomalies)


def _copied_lines(copied: Copied, settings: Settings) -> Iterator[str]:
    beside = (
        ""
        if copied.held_out_share is None
        else f"; of as much held-out text {copied.held_out_share:.1%}, which is no copying"
    )
    yield ""
    yield (
        f"copied:    {copied.share:.1%} of the characters stand in stretches of {settings.copy_characters} or more "
        f"of the training text{beside}"
    )
    for copy in copied.copies[:SHOWN]:
        stretch = printable(copy["stretch"].replace("\n", " "))
        cut = stretch if len(stretch) <= EXCERPT else f"{stretch[:EXCERPT]}..."
        yield f"           {copy['length']:,} characters in text {copy['text']} (training text from {copy['source']:,}): {cut}"
    if len(copied.copies) > SHOWN:
        yield f"           and {len(copied.copies) - SHOWN} more (--json has all)"
    if copied.known_words == copied.known_words:  # NaN, where there are no words
        unknown = ", ".join(printable(word) for word in islice(copied.unknown_words, SHOWN * 2))
        yield f"words:     {copied.known_words:.1%} occur in the training text" + (
            f"; not: {unknown}" if unknown else ""
        )


def _counted(counts: Mapping[str, int]) -> Iterator[str]:
    for entry, count in islice(counts.items(), SHOWN):
        yield f"           {count} times: {printable(entry[:EXCERPT])}"


def _anomaly_lines(anomalies: Sequence[Anomaly]) -> Iterator[str]:
    if not anomalies:
        yield "odd:       nothing"
        return
    kinds = Counter(anomaly.code for anomaly in anomalies)
    yield f"odd:       {', '.join(f'{code} ({count})' for code, count in kinds.most_common())}"
    for anomaly in anomalies[: 2 * SHOWN]:
        yield f"           text {anomaly.text}: {anomaly.code}: {printable(anomaly.detail)}"
    if len(anomalies) > 2 * SHOWN:
        yield f"           and {len(anomalies) - 2 * SHOWN} more (--json has all)"
