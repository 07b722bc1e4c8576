"""Puts measured tables into the documents: between `<!-- bench NAME -->` and `<!-- end -->` stands the table of that name.

Reads the newest full result of run_all.py, or the file that is named; a table it does not have is left as it is.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from run_all import RESULTS
from tables import Table

ROOT = Path(__file__).parents[1]
DOCUMENTS = (ROOT / "docs" / "performance.md", ROOT / "README.md")
MARKED = re.compile(r"(<!-- bench (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(text: str, tables: Mapping[str, str]) -> str:
    """The document with each marked place that we have a table for written anew."""

    def filled(match: re.Match[str]) -> str:
        name = match[2]
        return f"{match[1]}{tables[name]}\n{match[3]}" if name in tables else match[0]

    return MARKED.sub(filled, text)


def rendered(result: Mapping) -> dict[str, str]:
    """Name -> markdown; `machine` is the line that says what the figures hold for."""
    facts = result["circumstances"]
    machine = (
        f"Measured {result['created_at'][:10]} on {facts['processor']}, {facts['usable_cores']:g} cores "
        f"({', '.join(facts['features'])}), torch {facts['torch']}, Python {facts['python']}, "
        f"at {facts['commit']}, by `make bench`."
    )
    return {table["name"]: Table.from_json(table).markdown() for table in result["tables"]} | {"machine": machine}


def main() -> int:
    """Write both documents."""
    parser = argparse.ArgumentParser(description="measured tables into the documents")
    parser.add_argument("result", nargs="?", type=Path, help="a JSON of run_all.py; else the newest full one")
    options = parser.parse_args()
    full = sorted(file for file in RESULTS.glob("*.json") if "quick" not in file.name)
    if options.result is None and not full:
        sys.exit(f"there is no full result under {RESULTS}; run `make bench` first")
    tables = rendered(json.loads((options.result or full[-1]).read_text(encoding="utf-8")))
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        document.write_text(with_tables(text, tables), encoding="utf-8")
        found = [match[2] for match in MARKED.finditer(text)]
        absent = [name for name in found if name not in tables]
        print(
            f"{document.name}: {len(found) - len(absent)} tables written; not measured: {', '.join(absent) or 'none'}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
