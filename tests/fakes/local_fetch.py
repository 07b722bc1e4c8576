"""A network that is a dictionary: address -> bytes. Connections can be made to break."""

from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from io import BytesIO
from typing import BinaryIO


class BreakingStream(BytesIO):
    """Gives some bytes, then the connection is reset."""

    def __init__(self, content: bytes, breaks_after_bytes: int) -> None:
        super().__init__(content[:breaks_after_bytes])

    def read(self, size: int | None = -1, /) -> bytes:
        """What is left before the break.

        Raises:
            ConnectionResetError: Nothing is left.
        """
        content = super().read(size)
        if size != 0 and not content:
            raise ConnectionResetError("connection reset")
        return content


class LocalFetch:
    """A `Fetch` over known addresses; remembers in `asked` what was opened, and from which byte on."""

    def __init__(self, pages: Mapping[str, bytes], *, breaks_after_bytes: int | None = None, breaks: int = 1) -> None:
        """The first `breaks` connections end after `breaks_after_bytes`, if that is given."""
        self._pages = dict(pages)
        self._breaks_after_bytes = breaks_after_bytes
        self._breaks_left = breaks if breaks_after_bytes is not None else 0
        self.asked: list[tuple[str, int]] = []

    def __call__(self, url: str, *, start: int = 0) -> AbstractContextManager[BinaryIO]:
        """Open an address at byte `start`.

        Raises:
            FileNotFoundError: The address is not known.
        """
        self.asked.append((url, start))
        if url not in self._pages:
            raise FileNotFoundError(f"no page at {url}")
        content = self._pages[url][start:]
        if self._breaks_left and self._breaks_after_bytes is not None:
            self._breaks_left -= 1
            return _opened(BreakingStream(content, self._breaks_after_bytes))
        return _opened(BytesIO(content))


@contextmanager
def _opened(stream: BinaryIO) -> Generator[BinaryIO]:
    with stream:
        yield stream
