"""What installed packages say of themselves: an entry point of the group `ml_playground.<family>` brings a kind of that family.

Its name is the kind, its value `module:NAME` a `core.registry.Kind`, in a module that is light to import.
"""

import importlib.metadata
from collections.abc import Mapping
from functools import cache, partial
from importlib.metadata import EntryPoint
from typing import Any

from ml_playground.core.error_handling import ConfigError
from ml_playground.core.registry import Claim, Kind, load_object

GROUP = "ml_playground."


@cache
def claims() -> Mapping[str, Mapping[str, tuple[Claim, ...]]]:
    """Family -> kind -> who claims it; read from the packages' metadata, once, without importing any of them."""
    found: dict[str, dict[str, tuple[Claim, ...]]] = {}
    points = importlib.metadata.entry_points()
    for group in points.groups:
        if group.startswith(GROUP):
            table = found.setdefault(group.removeprefix(GROUP), {})
            for entry in points.select(group=group):
                table[entry.name] = (*table.get(entry.name, ()), _claim(entry))
    return found


def _claim(entry: EntryPoint) -> Claim:
    who = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unnamed package"
    where = f"{who} (entry point {entry.group}: {entry.name} = {entry.value})"
    return Claim(who, where, partial(_row, entry.value, where))


def _row(value: str, where: str) -> Kind:
    """What an entry point names.

    Raises:
        ConfigError: It does not load, or is something else.
    """
    try:
        row: Any = load_object(value)
    except ConfigError as error:
        raise ConfigError(f"The plugin {where} is broken: {error} Mend or uninstall it.") from error
    if not isinstance(row, Kind):
        raise ConfigError(
            f"The plugin {where} is broken: {value} is a {type(row).__name__}, not an ml_playground.core.registry.Kind."
        )
    return row
