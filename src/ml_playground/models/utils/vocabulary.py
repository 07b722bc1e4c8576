"""The vocabulary of a model: the data's, whatever the settings hope."""

from ml_playground.core.error_handling import ConfigError
from ml_playground.core.values import ModelContext


def checked_vocab_size(stated: int | None, context: ModelContext) -> int:
    """V as the data know it.

    Raises:
        ConfigError: The settings state another one.
    """
    known = context.facts["vocab_size"]
    if stated not in {None, known}:
        raise ConfigError(
            f"model.vocab_size = {stated}, but the data were prepared with a vocabulary of {known}; "
            "remove model.vocab_size, or prepare with another tokenizer."
        )
    return known
