"""Whether the files of a model are still those that a job names."""

from ml_playground.core.error_handling import ConfigError
from ml_playground.models.hugging_face.folder import files_sha256, read_config
from ml_playground.models.hugging_face.settings import HfCausalLm

ELSEWHERE = "say where the same files lie now: --set model.path=FOLDER"


def refuse_changed(settings: HfCausalLm) -> None:
    """What was read with the job must be what is loaded: the record would not name the model that was trained.

    Raises:
        ConfigError: The folder is gone, or holds other files.
    """
    try:
        config, found = (
            read_config(settings.path),
            None if settings.files_sha256 is None else files_sha256(settings.path),
        )
    except ConfigError as error:
        if settings.adapter is None:
            raise
        raise ConfigError(
            f"{error} An adapter was trained beside the weights of this folder, which no checkpoint holds; bring it back, or "
            f"{ELSEWHERE}."
        ) from None
    if config == settings.config and found == settings.files_sha256:
        return
    if settings.adapter is None:
        raise ConfigError(
            f"The files in {settings.path} are not those that the job names (model.files_sha256); restore them, or begin a new "
            "run with the present ones: --fresh."
        )
    raise ConfigError(
        f"The adapter is one of another base: it was trained beside files with the sha256 {str(settings.files_sha256)[:12]}, those in "
        f"{settings.path} have {str(found)[:12]} (model.files_sha256). Restore them, or {ELSEWHERE}."
    )
