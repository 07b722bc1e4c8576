"""`mlp doctor`: is everything there that a run needs, and if not, what to do."""

import importlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ml_playground.commands.doctor_plugins import plugins
from ml_playground.commands.findings import Finding, Level, show
from ml_playground.commands.options import ConfigFiles, Json, Sets
from ml_playground.configuration.loading import load
from ml_playground.core import installation
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.humanise import plural
from ml_playground.core.machine import Machine, fault_cost, probe
from ml_playground.core.registry import load_object
from ml_playground.core.run_folder import home

GIB = 1 << 30
# A demo writes 0.2 GiB; two checkpoints of a 124M model with its optimizer take 3.
SCARCE_BYTES, COMFORTABLE_BYTES = GIB // 2, 5 * GIB
# Importing torch and training the smallest preset takes about 1 GiB.
SCARCE_MEMORY_BYTES = GIB


Measure = Annotated[bool, typer.Option("--measure", help="Measure the rates of this machine anew.")]
Parity = Annotated[
    bool,
    typer.Option("--parity", help="Train a few steps in float32 on the CPU and as decided here, and compare them."),
]


def doctor(
    experiment: Annotated[
        str | None,
        typer.Argument(metavar="[EXPERIMENT]", help="Decide for the runs of this one.", show_default=False),
    ] = None,
    sets: Sets = None,
    files: ConfigFiles = None,
    measure: Measure = False,
    parity: Parity = False,
    as_json: Json = False,
) -> int:
    """Check environment, disk and devices; show what was measured, and what each "auto" of [runtime] becomes and why.

    Ends with exit code 2 when something stands in the way of a run.

    Raises:
        ConfigError: --set or --config without an experiment, or what they say is wrong.
        DataError: The experiment's data are not prepared.
    """
    if experiment is None and (sets or files):
        raise ConfigError("--set and --config change an experiment; name one: mlp doctor EXPERIMENT --set ...")
    job = load(experiment, sets=sets or (), files=files or ()).job if experiment is not None else None
    machine = probe()
    findings = [*environment(machine), *dependencies(), *plugins(), *storage(home()), *resources(machine)]
    report = {"machine": asdict(machine)}
    try:
        look_at = load_object("ml_playground.commands.doctor_devices:look_at")
    except ConfigError as error:
        findings.append(Finding("problem", "devices", str(error), "make setup"))
    # Another device may be there, but its driver or this build of torch does not fit.
    except (ImportError, OSError) as error:
        findings.append(Finding("problem", "devices", f"torch does not load: {error}", "make clean setup"))
    else:
        devices = look_at(job, measure=measure, parity=parity)
        findings += devices.findings
        report |= devices.figures
    blocked = any(finding.level == "problem" for finding in findings)
    if as_json:
        report = {"blocked": blocked, "findings": [asdict(found) for found in findings], **report}
        typer.echo(json.dumps(report, indent=2))
    else:
        show(findings)
    return 2 if blocked else 0


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
    """Processor, memory, and what fresh memory costs."""
    features = ", ".join(machine.features) or "no vector unit that we know"
    usable = f"{machine.usable_cores:g} of {plural(machine.logical_cores, 'thread')} usable"
    cores = f"{plural(machine.physical_cores, 'core')}, {usable}"
    yield Finding("ok", "processor", f"{machine.processor}; {cores}; {features}")
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > machine.usable_cores:
        yield Finding(
            "warning",
            "threads",
            f"OMP_NUM_THREADS = {asked} is more than the {plural(machine.usable_cores, 'thread')} that this process may use",
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
    cost = fault_cost()
    faulted = f"writing {cost.size_bytes >> 20} MiB of it takes {cost.first_s * 1e3:.0f} ms"
    yield Finding("ok", "fresh memory", f"{faulted}, the second time {cost.again_s * 1e3:.0f} ms")
