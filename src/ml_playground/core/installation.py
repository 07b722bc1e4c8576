"""What is installed: where this package comes from, and whether what it depends on is there and in range.

Needs only the standard library and none of our modules: a regular package of the same name anywhere on `sys.path` hides
all of ours, `mlp` included. `python path/to/core/installation.py` still starts then, and names it.
"""

import importlib.metadata
import operator
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

PACKAGE = "ml_playground"
DISTRIBUTION = "ml-playground"

COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


class Requirement(NamedTuple):
    """One dependency as the package's metadata state it."""

    name: str
    specifiers: str
    """`>=2.9,<2.14`; empty: any version."""
    extra: str | None
    """The extra that brings it; none: always needed."""


def hiding_packages(search_path: Iterable[str]) -> list[Path]:
    """Regular packages of our name: each hides our modules, for Python prefers them to folders without a marker."""
    found = [Path(entry or ".").absolute() / PACKAGE / "__init__.py" for entry in search_path]
    return list(dict.fromkeys(marker for marker in found if marker.is_file()))


def version_key(version: str) -> tuple[int, ...]:
    """`2.13.0+cpu` -> (2, 13): numbers of the release alone, without trailing zeros, so that 2.0 equals 2."""
    release = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(part) for part in release[0].split(".")] if release else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def satisfies(version: str, specifiers: str) -> bool:
    """Whether a version lies in a range such as `>=2.9,<2.14`; pre-releases count as their release."""
    clauses = re.findall(r"(>=|<=|==|!=|>|<)\s*([\w.+]+)", specifiers)
    return all(COMPARISONS[sign](version_key(version), version_key(bound)) for sign, bound in clauses)


def parse_requirement(text: str) -> Requirement:
    """Read one line of `Requires-Dist`: `transformers<6,>=5.23; extra == 'hf'`."""
    wanted, _, marker = text.partition(";")
    match = re.match(r"\s*([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*\(?([^)]*)\)?\s*$", wanted)
    extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", marker)
    if match is None:
        raise ValueError(f"{text!r} is no requirement")
    return Requirement(match[1], match[2].strip(), extra[1] if extra else None)


def requirements() -> list[Requirement]:
    """What the installed package says it depends on."""
    return [parse_requirement(line) for line in importlib.metadata.requires(DISTRIBUTION) or []]


def installed_version(name: str) -> str | None:
    """The version of an installed distribution; none: not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def checkout_version(package_folder: Path) -> str | None:
    """The version in the pyproject.toml of the checkout that a package folder belongs to; none: no checkout."""
    file = package_folder.parent.parent / "pyproject.toml"
    if package_folder.parent.name != "src" or not file.is_file():
        return None
    project = tomllib.loads(file.read_text(encoding="utf-8")).get("project", {})
    return project.get("version") if project.get("name") == DISTRIBUTION else None


def main(search_path: Sequence[str]) -> int:
    """Say whether another package hides ours: exit code 2 and a line for each if so."""
    hiding = hiding_packages(search_path)
    for marker in hiding:
        sys.stdout.write(hiding_text(marker) + "\n")
    if not hiding:
        sys.stdout.write(f"no other package named {PACKAGE} is on the search path; mlp doctor checks the rest.\n")
    return 2 if hiding else 0


def hiding_text(marker: Path) -> str:
    """What a hiding package does, and how to be rid of it."""
    return (
        f"{marker.parent} is another package named {PACKAGE} and hides this one; "
        f"uninstall it (pip uninstall {PACKAGE}), or take {marker.parent.parent} off PYTHONPATH."
    )


if __name__ == "__main__":
    # The first entry is the folder of this file.
    sys.exit(main(sys.path[1:]))
