"""Numbers and texts as people read them; nothing here can disturb a terminal. And numbers as every JSON reader takes them."""

import json
import math
import unicodedata
from collections.abc import Mapping
from typing import Any, cast

MINUTE, HOUR, DAY = 60, 3600, 86400
HUGE_LOSS = 1e5
"""Nats above which decimals tell nothing."""


def duration(seconds: float | None) -> str:
    """`42 s`, `12m 05s`, `3h 07m`, `2d 04h`; `?` when it is not known."""
    if seconds is None or not math.isfinite(seconds):
        return "?"
    whole = max(0, round(seconds))
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE}m {whole % MINUTE:02d}s"
    if whole < DAY:
        return f"{whole // HOUR}h {whole % HOUR // MINUTE:02d}m"
    return f"{whole // DAY}d {whole % DAY // HOUR:02d}h"


def count(number: float | None) -> str:
    """Three figures and a decimal prefix: `950`, `12.3 k`, `10.6 M`, `1.24 G`; `?` when it is not known."""
    if number is None or not math.isfinite(number):
        return "?"
    for power, prefix in ((12, " T"), (9, " G"), (6, " M"), (3, " k")):
        # 999.5 and more would round to four figures of the prefix below.
        if abs(number) >= 0.9995 * 10**power:
            return f"{number / 10**power:#.3g}".rstrip(".") + prefix
    return f"{number:.3g}"


def loss_text(loss: float) -> str:
    """Four decimals; of a huge one four figures: `2.5000`, `7.213e+14`, `nan`."""
    return f"{loss:.4f}" if abs(loss) < HUGE_LOSS else f"{loss:.4g}"


def plural(number: float, noun: str, many: str = "") -> str:
    """`1 minute`, `0.5 minutes`, `3,000 saves`; `many` where an s is not enough: `2 entries`."""
    digits = f"{number:,}" if isinstance(number, int) else f"{number:g}"
    return f"{digits} {noun if number == 1 else many or f'{noun}s'}"


def parameters_text(every: int, trained: int) -> str:
    """How many numbers a model has, and how many of them are trained where that is less."""
    return (
        f"{every:,}" if trained == every else f"{every:,}, of which {trained:,} trained ({100 * trained / every:.2g} %)"
    )


def printable(text: str, encoding: str = "utf-8") -> str:
    """The text without what steers a terminal, and with `?` for what its encoding lacks.

    A model that writes bytes may write escape sequences too. Line ends and tabs stay.
    """
    clean = "".join(
        letter if letter in "\n\t" or unicodedata.category(letter)[0] != "C" else "\N{REPLACEMENT CHARACTER}"
        for letter in text
    )
    return clean.encode(encoding, "replace").decode(encoding)


def json_text(value: Any) -> str:
    """One line of JSON; NaN and infinities, which JSON lacks, become null.

    Raises:
        TypeError: It holds something that is no JSON value.
    """
    return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in cast(Mapping[str, Any], value).items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in cast(list[Any], value)]
    return value
