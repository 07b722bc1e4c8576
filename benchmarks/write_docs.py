"""Puts measured tables into the documents: between `<!-- bench NAME -->` and `<!-- end -->` stands the table of that name.

Reads the newest full result of run_all.py, or the file that is named; a table it does not have is left as it is.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from run_all import RESULTS
from tables import Row, Table, shown
from targets import TARGETS

ROOT = Path(__file__).parents[1]
DOCUMENTS = (ROOT / "docs" / "performance.md", ROOT / "README.md")
# A table inside a list item is indented as its markers are.
MARKED = re.compile(r"^([ ]*)<!-- bench (\w+) -->\n.*?^[ ]*<!-- end -->$", re.DOTALL | re.MULTILINE)


def with_tables(text: str, tables: Mapping[str, str]) -> str:
    """The document with each marked place that we have a table for written anew."""

    def filled(match: re.Match[str]) -> str:
        indent, name = match[1], match[2]
        if name not in tables:
            return match[0]
        marked = f"<!-- bench {name} -->\n\n{tables[name]}\n\n<!-- end -->"
        return "\n".join(f"{indent}{line}".rstrip() for line in marked.split("\n"))

    return MARKED.sub(filled, text)


def summary(tables: Sequence[Table]) -> Table:
    """One line a promise: what was measured, from the least to the most where there are several figures."""
    values: dict[str, list[float]] = {}
    for row in (row for table in tables for row in table.rows if row.target and row.value is not None):
        values.setdefault(row.target, []).append(row.value)
    rows = [
        Row([name, " to ".join(dict.fromkeys(shown(float(bound)) for bound in (min(found), max(found)))), target.unit])
        for name, target in TARGETS.items()
        if (found := values.get(name))
    ]
    return Table("summary", "Measured by the scripts of `benchmarks/`", ["what", "measured", ""], rows)


def rendered(result: Mapping) -> dict[str, str]:
    """Name -> markdown; `machine` is the line that says what the figures hold for."""
    facts = result["circumstances"]
    machine = (
        f"Measured {result['created_at'][:10]} on {facts['processor']}, {facts['usable_cores']:g} cores "
        f"({', '.join(facts['features'])}), torch {facts['torch']}, Python {facts['python']}, "
        f"at {facts['commit']}."
    )
    tables = [Table.from_json(table) for table in result["tables"]]
    judged = [table for table in tables if table.name != "verdicts"]
    return {table.name: table.markdown() for table in [*tables, summary(judged)]} | {"machine": machine}


def newest_full(folder: Path) -> Path | None:
    """The last result that holds every script, measured fully; one of a part would put its date over the others' figures."""
    return max((file for file in folder.glob("*.json") if "-" not in file.stem), default=None)


def main() -> int:
    """Write both documents."""
    parser = argparse.ArgumentParser(description="measured tables into the documents")
    parser.add_argument("result", nargs="?", type=Path, help="a JSON of run_all.py; else the newest full one")
    options = parser.parse_args()
    result: Path | None = options.result or newest_full(RESULTS)
    if result is None:
        sys.exit(f"there is no full result under {RESULTS}; run `make bench` first")
    tables = rendered(json.loads(result.read_text(encoding="utf-8")))
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
