"""What a report shows of a classifier: accuracy, confusions, the worst mistakes; and where its images went. All as HTML."""

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from ml_playground.core.classification import Classification, Mistake
from ml_playground.core.error_handling import RunError
from ml_playground.core.foreign_files import read_at_most
from ml_playground.core.run_folder import RunFolder
from ml_playground.core.run_schema import complaint
from ml_playground.monitoring.png import data_uri, png
from ml_playground.monitoring.report_parts import number_text, table_at, text, text_section

SIDE = 72
"""Pixels of a screen along the longer side of a mistake."""


def evaluation_sections(found: Sequence[Classification]) -> str:
    """A section for each split that was evaluated."""
    return "\n".join(_section(one) for one in found)


def _section(one: Classification) -> str:
    rows = [
        ("model", one.accuracy, one.loss),
        *((name, base.accuracy, base.loss) for name, base in one.baselines.items()),
    ]
    table = "\n".join(
        f'<tr><th>{text(name)}</th><td class="number">{percent(accuracy)}</td>'
        f'<td class="number">{"-" if loss is None else f"{loss:.4f}"}</td></tr>'
        for name, accuracy, loss in rows
    )
    head = (
        f"<h2>{text(one.split)} images: {percent(one.accuracy)} recognised</h2>"
        f'<p class="quiet">{one.images:,} images; between {percent(one.low)} and {percent(one.high)} with 95 % confidence; '
        f"weights of step {one.step:,}.</p>"
    )
    return (
        f'<section>{head}<div class="scroll"><table><thead><tr><th></th><th class="number">accuracy</th>'
        f'<th class="number">nats per image</th></tr></thead><tbody>\n{table}\n</tbody></table></div>'
        f"{_confusion(one)}{_sheet(one)}</section>"
    )


def percent(share: float | None) -> str:
    """`98.89 %`; a dash where there is nothing to share."""
    return "-" if share is None else f"{100 * share:.2f} %"


def _confusion(one: Classification) -> str:
    """A table of the classes against what they were taken for, darker where more images are."""
    if not one.confusion:
        return ""
    names = [text(name) for name in one.classes]
    heads = "".join(f'<th class="number">{name}</th>' for name in names)
    precisions = one.precisions()
    rows = "\n".join(
        f"<tr><th>{names[place]}</th>{_cells(row, place)}"
        f'<td class="number">{percent(recall)}</td><td class="number">{percent(precisions[place])}</td></tr>'
        for place, (row, recall) in enumerate(zip(one.confusion, one.recalls(), strict=True))
    )
    return (
        '<h3>What is taken for what</h3><p class="quiet">A row for each class, a column for each that the model said; recall is the '
        "share of a class that was recognised, precision the share of right ones among what was taken for it.</p>"
        f'<div class="scroll"><table class="confusion"><thead><tr><th></th>{heads}<th class="number">recall</th>'
        f'<th class="number">precision</th></tr></thead><tbody>\n{rows}\n</tbody></table></div>'
    )


def _cells(row: Sequence[int], place: int) -> str:
    """The cells of a class; the strength of their colour is their share of the row."""
    whole = max(1, sum(row))
    return "".join(
        f'<td class="number {"right" if column == place else "wrong"}" style="--share:{count / whole:.3f}">{count or ""}</td>'
        for column, count in enumerate(row)
    )


def _sheet(one: Classification) -> str:
    """The worst mistakes as images."""
    pictures = "".join(_figure(mistake, one) for mistake in one.mistakes)
    if not pictures:
        return "" if one.mistakes else '<p class="quiet">No image was mistaken.</p>'
    return (
        f'<h3>The worst mistakes</h3><p class="quiet">What each is, what the model takes it for, and how sure it is; '
        f'the highest loss first.</p><div class="mistakes">{pictures}</div>'
    )


def _figure(mistake: Mistake, one: Classification) -> str:
    try:
        pixels = base64.b64decode(mistake.pixels, validate=True)
    except binascii.Error:
        return ""
    if len(pixels) != one.channels * one.height * one.width:
        return ""
    image = data_uri(png(pixels, channels=one.channels, height=one.height, width=one.width))
    longer = max(one.height, one.width)
    size = f'width="{max(1, SIDE * one.width // longer)}" height="{max(1, SIDE * one.height // longer)}"'
    words = f"{mistake.name} taken for {mistake.predicted}"
    return (
        f'<figure><img src="{image}" {size} alt="{text(words)}"><figcaption><b>{text(mistake.name)}</b> '
        f"as {text(mistake.predicted)}<br>{percent(mistake.probability)}, no. {mistake.number:,}</figcaption></figure>"
    )


def data_section(environment: Mapping[str, Any]) -> str:
    """Where the text or the images went, as the trainer wrote it down; nothing for a run that did not."""
    books = table_at(environment, "data")
    splits = table_at(books, "ledger", "splits")
    if not any("by_class" in table_at(splits, split) for split in splits):
        return text_section(environment)
    rows = "\n".join(_split_rows(books, splits))
    copies, contradicting = (table_at(books, "ledger").get(name) for name in ("copies", "contradicting_copies"))
    dropped = " (dropped)" if table_at(books, "ledger", "dropped") else ""
    return (
        '<section><h2>Images</h2><div class="scroll"><table><thead><tr><th></th><th class="number">images</th>'
        '<th class="number">trained in an epoch</th><th class="number">fewest of a class</th><th class="number">most of a class</th>'
        f'</tr></thead><tbody>\n{rows}\n</tbody></table></div><p class="quiet">Copies of earlier images: {number_text(copies)}{dropped}, '
        f"of another class: {number_text(contradicting)}.</p></section>"
    )


def _split_rows(books: Mapping[str, Any], splits: Mapping[str, Any]) -> Iterator[str]:
    for split in splits:
        found = table_at(splits, split).get("by_class")
        entries = cast(list[Any], found) if isinstance(found, list) else []
        counts = [count for count in entries if isinstance(count, int)]
        trained = table_at(books, "epoch", split).get("trained")
        cells = (sum(counts), trained, min(counts, default=None), max(counts, default=None))
        numbers = "".join(f'<td class="number">{number_text(cell)}</td>' for cell in cells)
        yield f"<tr><th>{text(split)}</th>{numbers}</tr>"


def read_evaluations(run: RunFolder) -> list[Classification]:
    """Those of a run's folder, in the order of their names.

    Raises:
        RunError: A file is damaged; names it.
    """
    found: list[Classification] = []
    for path in sorted(run.evaluations.glob("*.json")):
        try:
            found.append(Classification.model_validate_json(read_at_most(path)))
        except OSError as error:
            raise RunError(f"{path} cannot be read: {error.strerror}; restore it from a copy, or delete it") from error
        except ValueError as error:
            raise RunError(f"{path} is not what `mlp evaluate` writes there: {complaint(error)}; delete it") from error
    return found
