"""`mlp doctor`: is everything there that a run needs, and if not, what to do."""

import importlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import typer

from ml_playground.commands.options import Json
from ml_playground.core import installation
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.machine import Machine, probe, retain_freed_memory
from ml_playground.core.registry import load_object
from ml_playground.core.run_folder import home

Level = Literal["ok", "warning", "problem"]
COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}

GIB = 1 << 30
# A demo writes 0.2 GiB; two checkpoints of a 124M model with its optimizer take 3.
SCARCE_BYTES, COMFORTABLE_BYTES = GIB // 2, 5 * GIB
# Importing torch and training the smallest preset takes about 1 GiB.
SCARCE_MEMORY_BYTES = GIB


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    level: Level
    subject: str
    text: str
    remedy: str = ""
    """What to do; empty where nothing is to be done."""


def doctor(as_json: Json = False) -> int:
    """Check environment, disk and devices; say what to do.

    Ends with exit code 2 when something stands in the way of a run.
    """
    machine = probe()
    findings = [*environment(machine), *dependencies(), *storage(home()), *resources(machine), *devices()]
    blocked = any(finding.level == "problem" for finding in findings)
    if as_json:
        report = {"blocked": blocked, "findings": [asdict(found) for found in findings], "machine": asdict(machine)}
        typer.echo(json.dumps(report, indent=2))
    else:
        show(findings)
    return 2 if blocked else 0


def show(findings: Sequence[Finding]) -> None:
    """Print one line a finding, its remedy below."""
    for finding in findings:
        level = typer.style(f"{finding.level:8}", fg=COLOURS[finding.level])
        typer.echo(f"{level} {finding.subject:14} {finding.text}")
        if finding.remedy:
            typer.echo(f"{'':24}-> {finding.remedy}")
    counts = {level: sum(finding.level == level for finding in findings) for level in COLOURS}
    verdict = "Something stands in the way of a run" if counts["problem"] else "Ready"
    typer.echo(f"\n{verdict}: {counts['ok']} ok, {counts['warning']} warnings, {counts['problem']} problems.")


def environment(machine: Machine) -> Iterator[Finding]:
    """Interpreter, virtual environment, and whether this package is the one that its user thinks it is."""
    yield Finding("ok", "python", f"{machine.python} at {sys.executable}, {machine.system}")
    if sys.prefix == sys.base_prefix:
        yield Finding(
            "warning",
            "environment",
            "no virtual environment is active",
            "make one: `make setup`, or `python3 -m venv .venv`",
        )
    else:
        yield Finding("ok", "environment", sys.prefix)
    yield from package(sys.path, importlib.import_module(installation.PACKAGE))
    yield from versions(Path(__file__).parent.parent)


def package(search_path: Sequence[str], module: Any) -> Iterator[Finding]:
    """Our package must be one folder without a marker file, and nobody else's."""
    # `python -m` and notebooks also look in the working directory.
    hiding = installation.hiding_packages([*search_path, ""])
    yield from (
        Finding(
            "problem", "package", f"{marker.parent} is another package named {installation.PACKAGE}", remedy_of(marker)
        )
        for marker in hiding
    )
    folders = [str(folder) for folder in module.__path__]
    if module.__file__ is not None:
        yield Finding(
            "problem", "package", f"{module.__file__} makes it a regular package", "delete that file; ours has none"
        )
    elif len(folders) > 1:
        listed = ", ".join(folders)
        yield Finding(
            "problem", "package", f"its modules come from several folders: {listed}", "uninstall all but one of them"
        )
    elif not hiding:
        yield Finding("ok", "package", folders[0])


def remedy_of(marker: Path) -> str:
    """How to be rid of a package that hides ours."""
    return f"pip uninstall {installation.PACKAGE}, or take {marker.parent.parent} off the search path"


def versions(package_folder: Path) -> Iterator[Finding]:
    """The metadata of an editable installation stay behind when the checkout moves on."""
    installed = installation.installed_version(installation.DISTRIBUTION)
    checkout = installation.checkout_version(package_folder)
    if installed is None:
        yield Finding(
            "problem", "version", f"{installation.DISTRIBUTION} is not installed, only found on the path", "make setup"
        )
    elif checkout is not None and checkout != installed:
        yield Finding("warning", "version", f"installed as {installed}, but the checkout is {checkout}", "make setup")
    else:
        yield Finding("ok", "version", installed)


def dependencies() -> Iterator[Finding]:
    """Every dependency against its range; extras as a whole."""
    if installation.installed_version(installation.DISTRIBUTION) is None:
        return
    wanted = installation.requirements()
    always = [requirement for requirement in wanted if requirement.extra is None]
    wrong = list(misfits(always))
    yield from (Finding("problem", "dependencies", text, f"pip install '{name}'") for name, text in wrong)
    if not wrong:
        listed = ", ".join(f"{item.name} {installation.installed_version(item.name)}" for item in always)
        yield Finding("ok", "dependencies", listed)
    for extra in sorted({requirement.extra for requirement in wanted if requirement.extra}):
        wrong = list(misfits(requirement for requirement in wanted if requirement.extra == extra))
        install = f"pip install '{installation.DISTRIBUTION}[{extra}]'"
        text = "installed" if not wrong else f"optional; {'; '.join(reason for _, reason in wrong)}"
        yield Finding("ok", f"extra {extra}", text, install if wrong else "")


def misfits(wanted: Iterable[installation.Requirement]) -> Iterator[tuple[str, str]]:
    """What is missing or out of range: what to install, and why."""
    for requirement in wanted:
        version = installation.installed_version(requirement.name)
        if version is None:
            yield f"{requirement.name}{requirement.specifiers}", f"{requirement.name} is not installed"
        elif not installation.satisfies(version, requirement.specifiers):
            yield (
                f"{requirement.name}{requirement.specifiers}",
                f"{requirement.name} {version} is installed, {requirement.specifiers} is needed",
            )


def storage(folder: Path) -> Iterator[Finding]:
    """Room and the right to write where runs, data and caches go."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
        free_bytes = shutil.disk_usage(existing).free
    except OSError as error:
        yield Finding(
            "problem",
            "disk",
            f"nothing can be written to {folder}: {error.strerror}",
            "choose another folder with MLP_HOME, or change the rights of this one",
        )
        return
    level: Level = "ok"
    if free_bytes < COMFORTABLE_BYTES:
        level = "problem" if free_bytes < SCARCE_BYTES else "warning"
    remedy = "" if level == "ok" else "free some space, or choose another folder with MLP_HOME"
    yield Finding(level, "disk", f"{folder} is writable, {free_bytes / GIB:.1f} GiB free", remedy)


def resources(machine: Machine) -> Iterator[Finding]:
    """Processor, memory and allocator."""
    features = ", ".join(machine.features) or "no vector unit that we know"
    cores = f"{machine.physical_cores} cores, {machine.usable_cores:g} of {machine.logical_cores} threads usable"
    yield Finding("ok", "processor", f"{machine.processor}; {cores}; {features}")
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > machine.usable_cores:
        yield Finding(
            "warning",
            "threads",
            f"OMP_NUM_THREADS = {asked} is more than the {machine.usable_cores:g} threads this process may use",
            "unset OMP_NUM_THREADS",
        )
    if machine.memory_bytes is None:
        yield Finding("ok", "memory", "unknown on this system")
    else:
        available_bytes = machine.memory_bytes if machine.available_bytes is None else machine.available_bytes
        scarce = available_bytes < SCARCE_MEMORY_BYTES
        text = f"{available_bytes / GIB:.1f} of {machine.memory_bytes / GIB:.1f} GiB available"
        remedy = "close other programs, or choose a smaller model, batch and context" if scarce else ""
        yield Finding("warning" if scarce else "ok", "memory", text, remedy)
    kept = retain_freed_memory()
    yield Finding("ok", "allocator", "keeps freed memory mapped (glibc)" if kept else "the system's own way")


def devices() -> Iterator[Finding]:
    """Devices as torch sees them, and the measured rate of a matrix product on each."""
    try:
        available_devices = load_object("ml_playground.core.torch_machine:available_devices")
    except ConfigError as error:
        yield Finding("problem", "devices", str(error), "make setup")
        return
    # Another device may be there, but its driver or this build of torch does not fit.
    except (ImportError, OSError) as error:
        yield Finding("problem", "devices", f"torch does not load: {error}", "make clean setup")
        return
    torch: Any = importlib.import_module("torch")
    matrix_rate = load_object("ml_playground.core.torch_machine:matrix_rate")
    for device in available_devices():
        place = torch.device(device.name)
        half, full = (matrix_rate(place, dtype) / 1e9 for dtype in (torch.bfloat16, torch.float32))
        memory = "" if device.memory_bytes is None else f", {device.memory_bytes / GIB:.1f} GiB"
        chosen = "bfloat16" if device.native_bf16 else "float32"
        yield Finding(
            "ok",
            device.name,
            f"{device.description}{memory}; measured: bfloat16 {half:,.0f}, float32 {full:,.0f} GFLOP/s; "
            f'runtime.dtype = "auto" takes {chosen}',
        )
