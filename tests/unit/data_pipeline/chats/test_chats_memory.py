"""Preparing chats takes the memory of a batch of them, whatever their number."""

import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from ml_playground.core.values import ChatExample, Message
from ml_playground.data_pipeline.chats.building import build_chats
from ml_playground.data_pipeline.progress import no_report
from ml_playground.data_pipeline.source_protocol import Provenance
from tests.fakes.chat_families import chat_settings


class Endless:
    """So many chats of two thousand characters, made when they are asked for."""

    def __init__(self, number: int) -> None:
        self._number = number

    def chats(self) -> Iterator[ChatExample]:
        """Each another one."""
        for number in range(self._number):
            yield ChatExample(f"a:{number}", (Message("user", f"{number} " * 300), Message("assistant", "y" * 500)))

    @staticmethod
    def provenance() -> Provenance:
        """Of nothing on a disk."""
        return Provenance(kind="endless", files=())


def peak_of(folder: Path, number: int) -> int:
    """Bytes that were held at most, beyond those before."""
    settings = chat_settings(folder / "a.jsonl", {"kind": "byte"}, chat={"template": "plain"})
    folder.mkdir()
    tracemalloc.start()
    build_chats(folder, settings, Endless(number), datetime.now(UTC), no_report)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_twice_the_chats_take_hardly_more_memory(tmp_path: Path) -> None:
    """Beyond a batch, 25 bytes for each."""
    peak_of(tmp_path / "warm", 10)
    one, two = peak_of(tmp_path / "one", 600), peak_of(tmp_path / "two", 1200)
    assert two < 1.15 * one
