"""Chats and preferences of JSON Lines, a row a line; a row that is none is named in its place."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ml_playground.core.deps import Deps
from ml_playground.core.values import ChatExample
from ml_playground.data_pipeline.chats.protocol import BadRow
from ml_playground.data_pipeline.source_protocol import NamedFile, Provenance
from ml_playground.data_pipeline.sources.chat_rows import whole_chat_of
from ml_playground.data_pipeline.sources.file_list import FileList, ListedFile
from ml_playground.data_pipeline.sources.jsonl_rows import MOST_LINE_BYTES, Line, RowError, lines, parse_row
from ml_playground.data_pipeline.sources.preference_rows import preference_of
from ml_playground.data_pipeline.sources.settings import ChatFiles, JsonlChat, JsonlPreference
from ml_playground.data_pipeline.sources.text_pieces import blocks

_DEFAULT_PATTERN: str = ChatFiles.model_fields["pattern"].default
ChatOf = Callable[[Mapping[str, Any], str], ChatExample]


class JsonlChats:
    """The chats of all files; `FILE:LINE` is the id of each."""

    def __init__(self, settings: JsonlChat | JsonlPreference, chat_of: ChatOf) -> None:
        self._settings = settings
        self._chat_of = chat_of
        self._list = FileList(settings.path, settings.pattern, _DEFAULT_PATTERN)

    def chats(self) -> Iterator[ChatExample | BadRow]:
        """Each row; blank lines are none."""
        for file in self._list.files():
            for line in lines(blocks(file.path)):
                if line.raw.strip() or line.size_bytes > MOST_LINE_BYTES:
                    yield self._chat(file, line)

    def files(self) -> list[NamedFile]:
        """The files, for whoever looks at their bytes."""
        return [NamedFile(file.id, file.path, "utf-8") for file in self._list.files()]

    def provenance(self) -> Provenance:
        """Names, sizes and hashes of the files."""
        used, skipped = self._list.accounts()
        return Provenance(
            kind=self._settings.kind_name, files=used, skipped=skipped, facts={"path": str(self._settings.path)}
        )

    def _chat(self, file: ListedFile, line: Line) -> ChatExample | BadRow:
        where = f"{file.id}:{line.number}"
        if line.size_bytes > MOST_LINE_BYTES:
            return BadRow(where, f"the row has {line.size_bytes:,} bytes, at most {MOST_LINE_BYTES:,} are read")
        try:
            row = parse_row(line.raw)
            # Only an escaped one can be there, for half a pair is no UTF-8.
            if b"\\ud" in line.raw.lower():
                check_whole(row)
            return self._chat_of(row, where)
        except RowError as error:
            return BadRow(where, str(error), len(line.raw.decode(errors="replace")))


def build_chats(settings: JsonlChat, deps: Deps) -> JsonlChats:
    """The source of chats; the files are looked for when it is read."""
    del deps
    return JsonlChats(settings, whole_chat_of)


def build_preferences(settings: JsonlPreference, deps: Deps) -> JsonlChats:
    """The source of preferences; the files are looked for when it is read."""
    del deps
    return JsonlChats(settings, preference_of)


def check_whole(row: Mapping[str, Any]) -> None:
    """Refuse a row that no file could hold.

    Raises:
        RowError: There is half a surrogate pair in it, wherever it stands.
    """
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = str(error.object)[error.start]
        raise RowError("wrong_encoding", f"it holds half a surrogate pair ({half!r}), which is no character") from error
