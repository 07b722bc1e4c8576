"""A server that wants to fill the disk, lead elsewhere, or never end."""

import os
import threading
from collections.abc import Generator
from contextlib import suppress
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from urllib.request import Request

import pytest

from ml_playground.core.deps import Deps, RefusedAddressError, UrlFetch
from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.core.fetching import _Redirects
from ml_playground.core.run_folder import cache_folder
from ml_playground.data_pipeline.settings import UrlText
from ml_playground.data_pipeline.sources.url_text import UrlSource, build

MEGABYTE = b"all work and no play makes jack\n" * (1 << 15)

# With the usual patience, a machine that stalls would be asked once more than the tests count.
PATIENT = Deps(fetch=UrlFetch(600), sleep=lambda _: None)


class Trap(BaseHTTPRequestHandler):
    """Answers each path with its own malice."""

    def do_GET(self) -> None:
        """Obey the path."""
        if self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            with suppress(ConnectionError):
                while True:
                    self.wfile.write(MEGABYTE)
        elif self.path == "/huge":
            self.send_response(200)
            self.send_header("Content-Length", str(10**13))
            self.end_headers()
        else:
            self.send_response(302)
            self.send_header("Location", {"/loop": "/loop"}.get(self.path, self.path.removeprefix("/")))
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Be quiet."""


@pytest.fixture(scope="module")
def address() -> Generator[str]:
    """Of a real server on the loopback address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Trap) as running:
        running.daemon_threads = True
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def source(url: str) -> UrlSource:
    """The text behind it, without waits between attempts."""
    return build(UrlText(url=url), PATIENT)


def nothing_is_left() -> bool:
    """Whether the cache holds no part of an answer."""
    return [path.name for path in (cache_folder() / "downloads").iterdir() if path.suffix != ".lock"] == []


@pytest.mark.parametrize("sha256", [None, "0" * 64])
def test_answer_without_end_is_refused_at_the_limit_and_nothing_is_kept(address: str, sha256: str | None) -> None:
    """The disk is not filled to learn that it was the wrong text; nor is it tried again."""
    settings = UrlText(url=f"{address}/endless", sha256=sha256)
    made = UrlSource(settings, PATIENT, most_bytes=3 << 20)
    with pytest.raises(DataError, match=r"\(1 attempt\): the server sends \d+ bytes, and at most 3145728 are fetched"):
        next(made.documents())
    assert nothing_is_left()


def test_answer_that_announces_too_much_is_refused_before_it_begins(address: str) -> None:
    """Ten terabytes are not waited for."""
    with pytest.raises(
        DataError, match="the server announces 10000000000000 bytes, and at most 20000000000 are fetched"
    ):
        next(source(f"{address}/huge").documents())
    assert nothing_is_left()


@pytest.mark.parametrize(
    "where", ["file:///etc/hostname", "ftp://127.0.0.1/a", "data:text/plain,hello", "gopher://127.0.0.1/"]
)
def test_server_that_sends_on_to_another_kind_of_address_is_refused_once(address: str, where: str) -> None:
    """Above all to a file of this machine, whose text would then be trained on."""
    with pytest.raises(DataError, match=r"\(1 attempt\): .*(not allowed|not followed)"):
        next(source(f"{address}/{where}").documents())
    assert nothing_is_left()


def test_server_that_sends_on_in_a_circle_is_given_up(address: str) -> None:
    """Ten times is enough."""
    with pytest.raises(DataError, match="would lead to an infinite loop"):
        next(source(f"{address}/loop").documents())


def test_redirects_never_leave_tls() -> None:
    """Whoever stands between could else change the text; up to TLS they are followed."""
    redirects = _Redirects()
    with pytest.raises(RefusedAddressError, match="it sends on from https to 'http://b/', which is not followed"):
        redirects.redirect_request(Request("https://a/"), BytesIO(), 302, "Found", HTTPMessage(), "http://b/")
    for before, after in (("https://a/", "https://b/"), ("http://a/", "https://b/"), ("http://a/", "http://b/")):
        followed = redirects.redirect_request(Request(before), BytesIO(), 302, "Found", HTTPMessage(), after)
        assert followed is not None
        assert followed.full_url == after


def test_file_address_of_a_pipe_a_device_or_a_folder_is_refused(tmp_path: Path) -> None:
    """None of them has an end."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(DataError, match=r"\(1 attempt\): .* is no file"):
            next(source(path.as_uri()).documents())


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/a b",
        "http://127.0.0.1/\r\nHost: other",
        "http://127.0.0.1/\u00fc",
        "http://127.0.0.1:0/",
        "http://127.0.0.1:99999/",
        "http://[::1",
    ],
    ids=ascii,
)
def test_build_address_that_cannot_be_is_refused_before_anything_is_fetched(url: str) -> None:
    """Each would end somewhere inside the library."""
    with pytest.raises(ConfigError, match="is no address"):
        source(url)


@pytest.mark.parametrize("url", ["http://a..b/", "file:///a%00b", "http://", "file://elsewhere/a"])
def test_address_that_no_machine_answers_to_is_refused_in_words(url: str) -> None:
    """An empty part of a name, a NUL in a path, no host, another machine's file."""
    with pytest.raises(DataError, match="could not be fetched"):
        next(source(url).documents())
