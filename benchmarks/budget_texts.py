"""The texts on which the loss law of budget mode is fitted, and those it has never seen, as experiments.

Nothing is downloaded: tiny Shakespeare is used where its file is, the rest comes with Python and its packages.
"""

import ast
import hashlib
import importlib.util
import json
import pydoc_data.topics
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

CHAR = '{kind="char"}'
SHAKESPEARE = Path(__file__).parents[2] / "shared" / "data" / "tinyshakespeare.txt"
DOCSTRING_PACKAGES = ("numpy", "sympy", "networkx", "torch")
SHORTEST = 80
"""Characters below which a docstring is a label rather than prose."""
SOURCE_PACKAGES = ("pydantic", "starlette", "rich", "typer", "safetensors", "yaml", "filelock", "tokenizers")


@dataclass(frozen=True)
class Text:
    """A text and the tokenizer it is read with."""

    name: str
    source: str
    """As `--set prepare.source=...` takes it."""
    tokenizer: str
    split_by: str = "position"
    held_out: bool = False
    """The law was not fitted on it."""

    @property
    def sets(self) -> list[str]:
        """What makes an experiment of it."""
        return [
            f"name={self.name}",
            f"prepare.source={self.source}",
            f"prepare.tokenizer={self.tokenizer}",
            f"prepare.split_by={self.split_by}",
            "prepare.val_fraction=0.1",
        ]


def bpe(vocab_size: int) -> str:
    """A byte-level BPE of that size."""
    return f'{{kind="byte_bpe", vocab_size={vocab_size}}}'


def texts(folder: Path, shakespeare: Path = SHAKESPEARE) -> list[Text]:
    """Write what must be written into `folder`, and name every text that this machine has."""
    folder.mkdir(parents=True, exist_ok=True)
    stdlib = '{kind="python_stdlib"}'
    docstrings = written(folder / "docstrings.txt", docstrings_of(DOCSTRING_PACKAGES))
    topics = written(folder / "topics.txt", (text for _, text in sorted(pydoc_data.topics.topics.items())))
    code = written(folder / "packages.txt", sources_of(SOURCE_PACKAGES))
    found = [
        Text("stdlib_bpe", stdlib, bpe(4096), "hash"),
        Text("stdlib_char", stdlib, CHAR, "hash"),
        Text("docstrings_bpe", docstrings, bpe(2048)),
        Text("docstrings_char", docstrings, CHAR),
        Text("topics_char", topics, CHAR, held_out=True),
        Text("topics_bpe", topics, bpe(1024), held_out=True),
        Text("packages_char", code, CHAR, held_out=True),
    ]
    if shakespeare.is_file():
        # The last tenth is what the README losses are measured on: the law must not have seen it.
        text = shakespeare.read_text(encoding="utf-8")
        training_part = written(folder / "shakespeare.txt", iter([text[: len(text) * 9 // 10]]))
        found.insert(0, Text("shakespeare_char", training_part, CHAR))
        found.insert(1, Text("shakespeare_bpe", training_part, bpe(1024)))
    return found


def written(path: Path, parts: Iterator[str]) -> str:
    """Write a text once; as a source."""
    if not path.exists():
        path.write_text("\n\n".join(parts), encoding="utf-8", errors="replace")
    return f'{{kind="text_file", path={json.dumps(str(path))}}}'


def docstrings_of(packages: tuple[str, ...]) -> Iterator[str]:
    """Docstrings of installed packages, each once, read without importing them.

    In the order of their hashes: the last tenth is then of the same kind as the rest, not all of the last package.
    """
    found: set[str] = set()
    for path in python_files(packages):
        # Some packages carry files for newer interpreters.
        with suppress(SyntaxError):
            tree = ast.parse(path.read_text(encoding="utf-8", errors="replace"))
            nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef))
            found.update(text for node in nodes if len(text := ast.get_docstring(node) or "") > SHORTEST)
    yield from sorted(found, key=lambda text: hashlib.sha256(text.encode("utf-8", "replace")).digest())


def sources_of(packages: tuple[str, ...]) -> Iterator[str]:
    """Python sources of installed packages."""
    for path in python_files(packages):
        yield path.read_text(encoding="utf-8", errors="replace")


def python_files(packages: tuple[str, ...]) -> Iterator[Path]:
    """Their files, in the order of their names."""
    for package in packages:
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec else ():
            yield from sorted(Path(place).rglob("*.py"))
