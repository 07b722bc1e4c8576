"""The job that a checkpoint recorded, with what its user wants otherwise this time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from ml_playground.configuration.documents import read_document
from ml_playground.configuration.models import JobConfig
from ml_playground.configuration.origins import Layer, merge
from ml_playground.configuration.overrides import environment_layers, set_layer
from ml_playground.configuration.problems import validated
from ml_playground.configuration.schema import KeyPath, dotted, find_shape, leaves
from ml_playground.core.error_handling import ConfigError

FOR_SAMPLES = ("sample", "runtime.device", "runtime.threads")
"""What has an effect on texts: everything else was decided when the model was trained."""
FOR_EVALUATION = ("sample.weights", "runtime.device", "runtime.dtype", "runtime.attention", "runtime.threads")
"""What has an effect on an evaluation."""
BASE = "model.path"
"""Where the frozen weights lie that a checkpoint of an adapter needs: may be set to another place of the same files."""


def recorded_job(file: Path, layers: Sequence[Layer] = (), open_keys: Sequence[str] = FOR_SAMPLES) -> JobConfig:
    """A recorded job with layers laid over it, which may set `open_keys`.

    Raises:
        ConfigError: The file is no job of this version, or a layer sets something else or a wrong value.
    """
    document = read_document(file)
    model = document.table.get("model")
    if isinstance(model, Mapping) and cast(Mapping[str, Any], model).get("adapter") is not None:
        open_keys = (*open_keys, BASE)
    return merged_over([Layer("recorded job", document.table, file.parent, file, document.lines)], layers, open_keys)


def job_on_record(file: Path) -> JobConfig | None:
    """A recorded job, where it is only asked what kind of one it is; None where it cannot be read."""
    try:
        return recorded_job(file)
    except ConfigError:
        return None


def merged_over(lower: Sequence[Layer], layers: Sequence[Layer], open_keys: Sequence[str]) -> JobConfig:
    """A job with layers laid over it, which may set `open_keys`.

    Raises:
        ConfigError: It is no job of this version, or one of `layers` sets something else or a wrong value.
    """
    known = merge(lower).tree
    closed = [
        f"{layer.name}: {dotted(path)}"
        for layer in layers
        for path, _ in leaves(layer.table)
        # What no job has is left for the validation, which knows what was probably meant.
        if not _is_open(path, open_keys) and (path[0] == "hooks" or find_shape(path, known))
    ]
    if closed:
        sections = [f"{key}.*" if "." not in key else key for key in open_keys]
        raise ConfigError(
            f"{'; '.join(closed)} cannot be set here: the model is trained already, and it would change nothing. "
            f"Allowed: {', '.join(sections)}."
        )
    return validated(merge([*lower, *layers]))


def _is_open(path: KeyPath, open_keys: Sequence[str]) -> bool:
    return any(path[: key.count(".") + 1] == tuple(key.split(".")) for key in open_keys)


def sampling_layers(
    sets: Sequence[str],
    options: Mapping[str, tuple[str, Any]],
    environ: Mapping[str, str],
    open_keys: Sequence[str] = FOR_SAMPLES,
    implied: Layer | None = None,
) -> list[Layer]:
    """The layers of a command line, lowest first: environment, what an option implies, `--set`, options.

    Args:
        sets: `KEY=VALUE` each.
        options: Key of `[sample]` -> the option that sets it, and its value; none leaves the key alone.
        environ: `ML_PLAYGROUND_SAMPLE_OVERRIDES` and `ML_PLAYGROUND_OVERRIDES` are read, of both only what may be set
            here, and what no job has: they are meant for several commands.
        open_keys: What may be set here.
        implied: What one of the options brings along where nobody types another value.

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
            layers.append(Layer(layer.name, _open_part(layer.table, open_keys), here))
    typed, wrong = set_layer(sets, here, {})
    if problems or wrong:
        raise ConfigError("\n".join([*problems, *wrong]))
    layers += [typed] if implied is None else [implied, typed]
    for key, (option, value) in options.items():
        if value is not None:
            layers.append(Layer(option, {"sample": {key: value}}, here))
    return layers


def _open_part(table: Mapping[str, Any], open_keys: Sequence[str]) -> dict[str, Any]:
    """What of a variable counts here; misspelt keys of open sections stay, for the validation to refuse."""
    sections = {key.partition(".")[0] for key in open_keys}
    part: dict[str, Any] = {}
    for path, value in leaves(table):
        if _is_open(path, open_keys) or (path[0] in sections and find_shape(path, {}) is None):
            node = part
            for name in path[:-1]:
                node = node.setdefault(name, {})
            node[path[-1]] = value
    return part
