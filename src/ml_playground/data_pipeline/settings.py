"""Settings of sources and of the ways batches are cut; free of torch."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from ml_playground.configuration.base import Component, ConfigPath, Count


class TextFile(Component):
    """Text files on this machine; each file is a document."""

    kind: Literal["text_file"] = "text_file"
    """Text files."""
    path: ConfigPath
    """A file, a folder (all of it that matches `pattern`), or a glob."""
    pattern: str = "**/*.txt"
    """Which files of a folder."""
    encoding: str = "utf-8"
    """How the bytes are read; a byte that does not fit is an error, never replaced in silence."""


class UrlText(Component):
    """One text, fetched once and kept in the cache."""

    kind: Literal["url_text"] = "url_text"
    """A text by its address."""
    url: str
    """http, https or file address."""
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    """What the bytes must hash to; without it any answer is taken, and its hash recorded; `prepare --fresh` fetches anew."""
    encoding: str = "utf-8"
    """How the bytes are read."""


class PythonStdlib(Component):
    """The sources of the running interpreter's standard library, without tests and site-packages: text that is always there."""

    kind: Literal["python_stdlib"] = "python_stdlib"
    """The interpreter's own sources."""
    max_files: Count | None = None
    """Only the first files in the order of their names; none: all."""


class TokenWindows(Component):
    """Windows of consecutive tokens, each exactly once an epoch."""

    kind: Literal["token_windows"] = "token_windows"
    """Windows of T + 1 tokens at stride T."""
    sequence_tokens: Annotated[int, Field(ge=1)] = 256
    """T: tokens a batch row holds."""
    micro_batch_rows: Count = 16
    """B: rows the device sees at once."""
    order: Literal["random", "sequential"] = "random"
    """`random`: a keyed permutation of all windows each epoch; `sequential`: as they stand."""
