"""Opens a tokenizer whose kind only its folder knows."""

from pathlib import Path

from ml_playground.configuration.families import TOKENIZERS
from ml_playground.core.error_handling import DataError
from ml_playground.core.registry import did_you_mean, load_object
from ml_playground.core.tokenizer_protocol import BulkTokenizer, TokenizerClass
from ml_playground.tokenization.stored import FILE_NAME, read_content


def load_tokenizer(folder: Path) -> BulkTokenizer:
    """The tokenizer that a folder holds, by the kind that its `tokenizer.json` names.

    Raises:
        DataError: There is none, it is damaged, or its kind is unknown.
        ConfigError: A library that the kind needs is not installed.
    """
    kind = read_content(folder).get("kind")
    if not isinstance(kind, str) or kind not in TOKENIZERS:
        hint = did_you_mean(kind, TOKENIZERS) if isinstance(kind, str) else ""
        raise DataError(
            f"{folder / FILE_NAME} holds a tokenizer of unknown kind {kind!r:.60}{hint} "
            f"(known: {TOKENIZERS.listed()}); install the plugin that brings it, or prepare the data again."
        )
    found: TokenizerClass = load_object(TOKENIZERS[kind].build)
    return found.load(folder)
