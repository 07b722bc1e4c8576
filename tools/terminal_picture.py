"""Draws what a command printed as an SVG picture of a terminal: `terminal_picture.py LOG SVG --title "make demo"`."""

import argparse
import re
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = 110


def picture(lines: list[str], title: str) -> str:
    """The lines in a window; nothing in the file is fetched from elsewhere."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    for line in lines:
        console.print(Text.from_ansi(line), overflow="crop", no_wrap=True)
    drawn = console.export_svg(title=title)
    # Rich names fonts on the web; the fallback in its style is every system's own.
    return re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL).replace("Fira Code", "monospace")


def main() -> None:
    """Read, keep the lines asked for, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path)
    parser.add_argument("svg", type=Path)
    parser.add_argument("--title", default="")
    parser.add_argument("--first", type=int, default=14, help="lines kept from the beginning")
    parser.add_argument("--last", type=int, default=34, help="lines kept from the end")
    options = parser.parse_args()
    lines = options.log.read_text(encoding="utf-8").splitlines()
    if len(lines) > options.first + options.last:
        lines = [*lines[: options.first], "   ...", *lines[-options.last :]]
    options.svg.parent.mkdir(parents=True, exist_ok=True)
    options.svg.write_text(picture(lines, options.title), encoding="utf-8")


main()
