"""Writes docs/configuration.md and the JSON schema, both from the settings classes and their docstrings."""

import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from ml_playground.configuration.base import ByKind, Strict, kinds_of
from ml_playground.configuration.loading import group_names
from ml_playground.configuration.models import JobConfig
from ml_playground.configuration.overrides import VARIABLES
from ml_playground.configuration.schema import default_of, families_in_use, keys_of, sections
from ml_playground.core.atomic import write_file

HEAD = """\
# Configuration

Written from the settings classes by `python -m ml_playground.configuration.reference docs/configuration.md`; do not edit.
How files, groups, variables and `--set` are laid over each other stands in
[configuration/README.md](../src/ml_playground/configuration/README.md).
`mlp config show EXPERIMENT` prints the values of one experiment, `mlp config explain KEY` the history of one key.
"""

WHERE = {
    "source": "`[prepare.source]`",
    "tokenizer": "`[prepare.tokenizer]`",
    "hook": "`[hooks.NAME]`, any number of them, each by a name of your choice",
}
"""Families whose tables are not called like them."""


def reference_text() -> str:
    """Every section, every kind and every key, as Markdown."""
    parts = [HEAD, "## The job\n", *_table(JobConfig)]
    for name, section in sections().items():
        parts += [f"\n## [{name}]\n", f"{_about(section)}\n", *_table(section)]
    for family in families_in_use():
        parts += [f"\n## Kinds of {family}\n", f"Set in {WHERE.get(family, f'`[{family}]`')}.\n"]
        for kind, settings_class in kinds_of(family).items():
            parts += [f"\n### {family}: {kind}\n", f"{_about(settings_class)}\n", *_table(settings_class)]
    parts += ["\n## Groups\n", "What `use` may name:\n", *(f"- `{name}`" for name in group_names())]
    parts += ["\n## Environment variables\n", "Each holds a JSON object.\n"]
    parts += [f"- `{name}`: laid over {f'`[{path[0]}]`' if path else 'the job'}" for name, path in VARIABLES.items()]
    return "\n".join(parts) + "\n"


def write_reference(path: Path) -> None:
    """Write the reference to a file."""
    write_file(path, reference_text())


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


def _table(settings_class: type[Strict]) -> Iterator[str]:
    yield "| key | takes | default | meaning |"
    yield "|---|---|---|---|"
    for name, shape in keys_of(settings_class).items():
        field = settings_class.model_fields[name]
        value = default_of(field)
        default = "must be set" if value is ... else f"`{json.dumps(value, ensure_ascii=False)}`"
        default = "see below" if isinstance(value, dict) else default.replace("`null`", "none")
        cells = (f"`{name}`", shape.allowed, default, field.description or "")
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


if __name__ == "__main__":
    write_reference(Path(sys.argv[1]))
