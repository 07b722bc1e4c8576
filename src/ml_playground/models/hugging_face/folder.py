"""What a folder in Hugging Face form holds, as far as it is known without its library and without torch.

Such folders come from strangers: no file is larger than said, no pickle is opened, no code in it is run, and a number that
would make the library build without end is refused before it is asked.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, cast

from ml_playground.core.error_handling import ConfigError
from ml_playground.core.foreign_files import is_plain, json_table, read_at_most

CONFIG, WEIGHTS, INDEX, TOKENIZER = "config.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.json"
ADAPTER = "adapter_config.json"

MOST_CONFIG_BYTES = 1 << 18
"""A large config.json, with a line for each layer, has ten thousand."""
LARGEST_INTEGER = 1 << 32
"""In a config.json: no dimension and no vocabulary comes near."""
MOST_MODULES = 4096
"""Layers, or experts of a layer: each is a module that is built one by one, even where nothing is allocated."""

_COUNTS = re.compile(r".*(?:num|n)_.*(?:layers?|experts?)|.*_layers")
# What says where a model was and how it is to be run, not what it is; and what names code, kernels or files to be fetched.
_NOT_THE_MODEL = {
    *("transformers_version", "torch_dtype", "dtype", "use_cache", "name_or_path", "gradient_checkpointing"),
    *("auto_map", "attn_implementation", "experts_implementation", "transformers_weights", "fusion_config"),
}


def is_model_folder(folder: Path) -> bool:
    """Whether a folder looks like a model in Hugging Face form: its config.json says of which type."""
    try:
        return isinstance(json_table(read_at_most(folder / CONFIG, MOST_CONFIG_BYTES)).get("model_type"), str)
    except (OSError, ValueError):
        return False


def read_config(folder: Path) -> str:
    """What of config.json describes the model, as JSON with sorted keys.

    Raises:
        ConfigError: It is missing or damaged, describes no causal language model, or asks for what is never done here.
    """
    path = folder / CONFIG
    try:
        config = json_table(read_at_most(path, MOST_CONFIG_BYTES))
    except FileNotFoundError:
        raise ConfigError(_no_config(folder)) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise ConfigError(f"{path} is not the JSON that it should be: {error}.") from None
    try:
        return _described(config)
    except ValueError as error:
        raise ConfigError(f"{path} cannot be used: {error}.") from None


def recorded_config(text: str) -> str:
    """The same, of what a recorded job says, which a stranger may have written: in the same bounds, without the same names.

    Raises:
        ValueError: It is no JSON object, or says what `read_config` refuses.
    """
    return _described(json_table(text))


def _described(config: Mapping[str, Any]) -> str:
    """What describes the model, as JSON with sorted keys.

    Raises:
        ValueError: Why it cannot be used.
    """
    if problems := [*_refusals(config), *_beyond_bounds(config)]:
        raise ValueError("; ".join(problems))
    try:
        return json.dumps(_model_alone(config), sort_keys=True, separators=(",", ":"), allow_nan=False)
    except ValueError:
        raise ValueError("it holds a number that is infinite or none") from None


def weight_files(folder: Path) -> Sequence[Path]:
    """The files of tensors: one, or those that the index names.

    Raises:
        ConfigError: There are none in safetensors form, or one is missing.
    """
    index = folder / INDEX
    names = [WEIGHTS]
    if index.is_file() and not (folder / WEIGHTS).is_file():
        names = _named_by(index)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing == [WEIGHTS]:
        raise ConfigError(_no_weights(folder))
    if missing:
        raise ConfigError(f"{folder} lacks {', '.join(missing)}, which {INDEX} names; complete the folder.")
    return [folder / name for name in names]


def files_sha256(folder: Path) -> str:
    """sha256 (hex) over names and contents of the files that make the model: settings, tensors and tokenizer.

    Raises:
        ConfigError: Tensors are missing, or a file cannot be read.
    """
    names = [CONFIG, INDEX, TOKENIZER]
    files = [folder / name for name in names if (folder / name).is_file()]
    files += weight_files(folder)
    try:
        with ThreadPoolExecutor() as readers:
            hashes = list(readers.map(_sha256, files))
    except OSError as error:
        raise ConfigError(f"{error.filename or folder} cannot be read: {error.strerror or error}.") from None
    lines = sorted(f"{file.name} {sha256}\n" for file, sha256 in zip(files, hashes, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _sha256(file: Path) -> str:
    state = file.stat()
    return _sha256_of(file, state.st_size, state.st_mtime_ns, state.st_ino)


@cache
def _sha256_of(file: Path, _size: int, _mtime_ns: int, _inode: int) -> str:
    """A command asks several times for the same gigabytes; a file that is written to has another time."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _no_config(folder: Path) -> str:
    if not folder.is_dir():
        return (
            f"{folder} is no folder; name one with a {CONFIG} and *.safetensors, as the transformers library saves it."
        )
    if (folder / ADAPTER).is_file():
        return (
            f"{folder} holds an adapter ({ADAPTER}), not a model; name the folder of the model that it was trained on."
        )
    return f"{folder} holds no {CONFIG}; name a folder as the transformers library saves it."


def _no_weights(folder: Path) -> str:
    pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(pattern))
    if pickles:
        return (
            f"{folder} holds weights only as a pickle ({', '.join(pickles[:3])}), which can run code and is never opened; "
            "get the model as safetensors, or convert it where you trust it: save_pretrained writes them."
        )
    return f"{folder} holds neither {WEIGHTS} nor {INDEX}; name a folder with the weights of the model."


def _named_by(index: Path) -> list[str]:
    try:
        weight_map: Any = json_table(read_at_most(index)).get("weight_map")
    except OSError as error:
        raise ConfigError(f"{index} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise ConfigError(f"{index} is not the JSON that it should be: {error}.") from None
    names: set[Any] = set(cast(dict[str, Any], weight_map).values()) if isinstance(weight_map, dict) else set()
    if not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{index} has no weight_map from names of tensors to names of files.")
    strange = sorted(name for name in names if not is_plain(name) or "/" in name or not name.endswith(".safetensors"))
    if strange:
        raise ConfigError(f"{index} names {strange[0]!r:.80}, which is no safetensors file of its own folder.")
    return sorted(names)


def _refusals(config: Mapping[str, Any]) -> Iterator[str]:
    """Why this is no model that could be trained, sampled and evaluated here."""
    kind = config.get("model_type")
    if not isinstance(kind, str):
        yield "it names no model_type" if kind is None else f"its model_type is {kind!r:.60}, which is no text"
    if config.get("is_encoder_decoder"):
        yield f"{kind!r:.60} encodes and decodes (is_encoder_decoder); only causal models go on with a text"
    if config.get("quantization_config"):
        yield "its weights are quantised (quantization_config), which cannot be trained; use the folder before quantisation"


def _beyond_bounds(config: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Integers for which no memory and no patience would suffice."""
    for name, value in config.items():
        place = f"{path}{name}"
        if isinstance(value, Mapping):
            yield from _beyond_bounds(cast(Mapping[str, Any], value), f"{place}.")
        values: list[Any] = cast(list[Any], value) if isinstance(value, list) else [value]
        most = MOST_MODULES if _COUNTS.fullmatch(name) else LARGEST_INTEGER
        largest = max((abs(one) for one in values if isinstance(one, int)), default=0)
        if largest > most:
            yield f"{place} = {str(largest)[:20]} is more than {most}"
        if isinstance(value, list) and len(values) > MOST_MODULES:
            yield f"{place} lists {len(values)} values, more than {MOST_MODULES}"


def _model_alone(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    table = cast(dict[str, Any], value)
    return {
        name: _model_alone(inner)
        for name, inner in table.items()
        if name not in _NOT_THE_MODEL and not name.startswith("_")
    }


def same_file(one: Path, other: Path) -> bool:
    """Whether two files have the same content; false where one cannot be read."""
    try:
        return one.samefile(other) or _sha256(one) == _sha256(other)
    except OSError:
        return False
