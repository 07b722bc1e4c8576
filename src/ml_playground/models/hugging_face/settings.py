"""Settings of models that other libraries define; free of torch."""

import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import StringConstraints, ValidationError, ValidationInfo, field_validator, model_validator

from ml_playground.configuration.base import ByKind, Component, ConfigPath, Probability, reads_files
from ml_playground.core.error_handling import ConfigError
from ml_playground.models.hugging_face.folder import (
    MOST_CONFIG_BYTES,
    TOKENIZER,
    files_sha256,
    read_config,
    recorded_config,
    same_file,
)

LEARNT_HERE = {"char", "byte", "word", "ngram", "byte_bpe"}
"""Kinds of tokenizer whose ids no model from elsewhere can know."""


class HfCausalLm(Component):
    """Any causal language model of the transformers library, from a local folder: trained further, sampled, evaluated."""

    isolates_documents: ClassVar[bool] = True

    kind: Literal["hf_causal_lm"] = "hf_causal_lm"
    """Third-party model; needs the extra `hf`."""
    path: ConfigPath
    """A folder with config.json and *.safetensors, as `save_pretrained` writes it. Read as a run begins; an adapter needs it ever after."""
    dropout: Probability | None = None
    """Wherever the architecture drops; none: as its config.json says."""
    adapter: Annotated[Component, ByKind("adapter")] | None = None
    """Small weights that are trained in the place of the model's own, which stay as they are; none: all are trained."""
    config: Annotated[str, StringConstraints(min_length=2, max_length=MOST_CONFIG_BYTES)] | None = None
    """What config.json says of the model. Read from the folder and recorded, so that a checkpoint alone suffices; not to be set."""
    files_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Over names and contents of the folder's files. Recorded likewise: a run does not go on from another base; not to be set."""

    @field_validator("config")
    @classmethod
    def _within_the_bounds_of_a_folder(cls, config: str | None) -> str | None:
        return None if config is None else recorded_config(config)

    @model_validator(mode="before")
    @classmethod
    def _with_what_the_folder_says(cls, fields: Any, info: ValidationInfo) -> Any:
        """A recorded job has read its folder, and does not look for it again."""
        if not isinstance(fields, dict) or not reads_files(info):
            return cast(Any, fields)
        given = cast(dict[str, Any], fields)
        folder = given.get("path")
        if not isinstance(folder, str | Path) or given.get("config") is not None:
            return given
        try:
            return given | {"config": read_config(Path(folder)), "files_sha256": files_sha256(Path(folder))}
        except ConfigError as error:
            moved = given.get("adapter") is not None and not Path(folder).is_dir()
            hint = "; if the base has moved, --set model.path=FOLDER" if moved else ""
            wrong = ValueError(str(error).removesuffix(".") + hint)
            # Of the path, so that the message names that setting.
            raise ValidationError.from_exception_data(
                cls.__name__,
                [{"type": "value_error", "loc": ("path",), "input": str(folder), "ctx": {"error": wrong}}],
            ) from None

    @property
    def most_tokens(self) -> int | None:
        """As config.json says; where a family has another name for it, the library knows when the model is built."""
        described: dict[str, Any] = json.loads(self.config or "{}")
        text = described.get("text_config")
        most = cast(dict[str, Any], text if isinstance(text, dict) else described).get("max_position_embeddings")
        return most if isinstance(most, int) else None

    def misfit_with(self, tokenizer: Component | None) -> str | None:
        """Ids mean what the model was trained with: its own tokenizer's, or those of one that only its user can know to be equal."""
        own = self.path / TOKENIZER
        if tokenizer is None or not own.is_file():
            return None
        kind, named = tokenizer.kind_name, getattr(tokenizer, "path", None)
        if kind in LEARNT_HERE:
            return (
                f"prepare.tokenizer.kind = '{kind}' gives ids of its own, which mean other texts to the model in {self.path}; "
                f'set prepare.tokenizer = {{ kind = "hugging_face", path = "{self.path}" }}'
            )
        if (
            kind == "hugging_face"
            and named is not None
            and (named / TOKENIZER).is_file()
            and not same_file(own, named / TOKENIZER)
        ):
            return (
                f"prepare.tokenizer.path = {named} holds another tokenizer than model.path = {self.path}, so that its ids mean other "
                "texts; name the same folder in both"
            )
        return None
