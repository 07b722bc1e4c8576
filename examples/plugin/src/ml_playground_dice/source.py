"""Throws of a loaded die as text: generated anew at each pass, always the same."""

import hashlib
from collections.abc import Iterator
from random import Random

from ml_playground.core.deps import Deps
from ml_playground.core.values import Document
from ml_playground.data_pipeline.source_protocol import Provenance, SourceFile
from ml_playground_dice.settings import SIDES, LoadedDice


class Games:
    """Each game is a document; only one of them is in memory."""

    def __init__(self, settings: LoadedDice) -> None:
        self._settings = settings

    def documents(self) -> Iterator[Document]:
        """The games in order."""
        for number in range(self._settings.games):
            yield Document(f"game-{number}", self._game(number))

    def provenance(self) -> Provenance:
        """One made-up file: the hash over all games."""
        digest, size_bytes = hashlib.sha256(), 0
        for document in self.documents():
            content = document.text.encode()
            digest.update(content)
            size_bytes += len(content)
        file = SourceFile(name="games", size_bytes=size_bytes, sha256=digest.hexdigest())
        return Provenance(
            kind=self._settings.kind, files=(file,), facts={"entropy": f"{self._settings.entropy:.4f} nats a throw"}
        )

    def _game(self, number: int) -> str:
        random = Random(f"{self._settings.seed}/{number}")
        side = random.randrange(SIDES)
        sides = [side]
        for _ in range(self._settings.throws - 1):
            if random.random() >= self._settings.stickiness:
                side = (side + random.randrange(1, SIDES)) % SIDES
            sides.append(side)
        return "".join(str(side + 1) for side in sides)


def build(settings: LoadedDice, deps: Deps) -> Games:
    """The source; `deps` would give it the network and the clock, which it does not need."""
    del deps
    return Games(settings)
