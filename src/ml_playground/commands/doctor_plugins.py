"""What installed packages add, and whether it works: a part of `mlp doctor`."""

from collections.abc import Iterator

from ml_playground.commands.findings import Finding
from ml_playground.configuration.base import settings_of
from ml_playground.configuration.families import FAMILIES
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.installed_kinds import GROUP, claims
from ml_playground.core.registry import did_you_mean, load_object

NOT_CHOSEN_BY_SETTINGS = ("preview", "engine")
"""Families whose rows share the settings of samples."""


def plugins() -> Iterator[Finding]:
    """A line for each package that works, and one for each kind that does not."""
    works: dict[str, list[str]] = {}
    for family, kinds in claims().items():
        for kind, claimed in kinds.items():
            for claim in claimed:
                problem = problem_of(family, kind, claim.where)
                if problem:
                    yield Finding("warning", f"plugin {claim.who}", problem, f"mend or uninstall {claim.who}")
                else:
                    works.setdefault(claim.who, []).append(f"{family} {kind}")
    for who, brought in works.items():
        yield Finding("ok", f"plugin {who}", ", ".join(brought))


def problem_of(family: str, kind: str, where: str) -> str:
    """Why a kind of a package cannot be used, in words; empty where it can be, as far as its settings and its builder load."""
    if family not in FAMILIES:
        return f"{where} is of no family{did_you_mean(family, FAMILIES)} (groups: {GROUP}{f', {GROUP}'.join(FAMILIES)})"
    if kind in FAMILIES[family].shipped:
        return f"{where} brings a kind that is one of ml-playground's own, which is used"
    try:
        row = FAMILIES[family][kind]
        if family not in NOT_CHOSEN_BY_SETTINGS:
            settings_of(family, kind)
        load_object(row.build)
    except ConfigError as error:
        return str(error)
    return ""
