"""Laws of the loader: every key can be set from every layer, what is written is read, nothing crashes it."""

import json
import re
import tomllib
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_playground.configuration.documents import read_document
from ml_playground.configuration.fingerprint import config_hash
from ml_playground.configuration.lines import json_lines, toml_lines
from ml_playground.configuration.loading import load
from ml_playground.configuration.models import JobConfig
from ml_playground.configuration.origins import Layer, merge
from ml_playground.configuration.problems import validated
from ml_playground.configuration.rendering import as_toml, toml_key, toml_value
from ml_playground.configuration.schema import KeyPath, dotted, find_key, leaves, node_at
from ml_playground.core.error_handling import ConfigError

EXPERIMENT = str(Path(__file__).parents[1] / "fakes" / "every_section")
JOB = load(EXPERIMENT, environ={}).job.model_dump(mode="json")
NO_OTHER_VALUE = {("plugins",), ("checkpointing", "best_by")}
"""A plugin must be there to be named; of what predicts text only the loss is measured."""
OF_CHATS = (("prepare", "profile"), ("prepare", "chat"))
"""Without effect where the source gives text, and refused."""
KEYS = [
    path for path, _ in leaves(JOB) if path[-1] != "kind" and path not in NO_OTHER_VALUE and path[:2] not in OF_CHATS
]
EXPERTS = {"model": {"n_expert": 4}}
BEAMS = {"sample": {"num_beams": 2, "num_samples": 1, "temperature": 0.0}}
BESIDE: dict[str, dict[str, Any]] = {
    "model.full_attention_every": {"model": {"attention_window": 8}},
    "model.n_expert_used": EXPERTS,
    "model.expert_balance": EXPERTS,
    "model.expert_z_loss": EXPERTS,
    "sample.num_beams": BEAMS,
    "sample.length_penalty": BEAMS,
}
"""What must be set beside a key, for without it no other value of it has an effect."""

CANDIDATES: list[Any] = [True, False, 3, 2, 0.25, 96, 1000, "/some/text", "other", ["x", "y"], ["model/tiny"]]
"""Among them and the choices of a key there is a second valid value for each."""


def original_value(path: KeyPath) -> Any:
    """The value of a key where nobody changes it."""
    return node_at(path, BESIDE.get(dotted(path), {})) or node_at(path, JOB)


@cache
def other_value(path: KeyPath) -> Any:
    """Another valid value of a key."""
    key = find_key(path, JOB)
    choices = re.findall(r'"(\w+)"', key.shape.allowed) if key else []
    lower = [Layer("job", JOB, Path("/")), Layer("beside", BESIDE.get(dotted(path), {}), Path("/"))]
    for value in [*choices, *CANDIDATES]:
        with suppress(ConfigError):
            tree = validated(merge([*lower, Layer("other", nested(path, value), Path("/"))])).model_dump(mode="json")
            if node_at(path, tree) != original_value(path) and node_at(path, tree) == value and path[0] != "use":
                return value
    return ["model/tiny"]


LAYERS = {"environment": "environment variable ML_PLAYGROUND_OVERRIDES", "--set": "--set", "--set bare": "--set"}
"""What the loader calls the layers; the others are files."""


def nested(path: KeyPath, value: Any) -> Any:
    """The value at the end of its tables."""
    for part in reversed(path):
        value = {part: value}
    return value


def settings_by_layer(path: KeyPath, value: Any, folder: Path) -> dict[str, dict[str, Any]]:
    """Ways to set a key: arguments of `load`, by the name of the layer."""
    beside = folder / "beside.json"
    beside.write_text(json.dumps(BESIDE.get(dotted(path), {})))
    (folder / "over.json").write_text(json.dumps(nested(path, value)))
    (folder / "over.yaml").write_text(json.dumps(nested(path, value)))
    (folder / "over.toml").write_text(f"{toml_key(path)} = {toml_value(value)}\n")
    bare = value if isinstance(value, str) else toml_value(value)
    return {
        **{f"file {name}": {"files": [beside, folder / f"over.{name}"]} for name in ("json", "yaml", "toml")},
        "environment": {"environ": {"ML_PLAYGROUND_OVERRIDES": json.dumps(nested(path, value))}, "files": [beside]},
        "--set": {"sets": [f"{toml_key(path)}={toml_value(value)}"], "files": [beside]},
        "--set bare": {"sets": [f"{toml_key(path)}={bare}"], "files": [beside]},
    }


@pytest.mark.parametrize("path", KEYS, ids=dotted)
def test_load_every_key_set_in_every_layer_takes_effect(tmp_path: Path, path: KeyPath) -> None:
    """A layer may set any key of any section, and the job has that value."""
    value = other_value(path)
    for layer, arguments in settings_by_layer(path, value, tmp_path).items():
        loaded = load(EXPERIMENT, **({"environ": {}} | arguments))
        assert node_at(path, loaded.job.model_dump(mode="json")) == value, layer
        assert loaded.origins[dotted(path)][-1].layer == LAYERS.get(layer, "--config")


@pytest.mark.parametrize("path", KEYS, ids=dotted)
def test_load_every_key_set_twice_the_higher_layer_wins(tmp_path: Path, path: KeyPath) -> None:
    """From any pair of layers; the value of the lower one is another still valid one."""
    value = other_value(path)
    ways = settings_by_layer(path, value, tmp_path)
    original = original_value(path)
    lower = tmp_path / "lower.json"
    lower.write_text(json.dumps(nested(path, original)))
    for arguments in (ways["file toml"], ways["environment"], ways["--set"]):
        files = [*arguments["files"][:1], lower, *arguments["files"][1:]]
        loaded = load(EXPERIMENT, **({"environ": {}} | arguments | {"files": files}))
        assert node_at(path, loaded.job.model_dump(mode="json")) == value


NAMES = st.sampled_from(["a", "b", "kind", "max_steps", "max_epochs", "train", "optimizer", "hooks", "x.y"])
VALUES = st.one_of(st.integers(-3, 3), st.booleans(), st.none(), st.text("ab~/ ", max_size=3), st.just(1.5))
TREES = st.recursive(
    st.dictionaries(NAMES, VALUES, max_size=3), lambda inner: st.dictionaries(NAMES, VALUES | inner, max_size=3)
)


def layered(*trees: dict[str, Any]) -> list[Layer]:
    """Layers without files."""
    return [Layer(f"layer {number}", tree, Path("/")) for number, tree in enumerate(trees)]


@given(TREES, TREES)
def test_merge_same_layer_twice_changes_nothing(lower: dict[str, Any], upper: dict[str, Any]) -> None:
    """Idempotent: naming a file twice is harmless."""
    once, twice = merge(layered(lower, upper)), merge(layered(lower, upper, upper))
    assert repr(once.tree) == repr(twice.tree)


@given(TREES, TREES)
def test_merge_every_value_of_the_highest_layer_is_there(lower: dict[str, Any], upper: dict[str, Any]) -> None:
    """Nothing that the highest layer says is lost."""
    upper = {"name": "x", **{name: value for name, value in upper.items() if name != "name"}}
    tree = merge(layered(lower, upper)).tree
    assert [path for path, value in leaves(upper) if repr(node_at(path, tree)) != repr(value)] == []


@given(TREES, TREES, TREES)
def test_merge_leaves_the_layers_as_they_were(
    first: dict[str, Any], second: dict[str, Any], third: dict[str, Any]
) -> None:
    """The loader lays them twice."""
    before = repr((first, second, third))
    merge(layered(first, second, third))
    assert repr((first, second, third)) == before


@given(st.lists(TREES, min_size=1, max_size=3))
def test_validated_any_layers_give_a_job_or_problems_in_words(trees: list[dict[str, Any]]) -> None:
    """Whatever is laid over a valid job: a job, or lines; never another exception."""
    text = "a job"
    try:
        job: Any = validated(merge(layered(JOB, *trees)))
    except ConfigError as error:
        job, text = None, str(error)
    assert isinstance(job, JobConfig) or all(line.strip() for line in text.splitlines())


@given(st.binary(max_size=80), st.sampled_from(["toml", "json", "yaml"]))
def test_read_document_any_bytes_give_a_table_or_an_error(tmp_path: Path, content: bytes, suffix: str) -> None:
    """A file of noise is refused, not crashed upon."""
    file = tmp_path / f"a.{suffix}"
    file.write_bytes(content)
    message = str(file)
    try:
        read_document(file)
    except ConfigError as error:
        message = str(error)
    assert str(file) in message


@given(st.text(max_size=30), st.text(max_size=30))
def test_load_any_set_gives_a_job_or_an_error(key: str, value: str) -> None:
    """A command line of noise is refused, not crashed upon."""
    for text in (key, f"{key}={value}", f"optimizer.{key}={value}", f"sample.prompts={value}"):
        try:
            load(EXPERIMENT, sets=[text], environ={})
        except ConfigError as error:
            str(error).encode()


@given(st.text(max_size=20))
def test_set_any_text_in_quotes_arrives_unchanged(text: str) -> None:
    """Prompts may hold anything."""
    text = text.encode(errors="ignore").decode()
    job = load(EXPERIMENT, sets=[f"sample.prompts=[{toml_value(text)}]"], environ={}).job
    assert job.sample.prompts == (text,)


@given(st.sampled_from(KEYS), st.sampled_from(KEYS))
@settings(max_examples=40)
def test_as_toml_read_again_gives_the_same_job(first: KeyPath, second: KeyPath) -> None:
    """`config show` loses nothing."""
    sets = [f"{toml_key(path)}={toml_value(other_value(path))}" for path in dict.fromkeys((first, second))]
    try:
        loaded = load(EXPERIMENT, sets=sets, environ={})
    except ConfigError:
        # Two changes may contradict each other (max_steps and max_epochs, heads and width).
        return
    shown = Layer("shown", tomllib.loads(as_toml(loaded)), Path("/"))
    again = validated(merge([Layer("base", JOB, Path("/")), shown]))
    assert again == loaded.job
    assert config_hash(again) == config_hash(loaded.job)


TABLES = st.recursive(
    st.dictionaries(st.text(max_size=4), st.text(max_size=4) | st.integers(), min_size=1, max_size=3),
    lambda inner: st.dictionaries(st.text(max_size=4), inner | st.lists(inner, max_size=2), max_size=3),
    max_leaves=6,
)


@given(TABLES, st.sampled_from([None, 1]))
def test_json_lines_every_key_is_on_its_line(table: dict[str, Any], indent: int | None) -> None:
    """One line a key when indented; the first line when not."""
    text = json.dumps(table, indent=indent)
    found = json_lines(text)
    expected = set(paths_of(table))
    assert set(found) == expected
    for path, line in found.items():
        assert f"{json.dumps(path[-1])}:" in text.splitlines()[line - 1]


def paths_of(table: dict[str, Any], path: KeyPath = ()) -> list[KeyPath]:
    """Every key outside lists."""
    found: list[KeyPath] = []
    for name, value in table.items():
        found += [(*path, name), *(paths_of(value, (*path, name)) if isinstance(value, dict) else [])]
    return found


@given(TABLES)
def test_toml_lines_every_key_is_on_its_line(table: dict[str, Any]) -> None:
    """A key a line, dotted, after a text of several lines that looks like keys."""
    values = [(path, value) for path, value in leaves(table) if not isinstance(value, list)]
    lines = [
        'first = """',
        "a = 1",
        '[b]"""',
        *(f"{toml_key(path)} = {toml_value(value)} # c" for path, value in values),
    ]
    expected = {("first",): 1} | {path: number for number, (path, _) in enumerate(values, start=4)}
    assert toml_lines("\n".join(lines)) == expected
