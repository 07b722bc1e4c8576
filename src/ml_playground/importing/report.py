"""What an import prints: a config.toml whose lines say where they come from, and what became of every key."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

from ml_playground.configuration.rendering import COMMENT_COLUMN, toml_key, toml_value
from ml_playground.configuration.schema import KeyPath
from ml_playground.core.humanise import printable
from ml_playground.importing.book import Computed, Finding
from ml_playground.importing.formats import Imported

LONGEST_VALUE = 60


def as_toml(imported: Imported) -> str:
    """A config.toml; each line with the key it comes from, what was left out below."""
    origins = {key: finding for finding in imported.findings for key in finding.ours}
    lines = [f"# Imported from {imported.file.name}, a file of {imported.system}."]
    lines += _table((), imported.table, origins)
    left = [finding for finding in imported.findings if finding.fate == "left out"]
    if left:
        lines += ["", "# Left out:"]
        lines += [f"# {finding.key} = {_value(finding.value)}: {finding.reason}" for finding in left]
    return printable("\n".join(lines)) + "\n"


def _table(path: KeyPath, table: Mapping[str, Any], origins: Mapping[str, Finding]) -> Iterator[str]:
    values = {name: value for name, value in table.items() if not isinstance(value, Mapping)}
    if path and values:
        whole = origins.get(".".join(path))
        yield ""
        yield f"{f'[{toml_key(path)}]':<{COMMENT_COLUMN}} {_origin(whole)}".rstrip()
    for name in sorted(values, key=lambda name: name != "kind"):
        text = f"{toml_key((name,))} = {toml_value(values[name])}"
        yield f"{text:<{COMMENT_COLUMN}} {_origin(origins.get('.'.join((*path, name))))}".rstrip()
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _table((*path, name), cast(Mapping[str, Any], value), origins)


def _origin(finding: Finding | None) -> str:
    if finding is None:
        return ""
    if not finding.key:
        return f"# {finding.reason}"
    where = f"line {finding.line}" if finding.line else "by default"
    return f"# {finding.key}, {where}" + (f": {finding.reason}" if finding.reason else "")


def as_text(imported: Imported) -> str:
    """For people: how many keys were kept, which were changed and which left out, each with its reason."""
    stated = [finding for finding in imported.findings if finding.key]
    rows: list[str] = []
    for fate, title in (("changed", "changed"), ("left out", "left out: no counterpart, or not needed")):
        found = [finding for finding in imported.findings if finding.fate == fate]
        if found:
            rows += ["", f"{title}"]
            rows += [f"  {_line(finding)}" for finding in found]
    kept = sum(finding.fate == "kept" for finding in stated)
    defaults = sum(finding.line is None and finding.fate == "kept" for finding in stated)
    head = (
        f"{imported.file.name}: a file of {imported.system}; {kept} of {len(stated)} keys mean the same here"
        f" ({defaults} of them are its defaults, which the file does not state)"
    )
    return printable("\n".join([head, *rows]))


def _line(finding: Finding) -> str:
    ours = f" -> {', '.join(finding.ours)}" if finding.ours else ""
    if not finding.key:
        return f"(always){ours}: {finding.reason}"
    where = f"line {finding.line}: " if finding.line else ""
    stated = f"{finding.key} = {_value(finding.value)}" if finding.value is not None else finding.key
    return f"{where}{stated}{ours}: {finding.reason}"


def _value(value: Any) -> str:
    text = value.code if isinstance(value, Computed) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."


def as_json(imported: Imported) -> dict[str, Any]:
    """For programs."""
    return {
        "system": imported.system,
        "file": str(imported.file),
        "config": dict(imported.table),
        "findings": [
            {
                "key": finding.key or None,
                "line": finding.line,
                "value": finding.value.code if isinstance(finding.value, Computed) else finding.value,
                "fate": finding.fate,
                "ours": list(finding.ours),
                "reason": finding.reason,
            }
            for finding in imported.findings
        ],
        "toml": as_toml(imported),
    }
