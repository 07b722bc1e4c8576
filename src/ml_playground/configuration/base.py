"""Strict, frozen settings; components chosen by `kind` from lazy tables."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic_core import PydanticCustomError, core_schema

from ml_playground.configuration.families import FAMILIES
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


Modality = Literal["text", "images"]
Direction = Literal["lower", "higher"]
"""Which way a number of an evaluation is better."""


class Component(Strict):
    """Settings of one component: each class declares its `kind`, the row of its family's table, as a literal."""

    modality: ClassVar[Modality | None] = "text"
    """What a source gives, and what data, a model, an objective or a hook takes; None: whatever there is. Others are not asked."""

    @property
    def kind_name(self) -> str:
        """The kind as text; the field itself has a literal type of its own in each class."""
        return str(self.__dict__["kind"])

    def misfit_with(self, tokenizer: "Component | None") -> str | None:
        """Why a model knows other ids than those of a tokenizer, in words; None where it does not, or learns them."""
        del tokenizer
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


@dataclass(frozen=True)
class ByKind:
    """Marks a field as a component of a family: its table's row for `kind` validates it."""

    family: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self._validate, serialization=core_schema.plain_serializer_function_ser_schema(_dump)
        )

    def _validate(self, value: Any) -> Component:
        if isinstance(value, Component):
            return value
        table = FAMILIES[self.family]
        allowed = ", ".join(sorted(table))
        if not isinstance(value, Mapping):
            raise PydanticCustomError(
                "component_type",
                "a {family} is a table with a kind (allowed kinds: {allowed})",
                {"family": self.family, "allowed": allowed},
            )
        fields = cast(Mapping[str, Any], value)
        kind = fields.get("kind")
        if not isinstance(kind, str) or kind not in table:
            hint = did_you_mean(kind, table) if isinstance(kind, str) else ""
            got = f"unknown kind {kind!r}" if "kind" in fields else "no kind"
            raise PydanticCustomError(
                "component_kind",
                "{got}{hint} (allowed: {allowed})",
                {"got": got, "hint": hint, "allowed": allowed},
            )
        settings_class = load_object(table[kind].settings)
        return settings_class.model_validate_json(json.dumps(fields))


def _dump(value: Component) -> dict[str, Any]:
    return value.model_dump(mode="json")


Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]


class PathMark:
    """Marks a path that the loader makes absolute: against the folder of the file that set it, or the working directory."""


class PromptMark:
    """Marks a text that may be `FILE:path`, whose path the loader makes absolute in the same way."""


FILE_MARK = "FILE:"
"""Before the path of a file whose content is the text."""

ConfigPrompt = Annotated[str, PromptMark()]
ConfigPath = Annotated[Path, PathMark()]
