"""Answers from a model in the middle of its training on chats, asked as it will be asked later."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_playground.configuration.sample_settings import SampleSettings
from ml_playground.core.error_handling import PlaygroundError
from ml_playground.core.tokenizer_protocol import BulkTokenizer
from ml_playground.core.values import Message
from ml_playground.sampling.answers import steering_of
from ml_playground.sampling.chat import ChatPrompt, Turn, load_prompter, shown
from ml_playground.sampling.preview import evaluating
from ml_playground.sampling.prompts import prompt_text
from ml_playground.sampling.texts import draw_texts

SHOWN = 2
"""Held-out questions of a preview: a screen shows few lines of it."""


class ChatPreview:
    """Asks a prompt as a user's turn; of a blank one, held-out questions of the data, with the wanted answers beside.

    It leaves no trace in the training: neither mode, nor random state, nor precision.
    """

    def __init__(self, model: Any, tokenizer: BulkTokenizer, folder: Path, settings: SampleSettings) -> None:
        self._model = model
        self._settings = settings
        # The day of preparing: previews of a run are to differ by what was learnt, not by the calendar.
        self._prompter = load_prompter(folder, tokenizer, max_context=model.max_context)
        self._held_out = self._prompter.held_out[:SHOWN]
        self._steering = steering_of(self._prompter, settings)

    def __call__(self, prompt: str, *, max_new_tokens: int, seed: int) -> str:
        """What follows the prompt: the answer; where it is blank, questions, answers, and what would be right."""
        if prompt.strip() or not self._held_out:
            ids = self._asked(prompt, max_new_tokens).ids
            return f"\nassistant: {self._answers([ids], max_new_tokens, seed)[0]}"
        turns = [[Turn(message) for message in question.messages] for question in self._held_out]
        prompts = [
            self._prompter.prompt(asked, facts=question.facts, room=max_new_tokens).ids
            for asked, question in zip(turns, self._held_out, strict=True)
        ]
        return "\n".join(
            f"{shown(question.messages)}{answer}\nwanted: {question.wanted}"
            for question, answer in zip(self._held_out, self._answers(prompts, max_new_tokens, seed), strict=True)
        )

    def notes(self, prompt: str) -> Sequence[str]:
        """What its user might not expect of a prompt; of one that cannot be read at all, why."""
        if not prompt.strip() and self._held_out:
            return []
        try:
            return [*self._prompter.unknown(prompt_text(prompt)), *self._asked(prompt, 1).notes]
        except PlaygroundError as error:
            return [str(error)]

    def _asked(self, prompt: str, room: int) -> ChatPrompt:
        messages = self._prompter.dressed([Message("user", prompt_text(prompt))])
        return self._prompter.prompt([Turn(message) for message in messages], room=room)

    def _answers(self, prompts: Sequence[Sequence[int]], max_new_tokens: int, seed: int) -> list[str]:
        settings = self._settings.model_copy(update={"max_new_tokens": max_new_tokens, "seed": seed, "num_samples": 1})
        answers = [""] * len(prompts)
        with evaluating(self._model):
            decoder = self._model.decoder("float32")
            for piece in draw_texts(decoder, self._prompter.tokenizer, prompts, settings, steering=self._steering):
                answers[piece.prompt] += piece.text
        return answers
