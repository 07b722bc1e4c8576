"""The engine knows no component by name: a kind is added without a change of `training/`."""

import ast
from collections.abc import Iterator

from ml_playground.configuration.families import DATA, MODELS, OBJECTIVES, SOURCES, TOKENIZERS
from tests.architecture.source import PACKAGE, ROOT, Source, sources

NAMES = {kind for family in (SOURCES, TOKENIZERS, DATA, MODELS, OBJECTIVES) for kind in family.shipped}


def names_of_kinds(source: Source) -> Iterator[str]:
    """Every text, name, attribute, argument and module of a file that is a kind's name, with its place."""
    for node in ast.walk(source.tree):
        words: set[object] = set()
        match node:
            case ast.Constant(value=str(text)):
                words = {text, *text.split(".")} if " " not in text else set()
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.FunctionDef(name=name):
                words = {name}
            case ast.ClassDef(name=name):
                words = {name}
            case ast.keyword(arg=name):
                words = {name}
            case ast.alias(name=name, asname=short):
                words = {*name.split("."), short}
            case ast.ImportFrom(module=module):
                words = set((module or "").split("."))
        yield from (f"{source.where(node)} names {word}" for word in sorted(map(str, words & NAMES)))


def test_training_names_no_kind_of_the_other_families() -> None:
    """Sources, tokenizers, data, models and objectives come and go; hooks, optimizers and schedules live in training."""
    assert [found for source in sources(PACKAGE / "training") for found in names_of_kinds(source)] == []


def test_names_of_kinds_are_found_in_every_place() -> None:
    """The test above looks where a name could stand."""
    text = (
        "from ml_playground.models.core.gpt import build\nimport a.vit\nif kind == 'char': byte = settings.word\n"
        "def ngram(parquet): run(mixture=1)\n'data.digits'\n"
    )
    found = {line.rpartition(" ")[2] for line in names_of_kinds(Source(ROOT / "src" / "a.py", text, ast.parse(text)))}
    assert found == {"gpt", "vit", "char", "byte", "word", "ngram", "parquet", "mixture", "digits"}
