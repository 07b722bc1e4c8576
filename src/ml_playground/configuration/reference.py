"""Writes docs/configuration.md, docs/reference/ and the JSON schema, all from the settings classes and their docstrings."""

import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from ml_playground.configuration.base import ByKind, Component, Strict, kinds_of, settings_of
from ml_playground.configuration.families import FAMILIES
from ml_playground.configuration.loading import group_names
from ml_playground.configuration.models import JobConfig
from ml_playground.configuration.overrides import VARIABLES
from ml_playground.configuration.schema import KINDS, default_of, families_in_use, keys_of, sections
from ml_playground.core.atomic import write_file

COMMAND = "python -m ml_playground.configuration.reference docs/configuration.md"

HEAD = f"""\
# Configuration

Written from the settings classes by `{COMMAND}`; do not edit.
How files, groups, variables and `--set` are laid over each other stands in
[configuration/README.md](../src/ml_playground/configuration/README.md).
`mlp config show EXPERIMENT` prints the values of one experiment, `mlp config explain KEY` the history of one key.
"""

FOLDER = "reference"
"""Of the pages of the families, beside the page of the job."""


class Place(NamedTuple):
    """Of a family: where a job chooses its kind, what it is for, and where more is written."""

    table: str
    about: str
    more: tuple[str, ...]
    """Pages of docs/, with their anchors; a text before each is the page's name."""


PLACES = {
    "source": Place("[prepare.source]", "Where text or images come from.", ("sources.md", "add-your-own.md#a-source")),
    "profile": Place(
        "[prepare.profile]",
        "What is made of chats before they are trained on, and how their answers are drawn and scored.",
        ("profiles.md", "chats.md"),
    ),
    "tokenizer": Place(
        "[prepare.tokenizer]", "How text becomes ids.", ("tokenizers.md", "add-your-own.md#a-tokenizer")
    ),
    "data": Place(
        "[data]", "How batches are cut from the prepared data.", ("data.md", "ledger.md", "add-your-own.md#data")
    ),
    "model": Place("[model]", "What is trained.", ("models.md", "add-your-own.md#a-model")),
    "adapter": Place(
        "[model.adapter]",
        "Small weights that are trained beside those of a model from elsewhere, which stay as they are.",
        ("fine-tuning.md",),
    ),
    "objective": Place("[objective]", "What is minimised.", ("add-your-own.md#an-objective",)),
    "optimizer": Place("[optimizer]", "How weights move.", ("recipes.md", "add-your-own.md#an-optimizer")),
    "schedule": Place(
        "[schedule]", "Share of the peak learning rate at each step.", ("recipes.md", "add-your-own.md#a-schedule")
    ),
    "hook": Place(
        "[hooks.NAME]",
        "What watches and steers a run: any number of them, each by a name of your choice.",
        ("reliability.md", "budget.md", "add-your-own.md#a-hook"),
    ),
}


def reference_pages() -> Mapping[str, str]:
    """Every section, every shipped kind and every key, as Markdown: path below docs/ -> page."""
    pages = {"configuration.md": _job_page()}
    return pages | {f"{FOLDER}/{family}.md": _family_page(family) for family in families_in_use()}


def write_reference(path: Path) -> None:
    """Write the page of the job to a file, and those of the families into a folder beside it."""
    first, *families = reference_pages().values()
    write_file(path, first)
    for family, page in zip(families_in_use(), families, strict=True):
        write_file(path.parent / FOLDER / f"{family}.md", page)


def _job_page() -> str:
    parts = [HEAD, "## The job\n", *_table(JobConfig, f"{FOLDER}/")]
    for name, section in sections().items():
        parts += [f"\n## [{name}]\n", f"{_about(section)}\n", *_table(section, f"{FOLDER}/")]
        for key, field in section.model_fields.items():
            if (
                isinstance(inner := field.annotation, type)
                and issubclass(inner, Strict)
                and not issubclass(inner, Component)
            ):
                parts += [f"\n## [{name}.{key}]\n", f"{_about(inner)}\n", *_table(inner, f"{FOLDER}/")]
    parts += [
        "\n## Kinds\n",
        "Each family has a page of its own.\n",
        "| family | set in | what it is | kinds |",
        "|---|---|---|---|",
    ]
    for family in families_in_use():
        page, place = f"{FOLDER}/{family}.md", PLACES[family]
        kinds = ", ".join(f"[`{kind}`]({page}#{kind})" for kind in FAMILIES[family].shipped)
        parts.append(f"| [{family}]({page}) | `{place.table}` | {place.about} | {kinds} |")
    parts += ["\n## Groups\n", "What `use` may name:\n", *(f"- `{name}`" for name in group_names())]
    parts += ["\n## Environment variables\n", "Each holds a JSON object.\n"]
    parts += [f"- `{name}`: laid over {f'`[{path[0]}]`' if path else 'the job'}" for name, path in VARIABLES.items()]
    return "\n".join(parts) + "\n"


def _family_page(family: str) -> str:
    place, kinds = PLACES[family], {kind: settings_of(family, kind) for kind in FAMILIES[family].shipped}
    more = ", ".join(f"[{Path(page.partition('#')[0]).stem.replace('-', ' ')}](../{page})" for page in place.more)
    parts = [
        f"# Kinds of {family}\n",
        f"{place.about} Set in `{place.table}`; more: {more}; [all settings](../configuration.md).\n",
        f"Written from the settings classes by `{COMMAND}`; do not edit.\n",
        "| kind | what it is |",
        "|---|---|",
        *(f"| [`{kind}`](#{kind}) | {_cell(_about(found).splitlines()[0])} |" for kind, found in kinds.items()),
    ]
    for kind, found in kinds.items():
        parts += [f"\n## {kind}\n", f"{_about(found)}\n", *_table(found, "")]
    return "\n".join(parts) + "\n"


def job_schema() -> dict[str, Any]:
    """JSON schema of a whole job; each component is one of its family's kinds."""
    return {"$schema": _JobSchema.schema_dialect} | JobConfig.model_json_schema(
        mode="validation", schema_generator=_JobSchema
    )


class _JobSchema(GenerateJsonSchema):
    """Knows what the kinds of a family are, which the core schema holds as a function only."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._around: list[str] = []

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        """A table of names has no other names than those of the pattern."""
        table = super().dict_schema(schema)
        return table | {"additionalProperties": False} if "patternProperties" in table else table

    def function_plain_schema(self, schema: core_schema.PlainValidatorFunctionSchema) -> JsonSchemaValue:
        """One of the kinds of the family, told apart by `kind`."""
        owner = getattr(schema["function"]["function"], "__self__", None)
        if not isinstance(owner, ByKind):
            return super().function_plain_schema(schema)
        kinds = kinds_of(owner.family)
        if owner.family in self._around:
            # Parts of a mixture: spelling out all kinds in each other would have no end.
            return {"type": "object", "properties": {"kind": {"enum": list(kinds)}}, "required": ["kind"]}
        self._around.append(owner.family)
        choices = [self.generate_inner(kind.__pydantic_core_schema__) for kind in kinds.values()]
        self._around.pop()
        return {"oneOf": [{"allOf": [choice], "required": ["kind"]} for choice in choices]}


def _about(settings_class: type[Strict]) -> str:
    return inspect.cleandoc(settings_class.__doc__ or "")


def _table(settings_class: type[Strict], folder: str) -> Iterator[str]:
    """A row for each key; `folder` leads to the pages of the families."""
    yield "| key | takes | default | meaning |"
    yield "|---|---|---|---|"
    for name, shape in keys_of(settings_class).items():
        field = settings_class.model_fields[name]
        value = default_of(field)
        default = "must be set" if value is ... else f"`{json.dumps(value, ensure_ascii=False)}`"
        default = "see below" if isinstance(value, dict) else default.replace("`null`", "none")
        family = shape.family or shape.table_of
        takes = shape.words.replace(KINDS, f"see [{family}]({folder}{family}.md)")
        yield f"| {' | '.join(map(_cell, (f'`{name}`', takes, default, field.description or '')))} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    write_reference(Path(sys.argv[1]))
