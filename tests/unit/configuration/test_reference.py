"""The written reference and the JSON schema; and what must hold for every settings class there is."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from ml_playground.configuration.base import Strict, kinds_of
from ml_playground.configuration.families import FAMILIES
from ml_playground.configuration.loading import group_names, load
from ml_playground.configuration.models import JobConfig
from ml_playground.configuration.reference import job_schema, reference_pages, write_reference
from ml_playground.configuration.schema import families_in_use, keys_of, sections

ROOT = Path(__file__).parents[3]
CLASSES: list[type[Strict]] = [
    JobConfig,
    *sections().values(),
    *(kind for family in families_in_use() for kind in kinds_of(family).values()),
]
NEEDED: dict[str, Any] = {
    kind: {"path": "/a"}
    for kind in (
        "text_file",
        "csv_text",
        "jsonl_text",
        "jsonl_chat",
        "jsonl_preference",
        "parquet",
        "hub_dataset",
        "tei_xml",
        "hugging_face",
    )
} | {
    "url_text": {"url": "https://a"},
    "mixture": {"parts": {"a": {"kind": "python_stdlib"}}},
    "preference_pairs": {"reference": "/a"},
    # As a run records it; else it reads its folder.
    "hf_causal_lm": {"path": "/a", "config": '{"model_type":"gpt2"}'},
}
"""What a kind cannot do without."""


def test_reference_on_disk_equals_the_settings_classes() -> None:
    """Renew it: python -m ml_playground.configuration.reference docs/configuration.md."""
    on_disk = {"configuration.md", *(f"reference/{path.name}" for path in (ROOT / "docs" / "reference").iterdir())}
    assert {name: (ROOT / "docs" / name).read_text(encoding="utf-8") for name in on_disk} == reference_pages()


def test_reference_written_by_its_module_is_the_same(tmp_path: Path) -> None:
    """The command that the page names works."""
    command = [sys.executable, "-m", "ml_playground.configuration.reference", str(tmp_path / "a" / "configuration.md")]
    subprocess.run(command, check=True)
    write_reference(tmp_path / "b" / "configuration.md")
    for name, page in reference_pages().items():
        assert {(tmp_path / folder / name).read_text(encoding="utf-8") for folder in "ab"} == {page}


def test_reference_links_lead_somewhere() -> None:
    """To a page that is there, and to a heading in it."""
    pages = reference_pages()
    for name, page in pages.items():
        for target in re.findall(r"\]\(([^)]+)\)", page):
            path, _, heading = target.partition("#")
            file = (ROOT / "docs" / name).parent / path if path else ROOT / "docs" / name
            titles = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
            assert not heading or heading in anchors, f"{name}: {target}"


def test_reference_names_every_kind_key_and_group() -> None:
    """Nothing can be set that is not written down."""
    pages = reference_pages()
    text = "\n".join(pages.values())
    for settings_class in CLASSES:
        assert all(f"| `{name}` |" in text for name in keys_of(settings_class))
    for family in families_in_use():
        assert all(f"\n## {kind}\n" in pages[f"reference/{family}.md"] for kind in FAMILIES[family].shipped)
    assert all(f"- `{name}`" in text for name in group_names())


@pytest.mark.parametrize("settings_class", CLASSES, ids=lambda kind: kind.__name__)
def test_settings_class_every_field_has_a_docstring(settings_class: type[Strict]) -> None:
    """The help of `config explain` and the page come from it."""
    assert settings_class.__doc__
    assert [name for name, field in settings_class.model_fields.items() if not field.description] == []


@pytest.mark.parametrize("settings_class", CLASSES, ids=lambda kind: kind.__name__)
def test_settings_class_is_strict_frozen_and_declares_its_kind(settings_class: type[Strict]) -> None:
    """A class that forgot the base would take anything."""
    config = settings_class.model_config
    assert (config["frozen"], config["strict"], config["extra"], config["allow_inf_nan"]) == (
        True,
        True,
        "forbid",
        False,
    )
    for group in settings_class.alternatives:
        assert all(settings_class.model_fields[name].get_default() is None for name in group)


@pytest.mark.parametrize("family", families_in_use())
def test_kind_of_settings_equals_its_row(family: str) -> None:
    """The table's key and the class's literal are the same word."""
    assert {kind: row.model_fields["kind"].get_default() for kind, row in kinds_of(family).items()} == {
        kind: kind for kind in FAMILIES[family]
    }


@pytest.mark.parametrize("settings_class", CLASSES, ids=lambda kind: kind.__name__)
def test_settings_round_trip_through_json_and_hold_data_only(settings_class: type[Strict]) -> None:
    """What is recorded is all there is: no callable, no object that JSON would lose."""
    job = load("python_stdlib").job
    examples: dict[type[BaseModel], BaseModel] = {JobConfig: job}
    examples |= {type(part): part for part in (job.prepare, job.train)}
    kind = settings_class.model_fields["kind"].get_default() if "kind" in settings_class.model_fields else ""
    example = examples.get(settings_class) or settings_class.model_validate_json(json.dumps(NEEDED.get(kind, {})))
    again = settings_class.model_validate_json(example.model_dump_json())
    assert again == example
    assert json.loads(example.model_dump_json()) == example.model_dump(mode="json")
    for value in vars(example).values():
        assert not isinstance(value, Callable)


def test_schema_every_component_is_one_of_its_kinds() -> None:
    """Editors complete kinds and their keys from it."""
    schema = job_schema()
    places = {
        "source": schema["$defs"]["PrepareSettings"]["properties"]["source"],
        "tokenizer": schema["$defs"]["PrepareSettings"]["properties"]["tokenizer"],
        "profile": schema["$defs"]["PrepareSettings"]["properties"]["profile"],
        "adapter": schema["$defs"]["HfCausalLm"]["properties"]["adapter"],
        "hook": next(iter(schema["properties"]["hooks"]["patternProperties"].values())),
    }
    for family in families_in_use():
        place = places.get(family, schema["properties"].get(family))
        # A component that may be none is one of its kinds, or null.
        choices = (place if "oneOf" in place else place["anyOf"][0])["oneOf"]
        names = [choice["allOf"][0]["$ref"].rpartition("/")[2] for choice in choices]
        kinds = {schema["$defs"][name]["properties"]["kind"]["const"] for name in names}
        assert kinds == set(FAMILIES[family])
        assert all("kind" in choice["required"] for choice in choices)


def fits(schema: Any, value: Any, root: dict[str, Any]) -> bool:
    """As much of JSON schema as ours uses; an unknown word in it is an error."""
    told = {"title", "description", "default", "$defs", "$schema"}
    rules: dict[str, Callable[[Any], bool]] = {
        "$ref": lambda ref: fits(root["$defs"][ref.rpartition("/")[2]], value, root),
        "oneOf": lambda parts: sum(fits(part, value, root) for part in parts) == 1,
        "anyOf": lambda parts: any(fits(part, value, root) for part in parts),
        "allOf": lambda parts: all(fits(part, value, root) for part in parts),
        "const": lambda const: value == const,
        "enum": lambda choices: value in choices,
        "type": lambda name: isinstance(value, TYPES[name]) and (not isinstance(value, bool) or name == "boolean"),
        "required": lambda names: isinstance(value, dict) and set(names) <= set(value),
        "properties": lambda parts: all(fits(parts[name], value[name], root) for name in parts if name in value),
        "additionalProperties": lambda rest: all(
            rest is not False and fits(rest, value[name], root)
            for name in value
            if name not in schema.get("properties", {})
            and not any(re.search(pattern, name) for pattern in schema.get("patternProperties", {}))
        ),
        "patternProperties": lambda parts: all(
            fits(part, value[name], root)
            for pattern, part in parts.items()
            for name in value
            if re.search(pattern, name)
        ),
        "items": lambda part: all(fits(part, entry, root) for entry in value),
        "minItems": lambda least: len(value) >= least,
        "minLength": lambda least: len(value) >= least,
        "minimum": lambda limit: value >= limit,
        "maximum": lambda limit: value <= limit,
        "exclusiveMinimum": lambda limit: value > limit,
        "exclusiveMaximum": lambda limit: value < limit,
        "pattern": lambda pattern: re.search(pattern, value) is not None,
        "format": lambda name: name == "path" and isinstance(value, str),
    }
    order = sorted(set(schema) - told, key=lambda word: word != "type")
    return all(rules[word](schema[word]) for word in order)


TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


@pytest.mark.parametrize("name", ["python_stdlib", "shakespeare"])
def test_schema_accepts_real_jobs(name: str) -> None:
    """Whatever the loader resolves, the schema takes."""
    assert fits(job_schema(), load(name).job.model_dump(mode="json"), job_schema())


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("seed", -1),
        ("optimizer", {"kind": "adam"}),
        ("optimizer", {"lr": 0.1}),
        ("optimizer", {"kind": "adamw", "matrix_lr": 0.1}),
        ("hooks", {"x": {"kind": "status", "every_seconds": 0}}),
        ("hooks", {"a b": {"kind": "status"}}),
        ("name", "a/b"),
        ("train", {"max_step": 3}),
    ],
)
def test_schema_refuses_what_the_loader_refuses(section: str, value: Any) -> None:
    """A schema that takes anything would be valid too."""
    job = load("python_stdlib").job.model_dump(mode="json") | {section: value}
    assert not fits(job_schema(), job, job_schema())


WITHOUT_TORCH = f"""
import sys
NEEDED = {NEEDED!r}
for name in ("torch", "transformers", "tokenizers", "numpy"):
    sys.modules[name] = None
from ml_playground.commands.config import check, diff, explain, schema, show
from ml_playground.commands.experiments import experiments
from ml_playground.configuration.base import kinds_of
from ml_playground.configuration.schema import families_in_use
for family in families_in_use():
    for kind, settings_class in kinds_of(family).items():
        settings_class.model_validate_json(__import__("json").dumps({{"kind": kind, **NEEDED.get(kind, {{}})}}))
show("python_stdlib"), explain("optimizer.lr"), diff("python_stdlib", "shakespeare"), check("shakespeare"), schema()
experiments()
"""


def test_configuration_and_its_commands_work_with_torch_blocked(tmp_path: Path) -> None:
    """Configuration is checked on machines that will never train."""
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "optimizer.lr = 0.001" in result.stdout


@pytest.mark.parametrize("folder", ["configuration", "experiments"])
def test_readme_example_runs(folder: str) -> None:
    """An example that does not run is worse than none."""
    text = (ROOT / "src" / "ml_playground" / folder / "README.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    exec(compile(code, f"{folder}/README.md", "exec"), {})
