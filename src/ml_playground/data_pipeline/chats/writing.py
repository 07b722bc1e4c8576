"""Writes encoded chats into the files of all splits, and counts; what is in no split is only counted."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ml_playground.core.chat_encoding import EncodedChat
from ml_playground.core.chat_facts import HeldOut, json_of
from ml_playground.core.tokenizer_protocol import Tokenizer, marks_of
from ml_playground.data_pipeline.chats.chat_ledger import ChatCounts
from ml_playground.data_pipeline.chats.masking import MaskedChat
from ml_playground.data_pipeline.chats.row_making import table_of
from ml_playground.data_pipeline.ledger import LostRow
from ml_playground.data_pipeline.lost_places import MOST_ROWS
from ml_playground.data_pipeline.storage.array_file import ArrayWriter
from ml_playground.data_pipeline.storage.token_file import WEIGHT_TYPE, FileAccount, TokenType, TokenWriter
from ml_playground.data_pipeline.survey import utf8_bytes

HELD_OUT = 4
"""Chats of the validation part that travel with the tokenizer."""
_BYTES: np.dtype[np.uint8] = np.dtype("u1")


@dataclass(frozen=True, slots=True)
class Row:
    """A row on its way to the disk."""

    id: str
    split: str
    """Or where it goes instead."""
    chat: MaskedChat
    facts: Mapping[str, Any]
    first: bool
    """Whether its chat begins with it."""


@dataclass(slots=True)
class _Tally:
    """`ChatCounts` that grow."""

    chats: int = 0
    rows: int = 0
    answers: int = 0
    characters: int = 0
    bytes: int = 0
    tokens: int = 0
    trained: int = 0
    literal: int = 0
    unknown_tokens: int = 0
    unknown_bytes: int = 0


class ChatWriter:
    """Tokens, starts, weights and chats of all splits."""

    def __init__(self, folder: Path, splits: Iterable[str], tokenizer: Tokenizer, name: TokenType) -> None:
        self._unknown = tokenizer.specials.unknown
        # What special tokens are spelled with is no text that could be lost.
        self._id_bytes = np.array([] if self._unknown is None else tokenizer.token_bytes(), dtype=np.int64)
        for text, index in () if self._unknown is None else marks_of(tokenizer).items():
            self._id_bytes[index] = len(text.encode())
        self._tokens = {split: TokenWriter(folder, split, name) for split in splits}
        self._weights = {split: ArrayWriter(folder / f"{split}.weights", WEIGHT_TYPE) for split in self._tokens}
        self._chats = {split: ArrayWriter(folder / f"{split}.chats", _BYTES) for split in self._tokens}
        self._tallies = {split: _Tally() for split in self._tokens}
        self._stops: Counter[int] = Counter()
        self._lost: list[LostRow] = []
        self._held_out: list[HeldOut] = []

    def write(self, rows: Sequence[Row], encoded: Sequence[EncodedChat]) -> None:
        """Append rows with their ids."""
        for row, one in zip(rows, encoded, strict=True):
            weights = weights_of(row.chat, one)
            self._count(row, one, weights)
            if row.split not in self._tokens:
                continue
            tokens = self._tokens[row.split]
            tokens.start_document()
            tokens.add(one.ids)
            self._weights[row.split].add(weights)
            table = {"id": row.id, "messages": table_of(row.chat.messages), "facts": dict(row.facts)}
            line = json.dumps(table, ensure_ascii=False, separators=(",", ":")) + "\n"
            self._chats[row.split].add(np.frombuffer(line.encode(), _BYTES))
            if row.split == "val" and row.first and len(self._held_out) < HELD_OUT:
                self._held_out.append(
                    HeldOut(id=row.id, messages=tuple(map(json_of, row.chat.messages)), facts=row.facts)
                )

    def leave_out(self, reason: str, characters: int) -> None:
        """Count a chat of which no row was made."""
        tally = self._tallies.setdefault(reason, _Tally())
        tally.chats += 1
        tally.characters += characters

    def _count(self, row: Row, one: EncodedChat, weights: NDArray[np.float32]) -> None:
        tally = self._tallies.setdefault(row.split, _Tally())
        text = row.chat.rendered.text
        size_bytes = utf8_bytes(text)
        tally.chats += row.first
        tally.rows += 1
        tally.answers += sum(target.answer for target in row.chat.targets)
        tally.characters += len(text)
        tally.bytes += size_bytes
        tally.tokens += len(one.ids)
        tally.trained += int(np.count_nonzero(weights))
        tally.literal += len(row.chat.rendered.literal)
        if row.split == "train":
            ends = one.borders[1::2]
            self._stops.update(
                int(one.ids[end - 1]) for end, target in zip(ends, row.chat.targets, strict=True) if target.answer
            )
        if self._unknown is not None and (unknown := int(np.count_nonzero(one.ids == self._unknown))):
            lost = max(unknown, size_bytes - int(self._id_bytes[one.ids].sum()))
            tally.unknown_tokens += unknown
            tally.unknown_bytes += min(lost, size_bytes)
            if row.split in self._tokens:
                found = [*self._lost, LostRow(name=row.id, reason="unknown", bytes=lost, split=row.split)]
                self._lost = sorted(found, key=lambda place: -place.bytes)[:MOST_ROWS]

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids that end answers of the training part, the most frequent first."""
        return tuple(index for index, _ in sorted(self._stops.items(), key=lambda item: (-item[1], item[0])))

    @property
    def held_out(self) -> tuple[HeldOut, ...]:
        """The first chats of the validation part."""
        return tuple(self._held_out)

    @property
    def lost_rows(self) -> tuple[LostRow, ...]:
        """Where the tokenizer does not know the text, most first."""
        return tuple(self._lost)

    @property
    def splits(self) -> Mapping[str, ChatCounts]:
        """What was written, by split."""
        return {name: ChatCounts(**asdict(tally)) for name, tally in self._tallies.items() if name in self._tokens}

    @property
    def dropped(self) -> Mapping[str, ChatCounts]:
        """What was only counted, by where it went instead of a split."""
        return {name: ChatCounts(**asdict(tally)) for name, tally in self._tallies.items() if name not in self._tokens}

    def accounts(self) -> dict[str, FileAccount]:
        """Size and hash of all files, by name; after closing."""
        found = {name: account for writer in self._tokens.values() for name, account in writer.accounts().items()}
        found |= {f"{split}.weights": writer.account() for split, writer in self._weights.items()}
        return found | {f"{split}.chats": writer.account() for split, writer in self._chats.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with ExitStack() as files:
            for writer in [*self._tokens.values(), *self._weights.values(), *self._chats.values()]:
                files.callback(writer.close)


def weights_of(chat: MaskedChat, encoded: EncodedChat) -> NDArray[np.float32]:
    """Of each token as a target, (tokens,): the weight of the stretch that it stands in, 0 elsewhere."""
    weights = np.zeros(len(encoded.ids), dtype=np.float32)
    for place, target in enumerate(chat.targets):
        weights[encoded.borders[2 * place] : encoded.borders[2 * place + 1]] = target.weight
    # Nothing stands before the first token from which it could be foretold.
    weights[:1] = 0
    return weights
