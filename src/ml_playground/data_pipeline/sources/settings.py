"""Settings of the sources of rows, of speeches in XML, and of mixtures; free of torch and of what reads them."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from ml_playground.configuration.base import ByKind, Component, ConfigPath, Modality, Positive
from ml_playground.configuration.models import Name
from ml_playground.core.registry import did_you_mean
from ml_playground.data_pipeline.sources.templates import Template

ROLES = ("speaker", "party", "date", "topic")
"""What a row may say beside its text, each with a setting of its own for the column."""
Tag = Literal["document", "division", "speaker", "paragraph", "stage"]


class RowSettings(Component):
    """What all sources of rows share: which columns are read, and what a row becomes."""

    content_column: str | None = None
    """Column of the text (in JSON a path such as meta.text); none: found by its name, in German or English (text, Rede, ...)."""
    speaker_column: str | None = None
    """Column of who speaks; none: found by its name (speaker, Redner, ...)."""
    party_column: str | None = None
    """Column of the party; none: found by its name (party, Fraktion, ...)."""
    date_column: str | None = None
    """Column of the date or year; none: found by its name (date, Datum, Jahr, ...)."""
    topic_column: str | None = None
    """Column of the topic; none: found by its name (topic, Thema, agenda, ...)."""
    template: Annotated[str, StringConstraints(min_length=1)] = "\n{content}"
    """A row as text: {content}, {speaker}, {party}, {date}, {year}, {topic} or any {column}; a line whose braces are all empty goes."""
    broken_rows: Literal["stop", "skip"] = "stop"
    """A row that cannot be read: `stop` with its file and line, or `skip` and count it."""

    @model_validator(mode="after")
    def _settings_have_an_effect(self) -> "RowSettings":
        named = set(Template(self.template).names)
        if "content" not in named and (self.content_column or "") not in named:
            raise ValueError(
                f"template = {self.template!r} leaves out the text of a row; write {{content}} where it belongs"
            )
        for role in ROLES:
            wanted = {role, "year"} if role == "date" else {role}
            if getattr(self, f"{role}_column") is not None and not wanted & named:
                raise ValueError(
                    f"{role}_column has no effect, for template does not name {{{role}}}; add it there, or leave it out"
                )
        return self


class CsvText(RowSettings):
    """Rows of CSV files with a header; each row is a document."""

    kind: Literal["csv_text"] = "csv_text"
    """Rows of CSV files."""
    path: ConfigPath
    """A file, a folder (all of it that matches `pattern`), or a glob; gzip and zstd are unpacked on the way."""
    pattern: str = "**/*.csv"
    """Which files of a folder; packed ones (.gz, .zst) too."""
    delimiter: Annotated[str, StringConstraints(pattern=r'^[^"\r\n]$')] | None = None
    """What separates columns; none: the comma, semicolon, tab or bar that makes sense of the header."""
    encoding: str | None = None
    """How the bytes are read; none: UTF-8, UTF-16 by its mark, or what the beginning of each file looks like."""


class JsonlText(RowSettings):
    """Rows of JSON Lines; each row is a document."""

    kind: Literal["jsonl_text"] = "jsonl_text"
    """Objects, one a line."""
    path: ConfigPath
    """A file, a folder (all of it that matches `pattern`), or a glob; gzip and zstd are unpacked on the way."""
    pattern: str = "**/*.jsonl"
    """Which files of a folder; packed ones (.gz, .zst) too."""


class ChatFiles(Component):
    """What sources of chats in files share."""

    modality: ClassVar[Modality | None] = "chats"

    path: ConfigPath
    """A file, a folder (all of it that matches `pattern`), or a glob; gzip and zstd are unpacked on the way."""
    pattern: str = "**/*.jsonl"
    """Which files of a folder; packed ones (.gz, .zst) too."""


class JsonlChat(ChatFiles):
    """Chats as JSON Lines: messages (role and content, or from and value), prompt and completion, instruction and output."""

    kind: Literal["jsonl_chat"] = "jsonl_chat"
    """Chats, one a line."""


class JsonlPreference(ChatFiles):
    """Preferences as JSON Lines: a better answer and a worse one to the same prompt."""

    pairs: ClassVar[bool] = True

    kind: Literal["jsonl_preference"] = "jsonl_preference"
    """Pairs of answers, one a line."""


class Parquet(RowSettings):
    """Rows of Parquet files; each row is a document."""

    kind: Literal["parquet"] = "parquet"
    """Rows of Parquet files."""
    path: ConfigPath
    """A file, a folder (all of it that matches `pattern`), or a glob."""
    pattern: str = "**/*.parquet"
    """Which files of a folder."""


class HubDataset(RowSettings):
    """A data set of the Hugging Face library `datasets`: a local folder, or a name on the hub; each row is a document."""

    alternatives: ClassVar[tuple[tuple[str, ...], ...]] = (("path", "name"),)

    kind: Literal["hub_dataset"] = "hub_dataset"
    """A data set of the library `datasets`."""
    path: ConfigPath | None = None
    """A folder: written by save_to_disk, or holding Parquet or JSON Lines. Exactly one of path and name."""
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?$")] | None = None
    """On the hub: `owner/name`; downloaded once into the library's own cache (HF_HOME), and read from there without a network."""
    subset: str | None = None
    """Which configuration of a data set on the hub that has several."""
    revision: str | None = None
    """Commit, tag or branch on the hub; a commit is the same for ever."""
    split: Annotated[str, StringConstraints(min_length=1)] = "train"
    """Which of its splits is read; ours are made of that one."""

    @model_validator(mode="after")
    def _one_place(self) -> "HubDataset":
        if (self.path is None) == (self.name is None):
            raise ValueError(f"set exactly one of path (got {self.path}) and name (got {self.name})")
        for key in ("subset", "revision"):
            if self.path is not None and getattr(self, key) is not None:
                raise ValueError(f"{key} has no effect on a folder, only on a name on the hub; leave it out")
        return self


class TeiXml(Component):
    """Minutes of a parliament as TEI (GermaParl): tagged text, streamed."""

    kind: Literal["tei_xml"] = "tei_xml"
    """Minutes as TEI."""
    path: ConfigPath
    """A file, a folder (all of it that matches `pattern`), or a glob; gzip and zstd are unpacked on the way."""
    pattern: str = "**/*.xml"
    """Which files of a folder; packed ones (.gz, .zst) too."""
    document: Literal["file", "division", "speech"] = "file"
    """What is one document: a whole sitting, an item of its agenda, or one speech."""
    tags: Annotated[tuple[Tag, ...], Field(min_length=1)] = ("document", "division", "speaker", "paragraph", "stage")
    """Which parts become text, each on a line behind its tag: `<speaker> Name (party)`; what is not named is left out."""

    @model_validator(mode="after")
    def _says_something(self) -> "TeiXml":
        if not {"paragraph", "stage"} & set(self.tags):
            raise ValueError("tags names neither paragraph nor stage, so no text would be left; add one of them")
        if len(set(self.tags)) < len(self.tags):
            raise ValueError(f"tags = {list(self.tags)} names one twice")
        return self


class Mixture(Component):
    """Several sources as one, documents interleaved so that each has its share of the text everywhere."""

    kind: Literal["mixture"] = "mixture"
    """Several sources by weight."""
    parts: Annotated[dict[Name, Annotated[Component, ByKind("source")]], Field(min_length=1)]
    """The sources, each by a name of your choice; `NAME/` comes before the ids of its documents."""
    weights: dict[Name, Positive] = Field(default_factory=dict)
    """How much of the text each part gets, in characters and relative to the others; a part that is not named gets 1."""
    epoch_ends: Literal["first_exhausted", "all_exhausted"] = "first_exhausted"
    """`first_exhausted`: the first part without text left ends it; `all_exhausted`: parts begin again until each was given whole."""

    @field_validator("parts", "weights")
    @classmethod
    def _in_the_order_of_names(cls, value: dict[str, object]) -> dict[str, object]:
        """However they were written: equal mixtures are equal data sets."""
        return dict(sorted(value.items()))

    @model_validator(mode="after")
    def _parts_fit(self) -> "Mixture":
        for name, part in self.parts.items():
            if part.modality != "text":
                raise ValueError(f"parts.{name} gives {part.modality}, and a mixture takes text; leave it out")
        for name in self.weights:
            if name not in self.parts:
                raise ValueError(
                    f"weights names {name!r}, which is none of the parts{did_you_mean(name, self.parts)} "
                    f"(parts: {', '.join(self.parts)})"
                )
        return self
