"""A chat that goes on: its turns, with the ids that were drawn for them, and the answer that is being drawn."""

import json
from collections.abc import Callable

from ml_playground.configuration.sample_settings import SampleSettings
from ml_playground.core.chat_facts import json_of
from ml_playground.core.seeding import seed_for
from ml_playground.core.values import Message
from ml_playground.models.protocols import Decoder
from ml_playground.sampling.answers import Answer, Answering, steering_of
from ml_playground.sampling.chat import ChatPrompt, ChatPrompter, Turn


class Conversation:
    """Turns of a user and of a model, one after the other; equal seeds and equal turns, equal answers."""

    def __init__(
        self, decoder: Decoder, prompter: ChatPrompter, settings: SampleSettings, *, system: str | None = None
    ) -> None:
        self.system = system
        """In the place of the run's system prompt; empty: none; None: the run's own."""
        self._decoder = decoder
        self._prompter = prompter
        self._settings = settings
        self._steering = steering_of(prompter, settings)
        self._system: list[Turn] = []
        self._turns: list[Turn] = []
        self._questions: list[str] = []
        self._drawn = 0

    @property
    def messages(self) -> list[Message]:
        """What was said, as the model read it: with what the profile added."""
        return [turn.message for turn in (*self._system, *self._turns)]

    @property
    def has_answers(self) -> bool:
        """Whether anything was said: what the system says alone is no chat."""
        return bool(self._turns)

    @property
    def is_greedy(self) -> bool:
        """Whether each answer is the likeliest, so that asking again changes nothing."""
        return self._settings.temperature == 0

    @property
    def system_prompt(self) -> str:
        """What the system says before the next question; empty: nothing."""
        return next((turn.message.content for turn in self._asked("")[0]), "")

    def ask(self, text: str) -> ChatPrompt:
        """What the model reads with a user's next turn, which `answer` makes part of the conversation.

        Raises:
            DataError: The template refuses it.
        """
        system, question = self._asked(text)
        return self._prompter.prompt([*system, *self._turns, question], room=self._settings.max_new_tokens)

    def answer(self, text: str, prompt: ChatPrompt, show: Callable[[str], bool]) -> Answer:
        """Draw the answer to a turn, and keep both unless the model said nothing.

        Args:
            text: The user's turn.
            prompt: What `ask` made of it.
            show: Given each piece as it becomes certain, also empty ones; true: it is enough.
        """
        seed = seed_for(self._settings.seed, "chat", self._drawn)
        self._drawn += 1
        drawing = Answering(
            self._decoder, self._prompter.tokenizer, [prompt.ids], self._settings, self._steering, seeds=[seed]
        )
        any(show(pieces.get(0, "")) for pieces in drawing)
        answer = drawing.answers[0]
        if answer.ids:
            self._system, question = self._asked(text)
            self._turns += [question, Turn(Message("assistant", answer.text), answer.ids)]
            self._questions.append(text)
        return answer

    def undo(self) -> str | None:
        """Take back the last question and its answer; the question, or None where there is none.

        Asked again, it is answered with other random numbers.
        """
        if not self._questions:
            return None
        del self._turns[-2:]
        return self._questions.pop()

    def reset(self) -> None:
        """Begin anew, as if nothing had been said."""
        self._system, self._turns, self._questions, self._drawn = [], [], [], 0

    def row(self) -> str:
        """The chat as one line of a file that `mlp prepare` reads (source jsonl_chat)."""
        return json.dumps({"messages": [json_of(message) for message in self.messages]}, ensure_ascii=False) + "\n"

    def _asked(self, text: str) -> tuple[list[Turn], Turn]:
        """The system's turn, if there is one, and the user's, as the profile makes them."""
        said = [*(turn.message for turn in self._turns), Message("user", text)]
        dressed = self._prompter.dressed(said, system=self.system)
        return [Turn(message) for message in dressed if message.role == "system"], Turn(dressed[-1])
