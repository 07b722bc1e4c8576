"""The seams to the outside, against a real server on the loopback address and real files."""

import gc
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, timedelta
from http.client import IncompleteRead
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ml_playground.core.deps import Clock, Deps, Fetch, SystemClock, UrlFetch, never
from tests.fakes.fixed_clock import START, FixedClock
from tests.fakes.local_fetch import LocalFetch

CONTENT = bytes(range(256)) * 10_000  # 2.56 MB: more than one block is skipped


class Pages(BaseHTTPRequestHandler):
    """`/range` obeys a Range header, `/whole` ignores it, `/broken` closes in the middle of a chunk, all else is missing."""

    def do_GET(self) -> None:
        """Answer one request."""
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        if self.path == "/range" and "Range" in self.headers:
            self._send(206, CONTENT[start:])
        elif self.path in ("/range", "/whole"):
            self._send(200, CONTENT)
        elif self.path == "/agent":
            self._send(200, self.headers["User-Agent"].encode())
        elif self.path == "/broken":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"5\r\nhe")
        else:
            self._send(404, b"nothing here")

    def _send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Address of a server in a thread."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("page", ["range", "whole"])
@pytest.mark.parametrize("start", [0, 1, 1_500_000, len(CONTENT) - 1])
def test_url_fetch_from_any_byte_gives_the_rest(server: str, page: str, start: int) -> None:
    """A download goes on where it stopped, whether or not the server knows ranges."""
    with UrlFetch()(f"{server}/{page}", start=start) as stream:
        assert stream.read() == CONTENT[start:]


def test_url_fetch_beyond_the_end_of_a_server_without_ranges_gives_nothing(server: str) -> None:
    """A download that was complete already."""
    with UrlFetch()(f"{server}/whole", start=len(CONTENT) + 5) as stream:
        assert stream.read() == b""


def test_url_fetch_names_itself(server: str) -> None:
    """Servers that refuse nameless clients are answered."""
    with UrlFetch()(f"{server}/agent") as stream:
        assert stream.read() == b"ml-playground"


def test_url_fetch_missing_page_is_an_os_error(server: str) -> None:
    """The status is in the text."""
    with pytest.raises(OSError, match="HTTP Error 404") as caught:
        UrlFetch()(f"{server}/missing")
    caught.value.close()  # type: ignore[attr-defined]


def test_url_fetch_nobody_listens_is_an_os_error() -> None:
    """A wrong port, or a server that is down."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="Connection refused"):
            UrlFetch()(f"http://127.0.0.1:{unused.getsockname()[1]}/")


def test_url_fetch_server_that_hangs_is_an_os_error() -> None:
    """A server that accepts and never answers does not stop a job for ever."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(OSError, match="timed out"):
            UrlFetch(timeout_seconds=0.05)(f"http://127.0.0.1:{silent.getsockname()[1]}/")


def test_url_fetch_connection_that_breaks_while_skipping_is_closed(server: str) -> None:
    """Nothing is left open behind the error, which `-W error` would show."""
    with pytest.raises(IncompleteRead):
        UrlFetch()(f"{server}/broken", start=10)
    gc.collect()


@pytest.mark.parametrize("start", [0, 3, 100])
def test_url_fetch_file_address_gives_the_rest(tmp_path: Path, start: int) -> None:
    """A local copy stands in for the network."""
    (tmp_path / "a b.txt").write_bytes(b"0123456789")
    with UrlFetch()((tmp_path / "a b.txt").as_uri(), start=start) as stream:
        assert stream.read() == b"0123456789"[start:]


def test_url_fetch_missing_file_is_an_os_error(tmp_path: Path) -> None:
    """The text names the cause."""
    with pytest.raises(OSError, match="No such file"):
        UrlFetch()((tmp_path / "missing").as_uri())


def test_system_clock_tells_utc_and_never_runs_backwards() -> None:
    """Times in files carry their zone; durations are never negative."""
    clock = SystemClock()
    assert clock.now().tzinfo is UTC
    assert clock.tick() <= clock.tick()


def test_deps_default_is_the_real_world() -> None:
    """A job that is handed nothing uses the machine's clock and network, and is not stopped."""
    deps = Deps()
    assert isinstance(deps.clock, SystemClock)
    assert isinstance(deps.fetch, UrlFetch)
    assert deps.stop_requested is never
    assert never() is False
    deps.sleep(0)


def test_fixed_clock_moves_only_when_told_or_by_its_step() -> None:
    """The fake keeps its two times together."""
    clock: Clock = FixedClock()
    assert [clock.tick(), clock.tick()] == [0.0, 0.0]
    assert clock.now() == START
    stepping = FixedClock(step_s=0.5)
    assert [stepping.tick(), stepping.tick()] == [0.0, 0.5]
    stepping.advance(9)
    assert stepping.now() == START + timedelta(seconds=10)


def test_local_fetch_answers_like_a_server() -> None:
    """The fake gives the rest from any byte, remembers what was asked, and does not know other addresses."""
    fetch = LocalFetch({"https://a": b"0123"})
    asked: Fetch = fetch
    with asked("https://a", start=2) as stream:
        assert stream.read() == b"23"
    with pytest.raises(OSError, match="no page at https://b"):
        asked("https://b")
    assert fetch.asked == [("https://a", 2), ("https://b", 0)]


def test_local_fetch_connection_breaks_as_often_as_it_is_told() -> None:
    """The fake gives some bytes, then an error; the next try gets through."""
    fetch = LocalFetch({"https://a": b"0123"}, breaks_after_bytes=3)
    with fetch("https://a") as stream:
        assert stream.read(3) == b"012"
        assert stream.read(0) == b""
        with pytest.raises(ConnectionResetError, match="connection reset"):
            stream.read(1)
    with fetch("https://a", start=3) as stream:
        assert stream.read() == b"3"
