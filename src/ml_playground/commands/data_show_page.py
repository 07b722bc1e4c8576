"""Rows of tokens as one page that opens anywhere, without a script and without a network."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ml_playground.commands.data_show_text import head_of, name_of
from ml_playground.core.humanise import printable
from ml_playground.data_pipeline.shown_rows import ShownDocument, ShownRow, ShownToken
from ml_playground.monitoring.plots import text as escaped
from ml_playground.monitoring.report import ASSETS

BARS = 24
"""Of the histogram of lengths."""

STYLE = """
.tokens { font: 14px/1.9 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
.tokens span { color: var(--quiet); border-radius: .2rem; }
.tokens .target { color: var(--good); background: var(--good-ground); }
.tokens .less { color: var(--plain); background: var(--plain-ground); }
.tokens .more { color: var(--bad); background: var(--bad-ground); }
.tokens .special { text-decoration: underline; }
#borders:checked ~ section .tokens span { outline: 1px solid var(--line); }
#ids:checked ~ section .tokens span::after { content: attr(data-id); font-size: .65em; vertical-align: super; opacity: .7; }
.legend span { padding: 0 .4rem; margin-right: .6rem; }
.card { margin-bottom: 1rem; }
.bars { display: flex; align-items: flex-end; gap: 2px; height: 6rem; }
.bars div { flex: 1; background: var(--accent); min-height: 1px; }
"""


def page_of(
    title: str, summary: str, rows: Sequence[ShownRow], of_rows: int, lengths: NDArray[np.int64], *, noun: str
) -> str:
    """The page. Texts are escaped where they become HTML.

    Args:
        title: Of the data.
        summary: What they are, in one line.
        rows: Those that are shown.
        of_rows: How many there are.
        lengths: Tokens of each chat, or window.
        noun: Which of the two.
    """
    style = (ASSETS / "report.css").read_text(encoding="utf-8") + STYLE
    cards = "\n".join(_card(row, of_rows) for row in rows)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<title>{_safe(title)}</title><style>{style}</style></head><body>
<p class="kicker">rows</p><h1>{_safe(title)}</h1><p>{_safe(summary)}</p>
<p class="legend tokens"><span class="target">target</span><span class="less">of less weight</span><span class="more">of more</span
><span>read, never a target</span><span class="special">special token</span></p>
<input type="checkbox" id="borders"><label for="borders"> borders of tokens</label>
<input type="checkbox" id="ids"><label for="ids"> ids</label>
<section><h2>Rows</h2>
{cards or '<p class="quiet">There are none.</p>'}
</section>
<section><h2>Length of {_safe(noun)}s</h2>
{_histogram(lengths, noun)}
</section>
</body></html>
"""


def _card(row: ShownRow, of_rows: int) -> str:
    documents = "\n".join(_document(document) for document in row.documents)
    return f'<div class="card"><h3>{_safe(head_of(row, of_rows))}</h3>\n{documents}\n</div>'


def _document(document: ShownDocument) -> str:
    tokens = "".join(map(_token, document.tokens))
    return f'<p class="quiet">{_safe(name_of(document))}</p><div class="tokens">{tokens}</div>'


def _token(token: ShownToken) -> str:
    classes = " ".join([*_classes_of(token.weight), *(["special"] if token.special else [])])
    # The end of a line can be a target and is seen as one.
    shown = _safe(token.text).replace("\n", "↵\n")
    return f'<span class="{classes}" data-id="{token.id}" title="id {token.id}, weight {token.weight:g}">{shown}</span>'


def _classes_of(weight: float) -> Iterator[str]:
    if weight > 0:
        yield "target" if weight == 1 else "less" if weight < 1 else "more"


def _histogram(lengths: NDArray[np.int64], noun: str) -> str:
    """Bars of equally long stretches, each with its count as a title."""
    if not len(lengths):
        return ""
    counts, edges = np.histogram(lengths, bins=min(BARS, int(np.ptp(lengths)) + 1))
    most = int(counts.max())
    bars = "".join(
        f'<div style="height:{100 * count / most:.2f}%" title="{low:.0f} to {high:.0f} tokens: {count:,}"></div>'
        for count, low, high in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    )
    ends = f"{int(lengths.min()):,} to {int(lengths.max()):,} tokens; the highest bar is {most:,} {noun}s"
    return f'<div class="bars">{bars}</div><p class="quiet">{ends}</p>'


def _safe(value: str) -> str:
    return escaped(printable(value))
