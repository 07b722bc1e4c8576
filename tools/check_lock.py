"""Proves that constraints.txt satisfies pyproject.toml, pins all that is installed for it, and names no host and no path."""

import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
DISTRIBUTION = "ml-playground"


def pins_of(text: str) -> dict[str, list[str]]:
    """Name -> pinned versions; several where a marker chooses."""
    pins: dict[str, list[str]] = {}
    for line in text.splitlines():
        requirement = Requirement(line)
        pins.setdefault(canonicalize_name(requirement.name), []).append(str(requirement.specifier).removeprefix("=="))
    return pins


def foreign_lines(text: str) -> Iterator[str]:
    """Lines that are no pin of a package by its name: hosts, paths, options and comments."""
    for line in text.splitlines():
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*==[A-Za-z0-9.!]+(?: ; [a-z_ .'\"=<>!0-9A-Z()]+)?", line):
            yield f"constraints.txt: {line!r} is no plain pin; run `make lock`."


def unsatisfied(wanted: Iterable[str], pins: dict[str, list[str]]) -> Iterator[str]:
    """Requirements without a pin in their range."""
    for text in wanted:
        requirement = Requirement(text)
        versions = pins.get(canonicalize_name(requirement.name), [])
        if not any(requirement.specifier.contains(version, prereleases=True) for version in versions):
            found = ", ".join(versions) or "nothing"
            yield f"pyproject.toml asks for {text!r}, but constraints.txt pins {found}; run `make lock`."


def unpinned(root: Requirement, pins: dict[str, list[str]]) -> Iterator[str]:
    """Installed packages that our dependencies brought, but that are not pinned at their version."""
    queue, seen = [root], {str(root)}
    while queue:
        requirement = queue.pop()
        try:
            distribution = importlib.metadata.distribution(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            # Of another platform, or of an extra that this environment leaves out.
            continue
        version = distribution.version.partition("+")[0]
        name = canonicalize_name(requirement.name)
        if name != DISTRIBUTION and version not in pins.get(name, []):
            yield f"{name} {version} is installed, but constraints.txt pins {', '.join(pins.get(name, [])) or 'nothing'}."
        for below in map(Requirement, distribution.requires or []):
            if str(below) not in seen and any(applies(below, extra) for extra in ("", *requirement.extras)):
                seen.add(str(below))
                queue.append(below)


def applies(requirement: Requirement, extra: str) -> bool:
    """Whether a requirement holds on this machine, under this extra."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def main() -> int:
    """Print each problem; the exit code is 1 when there is one."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    problems = list(foreign_lines(text))
    if not problems:
        pins = pins_of(text)
        extras = project["project"]["optional-dependencies"]
        wanted = [*project["project"]["dependencies"], *(item for group in extras.values() for item in group)]
        wanted += project["build-system"]["requires"]
        problems += unsatisfied(wanted, pins)
        problems += unpinned(Requirement(f"{DISTRIBUTION}[{','.join(extras)}]"), pins)
    for problem in problems:
        print(problem)
    if not problems:
        print(f"constraints.txt: {len(text.splitlines())} pins, fresh and free of hosts and paths.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
