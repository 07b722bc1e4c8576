"""The job that a checkpoint recorded, with what its user wants otherwise this time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_playground.configuration.documents import read_document
from ml_playground.configuration.models import JobConfig
from ml_playground.configuration.origins import Layer, merge
from ml_playground.configuration.overrides import environment_layers, set_layer
from ml_playground.configuration.problems import validated
from ml_playground.core.error_handling import ConfigError

OPEN_SECTIONS = ("sample", "runtime")
"""What may differ from the record: everything else decided what was trained."""


def recorded_job(file: Path, layers: Sequence[Layer] = ()) -> JobConfig:
    """A recorded job with layers laid over its `[sample]` and `[runtime]`.

    Raises:
        ConfigError: The file is no job of this version, or a layer sets something else or a wrong value.
    """
    document = read_document(file)
    recorded = Layer("recorded job", document.table, file.parent, file, document.lines)
    closed = [f"{layer.name}: {key}" for layer in layers for key in layer.table if key not in OPEN_SECTIONS]
    if closed:
        raise ConfigError(
            f"{'; '.join(closed)} cannot be set here: the model is trained already. "
            f"Allowed are keys of {' and '.join(OPEN_SECTIONS)}, e.g. sample.temperature=0.8 or runtime.device=cpu."
        )
    return validated(merge([recorded, *layers]))


def sampling_layers(
    sets: Sequence[str], options: Mapping[str, tuple[str, Any]], environ: Mapping[str, str]
) -> list[Layer]:
    """The layers of a command line, lowest first: environment, `--set`, options.

    Args:
        sets: `KEY=VALUE` each.
        options: Key of `[sample]` -> the option that sets it, and its value; none leaves the key alone.
        environ: `ML_PLAYGROUND_SAMPLE_OVERRIDES` and `ML_PLAYGROUND_OVERRIDES` are read, of the latter only what may
            be set here: it is meant for all commands.

    Raises:
        ConfigError: A variable or a `--set` cannot be read; one line each.
    """
    here = Path.cwd()
    problems: list[str] = []
    layers: list[Layer] = []
    for layer in environment_layers(environ, here):
        if isinstance(layer, str):
            problems.append(layer)
        else:
            open_part = {key: value for key, value in layer.table.items() if key in OPEN_SECTIONS}
            layers.append(Layer(layer.name, open_part, here))
    typed, wrong = set_layer(sets, here, {})
    if problems or wrong:
        raise ConfigError("\n".join([*problems, *wrong]))
    layers.append(typed)
    for key, (option, value) in options.items():
        if value is not None:
            layers.append(Layer(option, {"sample": {key: value}}, here))
    return layers
