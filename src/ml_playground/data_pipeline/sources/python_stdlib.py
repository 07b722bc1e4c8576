"""The sources of the running interpreter's standard library: text that is always there."""

import os
import platform
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import DataError
from ml_playground.core.values import Document
from ml_playground.data_pipeline.settings import PythonStdlib
from ml_playground.data_pipeline.source_protocol import NamedFile, Provenance, SkippedFile, SourceFile
from ml_playground.data_pipeline.sources.text_pieces import file_account, unreadable

# Installed packages, caches, tests, and lib2to3, which Python 3.13 dropped: what remains is the library itself.
LEFT_OUT = frozenset({"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test", "lib2to3"})


class StandardLibrary:
    """Each module as a document, in the order of names; empty ones and those that are not UTF-8 are skipped and counted."""

    def __init__(self, settings: PythonStdlib, root: Path) -> None:
        self._settings = settings
        self._root = root

    def files(self) -> list[NamedFile]:
        """Each module that is used."""
        named = ((file.relative_to(self._root).as_posix(), file) for file in self._files())
        return [NamedFile(name, file, "utf-8") for name, file in named if isinstance(module_text(file, name), str)]

    def documents(self) -> Iterator[Document]:
        """Each module, its path below the library as the id."""
        for file in self._files():
            name = file.relative_to(self._root).as_posix()
            text = module_text(file, name)
            if isinstance(text, str):
                yield Document(name, text)

    def provenance(self) -> Provenance:
        """Names, sizes and hashes of the modules, and the version of Python."""
        files: list[SourceFile] = []
        skipped: list[SkippedFile] = []
        for file in self._files():
            name = file.relative_to(self._root).as_posix()
            text = module_text(file, name)
            if isinstance(text, str):
                files.append(file_account(file, name))
            else:
                skipped.append(text)
        return Provenance(
            kind=self._settings.kind,
            files=tuple(files),
            skipped=tuple(skipped),
            facts={"python": platform.python_version(), "folder": str(self._root)},
        )

    def _files(self) -> list[Path]:
        found = list(modules_below(self._root))
        if not found:
            raise DataError(
                f"{self._root} holds no Python sources: this Python ships its standard library without them. Use "
                "a Python that has them, or a text of yours: "
                '--set \'prepare.source={kind="text_file", path="FILE"}\'.'
            )
        return sorted(found, key=lambda path: path.relative_to(self._root).as_posix())[: self._settings.max_files]


def build(settings: PythonStdlib, deps: Deps) -> StandardLibrary:
    """The source, reading the library of the interpreter that runs."""
    del deps
    return StandardLibrary(settings, Path(sysconfig.get_paths()["stdlib"]))


def modules_below(root: Path) -> Iterator[Path]:
    """All Python files of a folder; walks past what is left out without looking into it: site-packages alone may hold 50,000 files."""
    for folder, names, files in os.walk(root):
        names[:] = set(names) - LEFT_OUT
        yield from (Path(folder) / file for file in files if file.endswith(".py"))


def module_text(file: Path, name: str) -> str | SkippedFile:
    """The text of a module, or why it is skipped. The largest has a megabyte, so it is read whole."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise unreadable(file, error) from error
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        return SkippedFile(name=name, reason="not_utf8", size_bytes=len(content), at_byte=error.start)
    return text or SkippedFile(name=name, reason="empty", size_bytes=0)
