"""kind -> component, imported when asked for; a wrong kind is answered with the nearest right one."""

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import redirect_stdout
from hashlib import sha256
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ml_playground.core.error_handling import ConfigError

PACKAGE = "ml_playground"
CLAIMS = "ml_playground.core.installed_kinds:claims"


class Kind(NamedTuple):
    """A row of a family's table: strings, imported when asked for; `/a/plugin.py:name` is a name in a file."""

    settings: str
    """`module:Class`, torch-free, so that configuration works without torch."""
    build: str
    """`module:name` of what makes the component; one signature per family."""
    cost: str = ""
    """Of a model: what it costs, torch-free if it can be; empty: nobody says, and nothing is decided by it."""
    memory: str = ""
    """Of a model: what a token of a training takes; empty: the memory of a run is not planned."""
    fates: str = ""
    """Of data: what an epoch does with each token; empty: the ledger ends with the prepared data."""


class Claim(NamedTuple):
    """The word of somebody else than this package that a kind is theirs."""

    who: str
    """Name and version of a package, or the path of a file."""
    where: str
    """Who, and in which line of theirs it says so."""
    load: Callable[[], Kind]
    """The row. Raises ConfigError: it cannot be loaded."""


class Family(Mapping[str, Kind]):
    """The kinds of a family: of this package, of what a job names in `plugins`, of installed packages by their entry points.

    The entry points are read when a kind is asked for that is not among the others, or when all are listed.
    """

    def __init__(self, name: str, shipped: Mapping[str, Kind]) -> None:
        self.name, self.shipped = name, shipped
        self._named: dict[str, Claim] = {}

    def __getitem__(self, kind: str) -> Kind:
        """The row of a kind.

        Raises:
            ConfigError: Two packages claim it, or the one that does is broken.
        """
        if kind in self.shipped:
            return self.shipped[kind]
        claims = self._claims(kind)
        if not claims:
            raise KeyError(kind)
        first, *others = claims
        if others:
            raise ConfigError(
                f"{self.name} kind {kind!r} is claimed by {' and by '.join(claim.where for claim in claims)}; "
                "uninstall all but one of them."
            )
        return first.load()

    def __contains__(self, kind: object) -> bool:
        """Whether somebody says that there is such a kind; nothing is loaded."""
        return isinstance(kind, str) and (kind in self.shipped or bool(self._claims(kind)))

    def __iter__(self) -> Iterator[str]:
        """This package's kinds in the order of its table, then others by name."""
        yield from self.shipped
        yield from sorted(({*self._named, *self._installed()}) - self.shipped.keys())

    def __len__(self) -> int:
        """How many names there are."""
        return sum(1 for _ in self)

    def add(self, kind: str, row: Kind, who: str) -> None:
        """Take in a kind that a plugin brings which a job names.

        Raises:
            ConfigError: It is somebody else's already.
        """
        if kind in self.shipped:
            raise ConfigError(
                f"{who} brings the {self.name} kind {kind!r}, which is one of ml-playground's own; give it another name."
            )
        others = [claim for claim in self._claims(kind) if claim.who != who]
        if others:
            raise ConfigError(
                f"{who} brings the {self.name} kind {kind!r}, which {others[0].where} brings too; give it another name."
            )
        self._named[kind] = Claim(who, who, lambda: row)

    def origin(self, kind: str) -> str:
        """Who brings a kind, in words; empty for this package's own."""
        return "" if kind in self.shipped else " and ".join(claim.where for claim in self._claims(kind))

    def listed(self) -> str:
        """All kinds by name, for a message; those of plugins with who brings them."""
        return ", ".join(
            kind if kind in self.shipped else f"{kind} (of {' and '.join(claim.who for claim in self._claims(kind))})"
            for kind in sorted(self)
        )

    def _claims(self, kind: str) -> tuple[Claim, ...]:
        return (self._named[kind],) if kind in self._named else self._installed().get(kind, ())

    def _installed(self) -> Mapping[str, tuple[Claim, ...]]:
        return load_object(CLAIMS)().get(self.name, {})


def did_you_mean(got: str, allowed: Iterable[str]) -> str:
    """`; did you mean 'x'?` when something allowed is close, else an empty text."""
    close = difflib.get_close_matches(got, list(allowed), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def kind_of(family: Family, kind: str) -> Kind:
    """The row of a kind.

    Raises:
        ConfigError: No such kind in this family; names the nearest one and lists all.
    """
    if kind not in family:
        raise ConfigError(
            f"{family.name} has no kind {kind!r}{did_you_mean(kind, family)} (allowed: {family.listed()})."
        )
    return family[kind]


def load_object(path: str) -> Any:
    """The object that `module:name` or `/a/file.py:name` names.

    Raises:
        ConfigError: A library that the module needs is not installed: names the command that installs it. Or it is a plugin's,
            and does not load.
    """
    module_name, _, name = path.rpartition(":")
    module = _module(module_name)
    if not hasattr(module, name) and not _is_ours(module_name):
        raise ConfigError(f"{module_name} has no {name!r}.")
    return getattr(module, name)


def _is_ours(module_name: str) -> bool:
    return module_name.partition(".")[0] == PACKAGE


def _module(name: str) -> ModuleType:
    try:
        if _is_ours(name) or name in sys.modules:
            return importlib.import_module(name)
        # What others print as they are loaded is no answer of a command, which may be JSON.
        with redirect_stdout(sys.stderr):
            return _module_of(Path(name)) if name.endswith(".py") else importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing.partition(".")[0] in ("", PACKAGE):
            if _is_ours(name):
                raise
            raise ConfigError(f"{name} does not load: {error}.") from error
        if name == missing or name.startswith(f"{missing}."):
            raise ConfigError(f"there is no module {name}.") from error
        raise ConfigError(
            f"{name} needs the package {missing!r}, which is not installed; install it: {install_command(missing)}"
        ) from error
    except SystemExit as error:
        raise ConfigError(f"{name} does not load: it ends the program.") from error
    except Exception as error:
        if _is_ours(name) or isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{name} does not load: {type(error).__name__}: {error}") from error


class _LeavesNothingBehind(SourceFileLoader):
    """Loads a file of somebody's own folder, where no compiled one is to be written."""

    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        """Nothing is kept."""


def _module_of(file: Path) -> ModuleType:
    """A file as a module, once in a process."""
    name = f"plugin_{sha256(str(file).encode()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    if not file.is_file():
        raise ConfigError(f"there is no file {file}.")
    spec = importlib.util.spec_from_file_location(name, file, loader=_LeavesNothingBehind(name, str(file)))
    if spec is None or spec.loader is None:
        raise ConfigError(f"{file} is no Python file.")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


EXTRA_OF = {
    "transformers": "hf",
    "datasets": "hf",
    "peft": "hf",
    "jinja2": "hf",
    "pyarrow": "data",
    "zstandard": "data",
    "tiktoken": "tokenizers",
    "sentencepiece": "tokenizers",
    "sklearn": "vision",
    "optuna": "sweep",
    "gguf": "export",
    "xllamacpp": "export",
}


def install_command(package: str) -> str:
    """The command that installs a missing package, through our extra where one brings it."""
    extra = EXTRA_OF.get(package.partition(".")[0])
    return f"pip install 'ml-playground[{extra}]'" if extra else f"pip install {package}"
