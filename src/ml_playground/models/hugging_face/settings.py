"""Settings of models that other libraries define; free of torch."""

from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import StringConstraints, model_validator

from ml_playground.configuration.base import Component, ConfigPath, Probability
from ml_playground.core.error_handling import ConfigError
from ml_playground.models.hugging_face.folder import MOST_CONFIG_BYTES, files_sha256, read_config


class HfCausalLm(Component):
    """Any causal language model of the transformers library, from a local folder: trained further, sampled, evaluated."""

    kind: Literal["hf_causal_lm"] = "hf_causal_lm"
    """Third-party model; needs the extra `hf`."""
    path: ConfigPath
    """A folder with config.json and *.safetensors, as `save_pretrained` writes it. Read when a run begins; checkpoints do without it."""
    dropout: Probability | None = None
    """Wherever the architecture drops; none: as its config.json says."""
    config: Annotated[str, StringConstraints(min_length=2, max_length=MOST_CONFIG_BYTES)] | None = None
    """What config.json says of the model. Read from the folder and recorded, so that a checkpoint alone suffices; not to be set."""
    files_sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Over names and contents of the folder's files. Recorded likewise: a run does not go on from another base; not to be set."""

    @model_validator(mode="before")
    @classmethod
    def _with_what_the_folder_says(cls, fields: Any) -> Any:
        """A recorded job has read its folder, and does not look for it again."""
        if not isinstance(fields, dict):
            return fields
        given = cast(dict[str, Any], fields)
        folder = given.get("path")
        if not isinstance(folder, str | Path) or given.get("config") is not None:
            return given
        try:
            return given | {"config": read_config(Path(folder)), "files_sha256": files_sha256(Path(folder))}
        except ConfigError as error:
            # Pydantic gathers what is wrong with a job from errors of this type.
            raise ValueError(str(error).removesuffix(".")) from None
