"""`mlp chat` from line to line: what is typed, what the model says, and the commands between."""

import importlib.util
import signal
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TextIO

import typer

from ml_playground.commands.sample_texts import write_text
from ml_playground.core.atomic import write_file
from ml_playground.core.error_handling import DataError, PlaygroundError
from ml_playground.core.humanise import json_text, printable
from ml_playground.core.leaving import stay
from ml_playground.core.registry import did_you_mean, load_object

if TYPE_CHECKING:
    from ml_playground.sampling.answers import Answer
    from ml_playground.sampling.conversation import Conversation

COMMANDS: Mapping[str, str] = {
    "/help": "show this list",
    "/system [TEXT]": "show the system prompt, or set another one; '' for none",
    "/undo": "take back the last question and its answer",
    "/retry": "answer the last question anew",
    "/reset": "forget everything that was said",
    "/save FILE": "write the chat as a line of JSON, which `mlp prepare` reads (source jsonl_chat)",
    "/quit": "leave; as Ctrl-D",
}
"""What a line may say that begins with a slash; a question that begins with one is typed with two."""


class Leave(Exception):  # noqa: N818 - a wish, no failure
    """The user has had enough."""


class Interrupts:
    """Ctrl-C while an answer is drawn: once ends the answer, twice leaves."""

    def __init__(self) -> None:
        self.count = 0

    def receive(self, number: int, frame: FrameType | None) -> None:
        """The handler.

        Raises:
            Leave: At the second one.
        """
        del number, frame
        self.count += 1
        if self.count > 1:
            raise Leave


@contextmanager
def counted_interrupts() -> Generator[Interrupts]:
    """Ctrl-C is counted inside, and does what it did before after."""
    interrupts = Interrupts()
    former = signal.signal(signal.SIGINT, interrupts.receive)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, former)


class Talk:
    """One conversation; answers alone go to stdout.

    Args:
        conversation: Where it begins.
        stdin: What is typed; a terminal is read with line editing.
        as_json: One JSON object for each answer.
    """

    def __init__(self, conversation: "Conversation", stdin: TextIO, *, as_json: bool = False) -> None:
        self._conversation = conversation
        self._as_json = as_json
        self._stdin = stdin
        self._on_terminal = stdin.isatty()
        self._interrupted = False
        """Whether the last thing that happened was Ctrl-C: the next one leaves."""
        self._said: set[str] = set()
        self._saved: set[Path] = set()
        self._commands: Mapping[str, Callable[[str], None]] = {
            "/help": self._help,
            "/system": self._system,
            "/undo": self._undo,
            "/retry": self._retry,
            "/reset": self._reset,
            "/save": self._save,
            "/quit": self._quit,
        }

    def run(self) -> None:
        """Turn for turn, until the lines end or its user leaves."""
        try:
            try:
                for line in self._lines():
                    self._take(line)
            except Leave:
                self._hear_no_more()
                tell("")
        except KeyboardInterrupt:
            # On a terminal one that came between two lines; of who feeds a pipe it is what it is everywhere.
            if not self._on_terminal:
                raise
            self._hear_no_more()

    def _hear_no_more(self) -> None:
        """Readline sends Ctrl-C on after it has handled it: the same one may come again on the way out."""
        if self._on_terminal:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _lines(self) -> Iterator[str]:
        """What is typed; on a terminal with history and editing, where Ctrl-C twice leaves."""
        if not self._on_terminal:
            try:
                yield from map(_line_of, self._stdin)
            except UnicodeDecodeError as error:
                raise DataError(f"stdin is not UTF-8 (byte {error.start}: {error.reason}); convert it.") from error
            return
        if importlib.util.find_spec("readline"):
            # Only to be there: `input` uses it, for this session alone; what is typed is written nowhere.
            load_object("readline:get_line_buffer")
        while True:
            try:
                line = _typed("user: ")
            except EOFError:
                raise Leave from None
            except KeyboardInterrupt:
                if self._interrupted:
                    raise Leave from None
                self._interrupted = True
                stay()
                tell("\n(once more, or Ctrl-D, to leave)")
                continue
            self._interrupted = False
            yield _line_of(line)

    def _take(self, line: str) -> None:
        """One line: a command, or a turn."""
        if not line.strip():
            return
        if line.startswith("//"):
            self._ask(line[1:])
        elif line.startswith("/"):
            name, _, rest = line.partition(" ")
            if name not in self._commands:
                hint = did_you_mean(name, self._commands) or "."
                tell(
                    f"{printable(name)} is no command{hint} /help lists them; a question that begins with / is typed with //"
                )
                return
            self._commands[name](rest.strip())
        else:
            self._ask(line)

    def _ask(self, text: str) -> None:
        try:
            prompt = self._conversation.ask(text)
        except DataError as error:
            tell(str(error))
            return
        for note in prompt.notes:
            if note not in self._said:
                tell(f"note: {note}")
                self._said.add(note)
        with counted_interrupts() as interrupts:
            # Who sees this may press Ctrl-C: from here on it ends the answer alone.
            if self._on_terminal:
                typer.echo("assistant: ", nl=False, err=True)

            def show(piece: str) -> bool:
                self._write(piece)
                return interrupts.count > 0

            answer = self._conversation.answer(text, prompt, show)
        self._interrupted = interrupts.count > 0
        self._finish(text, answer, prompt.notes)
        if answer.end == "interrupted" and not self._on_terminal:
            # Whoever feeds lines cannot be asked whether the next one is still wanted.
            raise Leave

    def _write(self, piece: str) -> None:
        if piece and not self._as_json:
            write_text(piece)

    def _finish(self, text: str, answer: "Answer", notes: Any) -> None:
        if self._as_json:
            row = {
                "prompt": text,
                "text": answer.text,
                "tokens": len(answer.ids),
                "end": answer.end,
                "statistics": list(answer.statistics),
                "notes": list(notes),
            }
            typer.echo(json_text(row))
            return
        write_text("\n")
        if not answer.ids:
            tell("(the model ended its answer at once; the question is taken back)")
        elif answer.end == "length":
            tell(f"(cut off after {len(answer.ids)} tokens; --max-new-tokens allows more)")
        elif answer.end == "interrupted":
            tell("(interrupted; the model reads what it said so far; Ctrl-C once more leaves)")

    def _help(self, rest: str) -> None:
        del rest
        width = max(map(len, COMMANDS))
        for name, what in COMMANDS.items():
            tell(f"{name:{width}}  {what}")
        tell("A line that begins with / and is a question is typed with //. Ctrl-C ends an answer, twice leaves.")

    def _system(self, rest: str) -> None:
        if rest:
            self._conversation.system = "" if rest in {"''", '""'} else rest
        tell(f"system: {printable(self._conversation.system_prompt) or '(none)'}")

    def _undo(self, rest: str) -> None:
        del rest
        question = self._conversation.undo()
        tell("nothing was said yet" if question is None else f"taken back: {printable(question)}")

    def _retry(self, rest: str) -> None:
        del rest
        question = self._conversation.undo()
        if question is None:
            tell("nothing was said yet")
            return
        if self._conversation.is_greedy:
            tell("(at temperature 0 the answer is the same again; --temperature 0.8 varies)")
        self._ask(question)

    def _reset(self, rest: str) -> None:
        del rest
        self._conversation.reset()
        tell("everything that was said is forgotten")

    def _save(self, rest: str) -> None:
        if not rest:
            tell("/save needs the name of a file, e.g. /save chat.jsonl")
            return
        if not self._conversation.has_answers:
            tell("nothing to save yet")
            return
        path = Path(rest).expanduser().absolute()
        if not path.parent.is_dir():
            tell(f"{path.parent}: no such folder; make it, or name another file")
            return
        if path.exists() and path not in self._saved:
            tell(f"{path} is there already; name another file")
            return
        try:
            write_file(path, self._conversation.row())
        except PlaygroundError as error:
            tell(str(error))
            return
        self._saved.add(path)
        tell(f"saved: {path}")

    def _quit(self, rest: str) -> None:
        del rest
        raise Leave


def _typed(prompt: str) -> str:
    """A line of the terminal; the prompt is no answer, so it goes to stdout only where that is the terminal, too."""
    if sys.stdout.isatty():
        return input(prompt)
    typer.echo(prompt, nl=False, err=True)
    return input()


def _line_of(text: str) -> str:
    """Without its end; what was no UTF-8 as U+FFFD, for no tokenizer takes halves of surrogates."""
    return text.rstrip("\r\n").encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def tell(line: str) -> None:
    """To stderr: what is no answer."""
    typer.echo(line, err=True)
