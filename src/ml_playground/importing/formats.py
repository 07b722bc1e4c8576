"""Which format a file is in, and the job that it becomes: checked as any job, with a word on every key."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ml_playground.configuration.documents import Document, read_document
from ml_playground.configuration.loading import SHIPPED
from ml_playground.configuration.models import JobConfig
from ml_playground.configuration.origins import WORD_FOR_NONE, Layer, Merged, merge
from ml_playground.configuration.overrides import set_layer
from ml_playground.configuration.problems import ConfigProblemsError, validated
from ml_playground.configuration.schema import KeyPath, node_at
from ml_playground.core.error_handling import ConfigError
from ml_playground.importing import craft, nanogpt, older, training
from ml_playground.importing.book import Book, Finding, Foreign
from ml_playground.importing.python_file import read_assignments

KNOWN = "nanoGPT's config files (.py), TRAINING's config.json, Craft's composed YAML, and the older ml_playground's TOML are read"

MOST_FOUND = 5
"""Keys that a message names."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A foreign file as a job of ours."""

    system: str
    file: Path
    table: Mapping[str, Any]
    """What a config.toml says beside the settings that all experiments share."""
    findings: Sequence[Finding]
    job: JobConfig


def import_file(file: Path, sets: Sequence[str] = (), cwd: Path | None = None) -> Imported:
    """Read a foreign configuration, and check what it becomes.

    Args:
        file: nanoGPT's .py, TRAINING's .json, Craft's .yaml, the older ml_playground's .toml.
        sets: `KEY=VALUE` of ours, laid over what is imported.
        cwd: Paths in `sets` count from here; none: the working directory.

    Raises:
        ConfigError: Unknown format, wrong types, values that no job takes; names the file and the line.
    """
    book = _book_of(file)
    _expect_known(book)
    layers = [
        Layer("name", {"name": "imported"}, file.parent),
        _shared(),
        Layer("imported", book.table, file.absolute().parent, file, book.lines),
    ]
    here = cwd or Path.cwd()
    over, problems = set_layer(sets, here, merge(layers).tree)
    if "use" in over.table:
        problems.append(
            "--set use: groups lie under what a file says, and this one says all of it; set the keys themselves"
        )
    if problems:
        raise ConfigProblemsError(problems)
    merged = merge([*layers, over])
    try:
        job = validated(merged)
    except ConfigProblemsError as error:
        # What contradicts each other stands on no line.
        lines = [text if str(file) in text else f"{file}: {text}" for text in error.problems]
        raise ConfigProblemsError(lines) from None
    return Imported(book.foreign.system, file, _written(book.table, over, merged), book.findings, job)


def _shared() -> Layer:
    file = SHIPPED / "default_config.toml"
    document = read_document(file)
    return Layer("default_config", document.table, file.parent, file, document.lines)


def _book_of(file: Path) -> Book:
    if file.suffix.lower() == ".py":
        return nanogpt.translate(read_assignments(file, nanogpt.SYSTEM))
    if file.suffix.lower() not in (".json", ".yaml", ".yml", ".toml"):
        raise ConfigError(f"{file}: is in no known format: {KNOWN}")
    document = read_document(file)
    if "kind" in _table_at(document, "model") or "kind" in _table_at(document, "optimizer") or "use" in document.table:
        raise ConfigError(f"{file}: is a configuration of this program already; nothing is to be imported")
    if file.suffix.lower() == ".toml":
        _expect(file, document, {"train", "sample", "prepare"}, older.SYSTEM)
        return older.translate(_foreign(older.SYSTEM, file, document))
    if file.suffix.lower() == ".json":
        flat = {key for key in training.FLAT if "." not in key}
        _expect(file, document, {"hyperparams", "model", "data", *flat}, training.SYSTEM)
        return training.translate(_foreign(training.SYSTEM, file, document))
    _expect(file, document, {"experiment", "model", "training", "data", "optimizer"}, craft.SYSTEM)
    return craft.translate(_foreign(craft.SYSTEM, file, document))


def _expect(file: Path, document: Document, names: set[str], system: str) -> None:
    if not names & set(document.table):
        got = ", ".join(sorted(document.table)[:5]) or "nothing"
        raise ConfigError(f"{file}: holds {got}, and nothing that a file of {system} holds; {KNOWN}")


def _expect_known(book: Book) -> None:
    """A file of which nothing is known would become a job of its system's defaults alone, which nobody has asked for."""
    if {*book.foreign.values, *book.foreign.unset} <= book.unknown.keys():
        got = ", ".join(f"{key}{meant and f' ({meant})'}" for key, meant in list(book.unknown.items())[:MOST_FOUND])
        more = ", ..." if len(book.unknown) > MOST_FOUND else ""
        raise ConfigError(
            f"{book.foreign.file}: holds {got or 'nothing'}{more}, and nothing that a file of {book.foreign.system} holds "
            f"(such as {', '.join(book.some_known)}); {KNOWN}"
        )


def _table_at(document: Document, name: str) -> Mapping[str, Any]:
    table = document.table.get(name)
    return cast(Mapping[str, Any], table) if isinstance(table, dict) else {}


def _foreign(system: str, file: Path, document: Document) -> Foreign:
    values: dict[str, Any] = {}
    _flatten(document.table, (), values)
    stated = {key: value for key, value in values.items() if value is not None}
    lines = {".".join(path): line for path, line in document.lines.items()}
    return Foreign(system, file, stated, lines, [key for key in values if key not in stated])


def _flatten(node: Any, path: KeyPath, values: dict[str, Any]) -> None:
    """Dotted keys of plain values; of lists of numbers too, by their index. Documents are not deep: their reader saw to it."""
    if isinstance(node, dict) and (node or not path):
        for name, value in cast(dict[str, Any], node).items():
            _flatten(value, (*path, name), values)
    elif isinstance(node, list) and path[-1] == "betas":
        for index, value in enumerate(cast(list[Any], node)):
            _flatten(value, (*path, str(index)), values)
    else:
        values[".".join(path)] = node


def _written(imported: Mapping[str, Any], over: Layer, merged: Merged) -> dict[str, Any]:
    """What is imported, and what lies over it, with its paths as they count here; nothing that the upper one took back."""
    table = _laid(imported, _settled(over.table, (), merged.tree))
    for path, chain in merged.chains.items():
        holder: Any = node_at(path[:-1], table)
        if chain[-1].action == "cleared" and isinstance(holder, dict):
            cast(dict[str, Any], holder).pop(path[-1], None)
    return table


def _settled(table: Mapping[str, Any], path: KeyPath, tree: Mapping[str, Any]) -> dict[str, Any]:
    settled: dict[str, Any] = {}
    for name, value in table.items():
        if isinstance(value, Mapping):
            settled[name] = _settled(cast(Mapping[str, Any], value), (*path, name), tree)
        else:
            found = node_at((*path, name), tree)
            settled[name] = WORD_FOR_NONE if found is None else found
    return settled


def _laid(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """One table over another; another kind replaces the whole table."""
    if "kind" in upper and upper["kind"] != lower.get("kind"):
        return dict(upper)
    laid = dict(lower)
    for name, value in upper.items():
        below = laid.get(name)
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        laid[name] = _laid(cast(Mapping[str, Any], below), cast(Mapping[str, Any], value)) if both else value
    return laid
