"""A text from the model as it stands, in the middle of its training."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ml_playground.configuration.sample_settings import SampleSettings
from ml_playground.core.chat_facts import has_chat_facts
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.registry import load_object
from ml_playground.core.tokenizer_protocol import Tokenizer
from ml_playground.sampling.prompts import encode_prompt
from ml_playground.sampling.texts import draw_texts

LOAD_TOKENIZER = "ml_playground.tokenization.loading:load_tokenizer"
CHAT_PREVIEW = "ml_playground.sampling.chat_preview:ChatPreview"


class TextPreview:
    """Draws a text and leaves no trace in the training: neither mode, nor random state, nor precision."""

    def __init__(self, model: Any, tokenizer: Tokenizer, settings: SampleSettings) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._settings = settings

    def __call__(self, prompt: str, *, max_new_tokens: int, seed: int) -> str:
        """The continuation of a prompt, without it."""
        settings = self._settings.model_copy(update={"max_new_tokens": max_new_tokens, "seed": seed, "num_samples": 1})
        ids = encode_prompt(prompt, self._tokenizer, self._model.max_context).ids
        with evaluating(self._model):
            return "".join(
                piece.text for piece in draw_texts(self._model.decoder("float32"), self._tokenizer, [ids], settings)
            )

    def notes(self, prompt: str) -> Sequence[str]:
        """What its user might not expect of a prompt; of one that cannot be read at all, why."""
        try:
            return encode_prompt(prompt, self._tokenizer, self._model.max_context).notes
        except ConfigError as error:
            return [str(error)]


def build(model: nn.Module, attachments: Mapping[str, Path], settings: SampleSettings) -> Any:
    """A preview of the model with the tokenizer that its checkpoints carry; where that belongs to chats, one that asks.

    Raises:
        DataError: The tokenizer cannot be read, or what it says of chats.
        ConfigError: Chats need a library that is not installed, or their profile cannot be built.
    """
    folder = attachments["tokenizer"]
    tokenizer: Tokenizer = load_object(LOAD_TOKENIZER)(folder)
    if has_chat_facts(folder):
        return load_object(CHAT_PREVIEW)(model, tokenizer, folder, settings)
    return TextPreview(model, tokenizer, settings)


@contextmanager
def evaluating(model: nn.Module) -> Generator[None]:
    """Evaluation mode and full precision inside; every module's own mode again after."""
    modes = [(module, module.training) for module in model.modules()]
    device = next((parameter.device.type for parameter in model.parameters()), "cpu")
    model.eval()
    try:
        with torch.autocast(device, enabled=False):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
