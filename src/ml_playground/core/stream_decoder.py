"""The text of ids that come one by one."""

from collections.abc import Callable, Sequence

UNDECODABLE = "\ufffd"


class StreamDecoder:
    """Token by token, the text that decoding them all together gives; a character comes out when its bytes are whole."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._shown = 0

    def add(self, token: int) -> str:
        """New whole characters."""
        self._ids.append(token)
        text = self._decode(self._ids)
        # An unfinished sequence of bytes at the end decodes to exactly one U+FFFD; the next token may complete it.
        certain = len(text) - text.endswith(UNDECODABLE)
        fresh = text[self._shown : certain]
        self._shown = max(self._shown, certain)
        if certain == len(text):
            # The last token stays as context, for decoders that treat the first token of a text differently.
            self._ids = [token]
            self._shown = len(self._decode(self._ids))
        return fresh

    def finish(self) -> str:
        """The rest; bytes that were never completed as U+FFFD."""
        return self._decode(self._ids)[self._shown :]
