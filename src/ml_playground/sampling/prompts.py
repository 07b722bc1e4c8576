"""What a text begins with: from the settings to ids, with everything said that its user did not ask for."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ml_playground.configuration.base import FILE_MARK
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.foreign_files import read_at_most
from ml_playground.core.tokenizer_protocol import OpensTexts, Tokenizer
from ml_playground.sampling.generate import window_start

LISTED_CHARACTERS = 12

MOST_BYTES = 64 << 20
"""Of a prompt in a file: thousands of times any context."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as its user wrote it and as the model reads it."""

    text: str
    ids: Sequence[int]
    notes: Sequence[str] = ()
    """What was done that its user might not expect."""


def prompt_text(prompt: str) -> str:
    """The prompt itself, or the whole content of the file that `FILE:path` names.

    Raises:
        ConfigError: The file is missing, unreadable, empty, or not UTF-8.
    """
    if not prompt.startswith(FILE_MARK):
        return prompt
    path = Path(os.path.expanduser(prompt.removeprefix(FILE_MARK)))  # noqa: PTH111 - raises for no user
    try:
        text = read_at_most(path, MOST_BYTES).decode("utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"The prompt {prompt!r} names a file that is not there ({path.absolute()}); correct the path, "
            "which counts from the folder of the file that sets it, in an option from the working directory."
        ) from None
    except OSError as error:
        raise ConfigError(
            f"The prompt {prompt!r} cannot be read: {error.strerror}; name a readable text file."
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"The prompt {prompt!r} is not UTF-8 (byte {error.start}: {error.reason}); convert the file to UTF-8."
        ) from None
    if not text:
        raise ConfigError(f"The prompt {prompt!r} names an empty file; put a text into it, or use --prompt ''.")
    return text


def encode_prompt(prompt: str, tokenizer: Tokenizer, max_context: int | None) -> Prompt:
    """Ids of a prompt, at least one; before them the marks that some tokenizers open a text with.

    An empty prompt begins with the tokenizer's mark of a beginning, else with its mark of an end (after which the next
    text begins), else with a line break, else with id 0. White space that the tokenizer does not know counts as empty.

    Raises:
        ConfigError: As `prompt_text`; or the tokenizer knows no character of the prompt.
    """
    text = prompt_text(prompt)
    ids = tokenizer.encode(text)
    unknown = tokenizer.specials.unknown
    if not any(index != unknown for index in ids):
        if text.strip():
            raise ConfigError(
                f"The model knows no character of the prompt {_shortened(text)} ({unknown_characters(text, tokenizer)}); "
                "its tokenizer has learned others. Use characters that occur in the training text."
            )
        notes = [f"the model does not know the white space {text!r}; the text begins as after an empty prompt"]
        return Prompt(text, first_ids(tokenizer), notes if text else ())
    notes: list[str] = []
    if unknown is not None and unknown in ids:
        listed = unknown_characters(text, tokenizer)
        notes.append(f"the model does not know these characters of the prompt {_shortened(text)}: {listed}")
    if isinstance(tokenizer, OpensTexts):
        ids = [*tokenizer.opening_ids, *ids]
    skipped = window_start(len(ids), max_context)
    if skipped:
        notes.append(
            f"the prompt {_shortened(text)} has {len(ids)} tokens, more than the model's context of {max_context}; "
            f"only the last {len(ids) - skipped} are read"
        )
    return Prompt(text, ids, notes)


def first_ids(tokenizer: Tokenizer) -> list[int]:
    """What a text begins with when there is no prompt: see `encode_prompt`."""
    specials = tokenizer.specials
    for special in (specials.bos, specials.eos):
        if special is not None:
            return [special]
    return [index for index in tokenizer.encode("\n") if index != specials.unknown] or [0]


def unknown_characters(text: str, tokenizer: Tokenizer) -> str:
    """The different characters of a text that the tokenizer does not know, in their order, the first few of them."""
    unknown = [
        character for character in dict.fromkeys(text) if tokenizer.specials.unknown in tokenizer.encode(character)
    ]
    more = f" and {len(unknown) - LISTED_CHARACTERS} more" if len(unknown) > LISTED_CHARACTERS else ""
    return " ".join(map(repr, unknown[:LISTED_CHARACTERS])) + more


def _shortened(text: str, length: int = 40) -> str:
    return repr(text if len(text) <= length else text[:length] + "...")
