"""From an experiment's name to a job: finds the files, lays the layers, validates, remembers who set what."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ml_playground.configuration.documents import read_document
from ml_playground.configuration.models import JobConfig
from ml_playground.configuration.origins import Layer, Merged, Origin, absolute, histories, merge
from ml_playground.configuration.overrides import environment_layers, set_layer
from ml_playground.configuration.plugins import bring
from ml_playground.configuration.problems import ConfigProblemsError, UnnamedFilesError, validated
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.registry import did_you_mean
from ml_playground.core.run_folder import home, is_run

SHIPPED = Path(__file__).parents[1] / "experiments"
PRESETS = Path(__file__).parent / "presets"
CONFIG = "config.toml"
RECORDED = "config.json"  # What a run calls its job.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
GROUP = re.compile(rf"{NAME.pattern}/{NAME.pattern}")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A job, and where each of its values comes from."""

    job: JobConfig
    origins: Mapping[str, tuple[Origin, ...]]
    """Dotted key -> what each layer did to it, from the class default up; the last one decided."""
    folder: Path
    """Of the experiment."""


@dataclass(frozen=True, slots=True)
class ExperimentEntry:
    """One experiment as a list shows it."""

    name: str
    summary: str
    """The first sentence of its README."""
    path: Path
    shipped: bool
    """Part of the package; false for those under `MLP_HOME/experiments`."""


def load(
    experiment: str,
    *,
    sets: Sequence[str] = (),
    files: Sequence[Path] = (),
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    plan: Layer | None = None,
    reads_files: bool = True,
) -> Loaded:
    """The job of an experiment.

    Args:
        experiment: A name, or a folder with a config.toml.
        sets: `KEY=VALUE` each, as `--set` takes them.
        files: TOML, JSON or YAML laid over the experiment, in this order.
        plan: What the program planned: laid over the experiment, under all that its user says.
        environ: Where the `ML_PLAYGROUND_*` variables are; none: this process's own.
        cwd: Paths in `sets`, `files` and variables count from here; none: the working directory.
        reads_files: Whether settings may read the files that they name.

    Raises:
        ConfigError: Everything that is wrong, one line each.
    """
    here = cwd or Path.cwd()
    folder = find_experiment(experiment, here)
    merged = assemble(folder / CONFIG, sets=sets, files=files, environ=environ, cwd=here, plan=plan)
    try:
        return _loaded(merged, folder, reads_files=reads_files)
    except UnnamedFilesError as error:
        readme = folder / "README.md"
        more = f"What it must hold: {readme}" if readme.is_file() else ""
        raise UnnamedFilesError(error.names, experiment, more) from None


def load_without_files(
    experiment: str, *, sets: Sequence[str] = (), files: Sequence[Path] = ()
) -> tuple[Loaded, tuple[str, ...]]:
    """The job of an experiment as it is written, and the keys of files that it leaves to its user; each is `FILE` in the job.

    Raises:
        ConfigError: Everything else that is wrong, one line each.
    """
    try:
        return load(experiment, sets=sets, files=files, environ={}), ()
    except UnnamedFilesError as error:
        named = [*sets, *(f"{key}=FILE" for key in error.names)]
        return load(experiment, sets=named, files=files, environ={}, reads_files=False), tuple(error.names)


def load_file(file: Path, *, sets: Sequence[str] = (), files: Sequence[Path] = ()) -> Loaded:
    """The job of one file: beside a config.toml it is laid over that experiment; else it is read as an experiment itself.

    Raises:
        ConfigError: Everything that is wrong, one line each.
    """
    file = file.absolute()
    beside = file.parent / CONFIG
    if file != beside and is_file(beside):
        return _loaded(assemble(beside, sets=sets, files=[file, *files], environ={}), file.parent)
    return _loaded(assemble(file, sets=sets, files=files, environ={}), file.parent)


def read_job(file: Path) -> JobConfig:
    """The job that a run or a checkpoint recorded, and nothing laid over it.

    Raises:
        ConfigError: It is no job of this version; everything that is wrong, one line each.
    """
    return validated(merge([_file_layer("recorded job", file)]))


def _loaded(merged: Merged, folder: Path, *, reads_files: bool = True) -> Loaded:
    job = validated(merged, files=reads_files)
    return Loaded(job, histories(merged, job.model_dump(mode="json")), folder)


def assemble(
    config: Path | None,
    *,
    sets: Sequence[str] = (),
    files: Sequence[Path] = (),
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    plan: Layer | None = None,
) -> Merged:
    """All layers laid over each other, not yet validated; without a `config` only what every experiment shares.

    Raises:
        ConfigProblemsError: Files, groups, variables or `--set` that cannot be read; one line each.
    """
    here = cwd or Path.cwd()
    problems: list[str] = []
    lower = list(_attempts(problems, [("default_config", SHIPPED / "default_config.toml")]))
    if config:
        folder_name = config.parent.name if config.name == CONFIG else config.stem
        lower.insert(0, Layer("name of the folder", {"name": folder_name}, here))
        upper = list(_attempts(problems, [("experiment", config)]))
    else:
        upper = []
    if plan:
        upper.append(plan)
    # Unlike pathlib's, this leaves the `~` of an unknown user alone; the file is then reported as missing.
    expanded = [("--config", here / os.path.expanduser(file)) for file in files]  # noqa: PTH111
    upper += _attempts(problems, expanded)
    for layer in environment_layers(os.environ if environ is None else environ, here):
        problems.append(layer) if isinstance(layer, str) else upper.append(layer)
    # How a bare word in --set is read depends on the kinds, which groups and --set itself may choose: read twice.
    first, _ = set_layer(sets, here, {})
    groups = list(_group_layers([*lower, *upper, first], config.parent if config else None, problems))
    if problems:
        _, more = set_layer(sets, here, {})
        raise ConfigProblemsError([*problems, *more])
    kinds = merge([*lower, *groups, *upper, first]).tree
    # A recorded job, which a stranger may have sent, brings nothing, and is refused as it is by itself.
    naming = [layer.file for layer in (*lower, *groups, *upper, first) if "plugins" in layer.table]
    if naming and (naming[-1] is None or naming[-1].name != RECORDED):
        bring(kinds.get("plugins"))
    last, problems = set_layer(sets, here, kinds)
    if problems:
        raise ConfigProblemsError(problems)
    return merge([*lower, *groups, *upper, last], groups if "use" in last.table and plan is None else ())


def _attempts(problems: list[str], files: Sequence[tuple[str, Path]]) -> Iterator[Layer]:
    for name, file in files:
        try:
            yield _file_layer(name, file)
        except ConfigError as error:
            problems.append(f"{name} {error}")


def _file_layer(name: str, file: Path) -> Layer:
    document = read_document(file)
    return Layer(name, document.table, file.absolute().parent, file, document.lines)


def _group_layers(layers: Sequence[Layer], folder: Path | None, problems: list[str]) -> Iterator[Layer]:
    """The groups that the highest layer with a `use` names."""
    setter = next((layer for layer in reversed(layers) if "use" in layer.table), None)
    used: Any = setter.table["use"] if setter else []
    # Anything but texts is left for the validation, which says what is allowed.
    for group in cast(list[Any], used) if isinstance(used, list) else []:
        if isinstance(group, str) and setter:
            try:
                file = find_group(group, folder)
                layer = _file_layer(f"group {group}", file)
            except ConfigError as error:
                line = f" {setter.file}, line {setter.lines.get(('use',))}" if setter.file else ""
                problems.append(f"{setter.name}{line}: {error}")
                continue
            if "use" in layer.table:
                problems.append(f"group {group} {file}, line {layer.lines[('use',)]}: a group cannot use other groups")
            yield layer


def find_group(group: str, folder: Path | None = None) -> Path:
    """The file of `model/tiny`: in the experiment's own `presets/`, else among the shipped ones.

    Raises:
        ConfigError: No such group; names the nearest one and lists all.
    """
    for place in _preset_folders(folder):
        file = place / f"{group}.toml"
        if GROUP.fullmatch(group) and file.is_file():
            return file
    known = group_names(folder)
    raise ConfigError(f"use names no group {group!r}{did_you_mean(group, known)} (groups: {', '.join(known)})")


def group_names(folder: Path | None = None) -> list[str]:
    """Every group that `use` may name, for an experiment in `folder`."""
    files = [file for place in _preset_folders(folder) for file in place.glob("*/*.toml")]
    return sorted({f"{file.parent.name}/{file.stem}" for file in files})


def _preset_folders(folder: Path | None) -> list[Path]:
    return [folder / "presets", PRESETS] if folder else [PRESETS]


def find_experiment(name_or_folder: str, cwd: Path | None = None) -> Path:
    """The folder of an experiment: one's own under `MLP_HOME/experiments`, a shipped one, or any folder with a config.toml.

    Raises:
        ConfigError: There is none; names the nearest one and lists all.
    """
    if NAME.fullmatch(name_or_folder):
        for place in (home() / "experiments", SHIPPED):
            if is_file(place / name_or_folder / CONFIG):
                return place / name_or_folder
    if name_or_folder and "\0" not in name_or_folder:
        try:
            folder = Path(absolute(name_or_folder, cwd or Path.cwd()))
        except ValueError as error:
            raise ConfigError(f"no experiment {name_or_folder!r}: {error}") from error
        if is_file(folder / CONFIG):
            return folder
        if os.path.isdir(folder):  # noqa: PTH112 - as in is_file
            raise ConfigError(f"{folder} is no experiment: it holds no {CONFIG}{_instead_of_experiment(folder)}")
    names = experiment_names()
    raise ConfigError(
        f"no experiment {name_or_folder!r}{did_you_mean(name_or_folder, names)} "
        f"(experiments: {', '.join(names)}; or name a folder with a {CONFIG})"
    )


def _instead_of_experiment(folder: Path) -> str:
    """What a folder with a config.json is, and how it is trained; empty for others."""
    if not is_file(folder / "config.json"):
        return ""
    if is_run(folder):
        return f". It is a run; to go on with it: mlp train {folder.parent.name} --resume {folder}"
    return (
        ". It looks like a model's folder; to train it further write an experiment, a folder with a "
        f'{CONFIG}, that names it: model = {{ kind = "hf_causal_lm", path = "{folder}" }} and '
        f'prepare.tokenizer = {{ kind = "hugging_face", path = "{folder}" }} (docs/models.md)'
    )


def is_file(path: Path) -> bool:
    """Whether there is such a file; pathlib's own test raises for names that no file system takes."""
    return os.path.isfile(path)  # noqa: PTH113


def experiment_names() -> list[str]:
    """Names of all experiments, sorted."""
    return [entry.name for entry in list_experiments()]


def list_experiments() -> list[ExperimentEntry]:
    """All experiments, by name; one's own hides a shipped one of the same name, as it does for every command."""
    found: dict[str, ExperimentEntry] = {}
    for place in (SHIPPED, home() / "experiments"):
        for config in place.glob(f"*/{CONFIG}"):
            folder = config.parent
            if NAME.fullmatch(folder.name):
                found[folder.name] = ExperimentEntry(folder.name, _first_sentence(folder), folder, place == SHIPPED)
    return [found[name] for name in sorted(found)]


def _first_sentence(folder: Path) -> str:
    """The first sentence below the title of its README; empty without one."""
    readme = folder / "README.md"
    if not readme.is_file():
        return ""
    paragraphs = re.split(r"\n\s*\n", readme.read_text(encoding="utf-8", errors="replace"))
    text = next((" ".join(part.split()) for part in paragraphs if part.strip() and not part.startswith("#")), "")
    return re.split(r"(?<=[.!?])\s", text, maxsplit=1)[0]
