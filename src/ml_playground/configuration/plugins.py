"""What a job names in `plugins`: files that bring kinds, and packages that must be installed.

A file is a program. It is loaded where its user names an experiment that names it; from then on its path is known, and a recorded
run that names it finds it. A run that came from elsewhere cannot have a file loaded that nobody here has ever named.
"""

import importlib.metadata
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from ml_playground.configuration.base import PLUGIN_FILE
from ml_playground.configuration.families import FAMILIES
from ml_playground.core.atomic import file as whole_file
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.foreign_files import json_table, read_at_most
from ml_playground.core.registry import Kind, did_you_mean, load_object
from ml_playground.core.run_folder import cache_folder

TABLE = "KINDS"
"""What a plugin file calls its kinds: family -> kind -> `core.registry.Kind`."""
_PACKAGE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")


class PluginError(ConfigError):
    """A plugin that a job names is not here, does not load, or brings nothing; by its name alone nobody knows where to get it."""


def bring(named: Any) -> None:
    """Load what the layers of an experiment name; files are known from now on. What is no list of texts is left for the validation.

    Raises:
        PluginError: A file or a package is missing or broken.
    """
    if not isinstance(named, list):
        return
    texts = [text for text in cast(list[Any], named) if isinstance(text, str)]
    files = [text for text in texts if text.endswith(PLUGIN_FILE)]
    for text in texts:
        _bring(text)
    if not _known().issuperset(files):
        # Read again under the writer's lock: what another process has added meanwhile stays.
        with whole_file(_known_file()) as stream:
            stream.write(json.dumps({"files": sorted({*_known(), *files})}).encode() + b"\n")


def brought(plugins: tuple[str, ...]) -> tuple[str, ...]:
    """The same plugins, loaded.

    Raises:
        PluginError: One is missing or broken, or a file that no experiment of this `MLP_HOME` has named.
    """
    for text in plugins:
        if text.endswith(PLUGIN_FILE) and text not in _known():
            # Unlike Path's, it answers where one may not look: in the home of somebody else, which a run that came from there names.
            here = os.path.isfile(text)  # noqa: PTH113
            why = "which no experiment has used here, so it is not run" if here else "which is not here"
            then = "If it is yours, or you have read it" if here else "Bring it there, read it, and"
            raise PluginError(
                f"plugins names the file {text}, {why}. {then}: mlp config check EXPERIMENT, of the experiment that names it, "
                "and try again."
            )
        _bring(text)
    return plugins


def _bring(plugin: str) -> None:
    if plugin.endswith(PLUGIN_FILE):
        _bring_file(Path(plugin))
    else:
        _require_package(plugin)


def _bring_file(file: Path) -> None:
    try:
        table: Any = load_object(f"{file}:{TABLE}")
    except ConfigError as error:
        raise PluginError(f"plugins names {file}, which cannot be used: {error}") from error
    tables = cast(Mapping[str, Any], table) if isinstance(table, Mapping) else {"": None}
    for family, rows in tables.items():
        if family not in FAMILIES:
            raise PluginError(
                f"{file}: {TABLE} is a table of families, each a table of kinds, but has {family!r}"
                f"{did_you_mean(family, FAMILIES)} (families: {', '.join(FAMILIES)})."
            )
        kinds = cast(Mapping[str, Any], rows) if isinstance(rows, Mapping) else {"": rows}
        for kind, row in kinds.items():
            if not isinstance(row, Kind):
                raise PluginError(f"{file}: {TABLE}[{family!r}][{kind!r}] is a {type(row).__name__}, not a Kind.")
            FAMILIES[family].add(kind, row, str(file))


def _require_package(name: str) -> None:
    if not _PACKAGE.fullmatch(name):
        raise PluginError(
            f"plugins names {name!r:.80}, which is no name of a package, nor of a file, which ends in {PLUGIN_FILE}."
        )
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError as error:
        raise PluginError(
            f"plugins names the package {name!r}, which is not installed here; install it from where its author gives it. "
            f"(A file is named with its ending, {PLUGIN_FILE}.)"
        ) from error
    if not any(entry.group.removeprefix("ml_playground.") in FAMILIES for entry in distribution.entry_points):
        raise PluginError(
            f"plugins names the package {name!r}, which is installed and brings no kinds: it has no entry point in a group "
            "ml_playground.<family>."
        )


def _known_file() -> Path:
    return cache_folder() / "plugins.json"


def _known() -> set[str]:
    try:
        files: Any = json_table(read_at_most(_known_file())).get("files")
    except FileNotFoundError:
        return set()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{_known_file()} cannot be read ({error}); delete it.") from error
    return {text for text in cast(list[Any], files) if isinstance(text, str)} if isinstance(files, list) else set()
