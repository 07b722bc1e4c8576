"""Strict, frozen settings; components chosen by `kind` from lazy tables."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, StringConstraints
from pydantic_core import PydanticCustomError, core_schema

from ml_playground.configuration.families import FAMILIES
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.registry import did_you_mean, load_object


class Strict(BaseModel):
    """Frozen, no unknown keys, no coercion, no NaN; the docstring under each field is its help text."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        validate_default=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
    )

    alternatives: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """Keys of which one at most is set: a configuration layer that sets one takes back what lower layers set in the others."""


Modality = Literal["text", "images", "chats"]
READS_FILES = "reads_files"
"""Key of the context in which settings are validated."""
Direction = Literal["lower", "higher"]
"""Which way a number of an evaluation is better."""


class Component(Strict):
    """Settings of one component: each class declares its `kind`, the row of its family's table, as a literal."""

    modality: ClassVar[Modality | None] = "text"
    """What a source gives, and what data, a model, an objective or a hook takes; None: whatever there is. Others are not asked."""
    packs: ClassVar[bool] = False
    """Of data: whether a row may hold several documents, each to be read as if it were alone."""
    isolates_documents: ClassVar[bool] = False
    """Of a model: whether it can read them so (`Layout` in models.protocols)."""
    pairs: ClassVar[bool] = False
    """Whether a source gives, data cut or an objective compares pairs: a better and a worse answer to the same prompt."""
    averages_weights: ClassVar[bool] = False
    """Of an optimizer: whether what it trains is evaluated as a mean that it keeps itself."""
    descends: ClassVar[bool] = False
    """Of a schedule: whether the rate comes down as the run ends."""

    @property
    def kind_name(self) -> str:
        """The kind as text; the field itself has a literal type of its own in each class."""
        return str(self.__dict__["kind"])

    def misfit_with(self, tokenizer: "Component | None") -> str | None:
        """Why a model knows other ids than those of a tokenizer, in words; None where it does not, or learns them."""
        del tokenizer
        return None

    @property
    def most_tokens(self) -> int | None:
        """Of a model that was built elsewhere: the longest row it reads; None where its settings say, or nobody knows."""
        return None


class ObjectiveSettings(Component):
    """What every objective's settings share."""

    metrics: ClassVar[Mapping[str, Direction]] = {"loss": "lower"}
    """What an evaluation measures, and which way each of them is better."""


class HookSettings(Component):
    """What every hook's settings share."""

    modality: ClassVar[Modality | None] = None
    decides_the_end: ClassVar[bool] = False
    """Whether these settings decide at which step a run ends, so that they belong to what it computes."""
    goes_by_the_clock: ClassVar[bool] = False
    """Whether what the hook asks for depends on how fast the machine is, so that no two runs are equal."""

    enabled: bool = True
    """Off: the hook is not built."""


def settings_of(family: str, kind: str) -> type[Component]:
    """The settings class of a kind.

    Raises:
        ConfigError: A plugin brings it, and it is broken.
    """
    table = FAMILIES[family]
    path = table[kind].settings
    if not (origin := table.origin(kind)):
        return load_object(path)
    broken = f"{family} kind {kind!r} of {origin} is broken:"
    try:
        found = load_object(path)
    except ConfigError as error:
        raise ConfigError(f"{broken} {error}") from error
    if not (isinstance(found, type) and issubclass(found, Component)):
        raise ConfigError(f"{broken} {path} is no class of settings, derived from {Component.__module__}.Component.")
    if (field := found.model_fields.get("kind")) is None or field.default != kind:
        raise ConfigError(f"{broken} {path} does not say kind: Literal[{kind!r}] = {kind!r}.")
    return found


def kinds_of(family: str) -> Mapping[str, type[Component]]:
    """The settings class of every kind of a family, but for those of plugins that are broken: nobody has chosen them."""
    found: dict[str, type[Component]] = {}
    for kind in FAMILIES[family]:
        try:
            found[kind] = settings_of(family, kind)
        except ConfigError:
            if kind in FAMILIES[family].shipped:
                raise
    return found


def reads_files(info: core_schema.ValidationInfo[Any]) -> bool:
    """Whether settings may read the files that they name; not where it is only asked what an experiment says."""
    context = cast(Mapping[str, object] | None, info.context)
    return context is None or bool(context.get(READS_FILES, True))


@dataclass(frozen=True)
class ByKind:
    """Marks a field as a component of a family: its table's row for `kind` validates it."""

    family: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.with_info_plain_validator_function(
            self._validate, serialization=core_schema.plain_serializer_function_ser_schema(_dump)
        )

    def _validate(self, value: Any, info: core_schema.ValidationInfo[Any]) -> Component:
        if isinstance(value, Component):
            return value
        table = FAMILIES[self.family]
        if not isinstance(value, Mapping):
            raise PydanticCustomError(
                "component_type",
                "a {family} is a table with a kind (allowed kinds: {allowed})",
                {"family": self.family, "allowed": table.listed()},
            )
        fields = cast(Mapping[str, Any], value)
        kind = fields.get("kind")
        if not isinstance(kind, str) or kind not in table:
            hint = did_you_mean(kind, table) if isinstance(kind, str) else ""
            got = f"unknown kind {kind!r}" if "kind" in fields else "no kind"
            raise PydanticCustomError(
                "component_kind",
                "{got}{hint} (allowed: {allowed})",
                {"got": got, "hint": hint, "allowed": table.listed()},
            )
        return settings_of(self.family, kind).model_validate_json(json.dumps(fields), context=info.context)


def _dump(value: Component) -> dict[str, Any]:
    return value.model_dump(mode="json")


Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]


class PathMark:
    """Marks a path that the loader makes absolute: against the folder of the file that set it, or the working directory."""


class PluginMark:
    """Marks a text that is a path where it ends in `.py`, which the loader makes absolute in the same way."""


class PromptMark:
    """Marks a text that may be `FILE:path`, whose path the loader makes absolute in the same way."""


FILE_MARK = "FILE:"
"""Before the path of a file whose content is the text."""

PLUGIN_FILE = ".py"
"""How a plugin ends that is a file."""

ConfigPrompt = Annotated[str, PromptMark()]
ConfigPlugin = Annotated[str, StringConstraints(min_length=1), PluginMark()]
ConfigPath = Annotated[Path, PathMark()]
