"""Symbolic problems with their answers, made up from a seed: asked in words, answered in a grammar."""

import hashlib
import random
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import cycle, islice

from ml_playground.core.deps import Deps
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.seeding import seed_for
from ml_playground.core.values import ChatExample, Message
from ml_playground.data_pipeline.source_protocol import Provenance, SourceFile
from ml_playground.data_pipeline.sources.symbolic_domains import DOMAINS, Problem, written
from ml_playground.data_pipeline.sources.symbolic_settings import SymbolicProblems

MOST_REPEATS = 500
"""Problems drawn one after the other that had all been there: then less than about a hundredth of a level is left."""


class SymbolicChats:
    """Each problem once: whatever the splits, none is in two of them."""

    def __init__(self, settings: SymbolicProblems) -> None:
        self._settings = settings

    def chats(self) -> Iterator[ChatExample]:
        """Levels and domains in turn, so that every stretch has its share of each; more of them begin with the same ones.

        Raises:
            ConfigError: A level of a domain has not as many problems as are asked for.
        """
        yield from self._chats

    @cached_property
    def _chats(self) -> list[ChatExample]:
        settings = self._settings
        # A problem of a level may be one of another level, too.
        seen: dict[str, set[str]] = {domain: set() for domain in settings.domains}
        cells = [self._cell(domain, level, seen[domain]) for level in settings.levels for domain in settings.domains]
        return [next(cell) for cell in islice(cycle(cells), settings.count)]

    def _cell(self, domain: str, level: int, seen: set[str]) -> Iterator[ChatExample]:
        """Problems of a level of a domain, all different, and none that was seen; these come to be seen."""
        dice = random.Random(seed_for(self._settings.seed, "symbolic_problems", domain, level))  # noqa: S311 - no secrets
        given = repeats = 0
        while repeats < MOST_REPEATS:
            problem = DOMAINS[domain](level, dice)
            form = written(problem.form)
            repeats = repeats + 1 if form in seen else 0
            if form not in seen:
                seen.add(form)
                given += 1
                yield self._chat(problem, form, {"level": level, "domain": domain})
        raise ConfigError(
            f"prepare.source.count = {self._settings.count} asks for more problems of level {level} in {domain!r} than could be found: "
            f"{given}; lower it, or name more levels or domains."
        )

    def _chat(self, problem: Problem, form: str, facts: Mapping[str, int | str]) -> ChatExample:
        # By its form, so that a split by hash puts a problem where it puts it with every other seed.
        name = hashlib.sha256(form.encode()).hexdigest()[:16]
        answer = written(("is", problem.asked, *(problem.steps if self._settings.steps else ()), problem.result))
        messages = Message("user", problem.question), Message("assistant", answer)
        return ChatExample(f"{facts['domain']}/{name}", messages, facts)

    def provenance(self) -> Provenance:
        """The hash of all problems, in the place of files.

        Raises:
            ConfigError: As for `chats`.
        """
        digest, size = hashlib.sha256(), 0
        for chat in self._chats:
            line = "\n".join([chat.id, *(message.content for message in chat.messages), ""]).encode()
            digest.update(line)
            size += len(line)
        kind = self._settings.kind
        return Provenance(kind=kind, files=(SourceFile(name=kind, size_bytes=size, sha256=digest.hexdigest()),))


def build(settings: SymbolicProblems, deps: Deps) -> SymbolicChats:
    """The source; nothing is read."""
    del deps
    return SymbolicChats(settings)
