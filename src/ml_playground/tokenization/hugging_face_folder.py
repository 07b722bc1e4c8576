"""Opens a folder with transformers: the tokenizer as its library has it, with the configuration and the chat template."""

import tempfile
from pathlib import Path
from typing import Any, cast

from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from ml_playground.core.error_handling import DataError

RULES_NAME = "tokenizer.json"
# With either of them AutoTokenizer knows what class a folder is meant for.
CONFIGURATIONS = "tokenizer_config.json", "config.json"

MOST_CHARACTERS = 300
"""Of what the library says: it lists all classes that it knows."""


def open_folder(folder: Path) -> tuple[dict[str, bytes], dict[str, int | None]]:
    """The files that `save_pretrained` writes, by name, and the ids of bos, eos and pad.

    Raises:
        DataError: transformers does not open it without network and code, or it has no fast form.
    """
    opened = _opened(folder)
    if not opened.is_fast:
        raise DataError(
            f"The tokenizer in prepare.tokenizer.path = {folder} is a {type(opened).__name__}, which is code without a "
            "tokenizer.json; use another one, or prepare.tokenizer.kind = 'byte' if it works on bytes."
        )
    with tempfile.TemporaryDirectory() as written:
        opened.save_pretrained(written)
        files = {
            path.relative_to(written).as_posix(): path.read_bytes()
            for path in sorted(Path(written).rglob("*"))
            if path.is_file()
        }
    ids = {"bos": opened.bos_token_id, "eos": opened.eos_token_id, "pad": opened.pad_token_id}
    return files, cast(dict[str, int | None], ids)


def _opened(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer; without any configuration its rules alone, special tokens unknown."""
    try:
        if (folder / RULES_NAME).is_file() and not any((folder / name).is_file() for name in CONFIGURATIONS):
            return PreTrainedTokenizerFast(tokenizer_file=str(folder / RULES_NAME))
        opened: PreTrainedTokenizerBase = cast(Any, AutoTokenizer).from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
        return opened
    except Exception as error:
        # A folder may hold anything, and the library names no class for what it stumbles over; tokenizers raises bare
        # Exception itself.
        why = " ".join(str(error).split())
        why = why if len(why) <= MOST_CHARACTERS else f"{why[:MOST_CHARACTERS]}..."
        raise DataError(
            f"transformers does not open the tokenizer in prepare.tokenizer.path = {folder} without network and code of "
            f"the folder ({type(error).__name__}: {why}); name a folder with a tokenizer.json."
        ) from error
