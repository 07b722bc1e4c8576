"""kind -> component, imported when asked for; a wrong kind is answered with the nearest right one."""

import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ml_playground.core.error_handling import ConfigError


class Kind(NamedTuple):
    """A row of a family's table: two strings, imported when asked for."""

    settings: str
    """`module:Class`, torch-free, so that configuration works without torch."""
    build: str
    """`module:name` of what makes the component; one signature per family."""


def did_you_mean(got: str, allowed: Iterable[str]) -> str:
    """`; did you mean 'x'?` when something allowed is close, else an empty text."""
    close = difflib.get_close_matches(got, list(allowed), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def kind_of(family: str, table: Mapping[str, Kind], kind: str) -> Kind:
    """The row of a kind.

    Raises:
        ConfigError: No such kind in this family; names the nearest one and lists all.
    """
    if kind not in table:
        raise ConfigError(
            f"{family} has no kind {kind!r}{did_you_mean(kind, table)} (allowed: {', '.join(sorted(table))})."
        )
    return table[kind]


def load_object(path: str) -> Any:
    """The object that `module:name` names.

    Raises:
        ConfigError: A library that the module needs is not installed; names the command that installs it.
    """
    module_name, _, name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "ml_playground":
            raise
        raise ConfigError(
            f"{module_name} needs the package {error.name!r}, which is not installed; "
            f"install it: {install_command(error.name)}"
        ) from error
    return getattr(module, name)


EXTRA_OF = {
    "transformers": "hf",
    "datasets": "hf",
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
