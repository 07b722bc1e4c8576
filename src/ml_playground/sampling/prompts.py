"""What a text begins with: from the settings to ids, with everything said that its user did not ask for."""

import os
import re
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
            parts = unknown_parts(text, tokenizer)
            what = _name_of(parts)
            raise ConfigError(
                f"The model knows no {what} of the prompt {_shortened(text)} ({_listed(parts)}); "
                f"its tokenizer has learned others. Use {what}s that occur in the training text."
            )
        notes = [f"the model does not know the white space {text!r}; the text begins as after an empty prompt"]
        return Prompt(text, first_ids(tokenizer), notes if text else ())
    notes: list[str] = []
    if unknown is not None and unknown in ids:
        parts = unknown_parts(text, tokenizer)
        notes.append(
            f"the model does not know these {_name_of(parts)}s of the prompt {_shortened(text)}: {_listed(parts)}"
        )
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


def unknown_parts(text: str, tokenizer: Tokenizer) -> list[str]:
    """The different characters of a text that the tokenizer does not know, in their order; of tokenizers that have one id
    for a word, the words.
    """
    unknown = tokenizer.specials.unknown
    found: dict[str, None] = {}
    for word in re.findall(r"\s?\w+|\s?[^\s\w]+|\s+", text):
        ids = tokenizer.encode(word)
        if ids == [unknown]:
            found[word.strip() or word] = None
        elif unknown in ids:
            found.update(dict.fromkeys(one for one in word if unknown in tokenizer.encode(one)))
    return list(found)


def _name_of(parts: Sequence[str]) -> str:
    return "word" if any(len(part) > 1 for part in parts) else "character"


def _listed(parts: Sequence[str]) -> str:
    """The first few of them."""
    more = f" and {len(parts) - LISTED_CHARACTERS} more" if len(parts) > LISTED_CHARACTERS else ""
    return " ".join(map(repr, parts[:LISTED_CHARACTERS])) + more


def _shortened(text: str, length: int = 40) -> str:
    return repr(text if len(text) <= length else text[:length] + "...")
