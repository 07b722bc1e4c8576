"""One text from an address: fetched once, resumed, checked; and every way in which that can fail."""

import hashlib
import socket
import threading
from collections.abc import Generator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ml_playground.core.deps import Deps, UrlFetch
from ml_playground.core.error_handling import ConfigError, DataError, StorageError
from ml_playground.core.run_folder import cache_folder
from ml_playground.data_pipeline.settings import UrlText
from ml_playground.data_pipeline.sources.url_text import UrlSource, build
from tests.fakes.local_fetch import LocalFetch

URL = "https://example.org/text.txt"
TEXT = "To be, or not to be.\n" * 200
CONTENT = TEXT.encode()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Waits:
    """Remembers what was slept."""

    seconds: list[float] = field(default_factory=list[float])

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def source(fetch: LocalFetch, waits: Waits | None = None, **settings: object) -> UrlSource:
    """The source over a network that is a dictionary."""
    deps = Deps(fetch=fetch, sleep=waits or Waits())
    return build(UrlText.model_validate({"url": URL, **settings}), deps)


def text_of(made: UrlSource) -> str:
    """All of it."""
    return "".join(document.text for document in made.documents())


def downloads() -> list[str]:
    """Names in the cache, without locks."""
    return sorted(path.suffix for path in (cache_folder() / "downloads").iterdir() if path.suffix != ".lock")


def test_documents_are_the_text_with_the_address_as_id() -> None:
    """One document."""
    made = source(LocalFetch({URL: CONTENT}))
    assert {document.id for document in made.documents()} == {URL}
    assert text_of(made) == TEXT


def test_documents_read_again_fetch_nothing() -> None:
    """Neither by the same source nor by a later one."""
    fetch = LocalFetch({URL: CONTENT})
    made = source(fetch)
    assert text_of(made) == text_of(made) == text_of(source(fetch)) == TEXT
    assert len(fetch.asked) == 1


def test_documents_in_another_encoding_are_read_with_it() -> None:
    """The setting has an effect."""
    assert text_of(source(LocalFetch({URL: "né".encode("latin-1")}), encoding="latin-1")) == "né"


def test_provenance_without_hash_fetches_and_records_it() -> None:
    """Whatever came is known later."""
    account = source(LocalFetch({URL: CONTENT})).provenance()
    assert [(file.name, file.size_bytes, file.sha256) for file in account.files] == [(URL, len(CONTENT), SHA256)]


def test_provenance_with_hash_needs_no_network() -> None:
    """A prepared data set can be used when the cache was cleared and the network is gone."""
    fetch = LocalFetch({})
    account = source(fetch, sha256=SHA256).provenance()
    assert [(file.size_bytes, file.sha256) for file in account.files] == [(None, SHA256)]
    assert fetch.asked == []


def test_broken_transfer_goes_on_where_it_stopped_after_a_wait() -> None:
    """No byte is fetched twice."""
    fetch, waits = LocalFetch({URL: CONTENT}, breaks_after_bytes=1000, breaks=2), Waits()
    assert text_of(source(fetch, waits, sha256=SHA256)) == TEXT
    assert fetch.asked == [(URL, 0), (URL, 1000), (URL, 2000)]
    assert waits.seconds == [1.0, 2.0]


def test_broken_transfer_is_kept_for_the_next_process_when_the_hash_is_known() -> None:
    """The next start goes on; the hash proves that the halves belong together."""
    with pytest.raises(DataError, match=r"could not be fetched \(3 attempts\): connection reset"):
        text_of(source(LocalFetch({URL: CONTENT}, breaks_after_bytes=1000, breaks=3), sha256=SHA256))
    fetch = LocalFetch({URL: CONTENT})
    assert text_of(source(fetch, sha256=SHA256)) == TEXT
    assert fetch.asked == [(URL, 3000)]


def test_broken_transfer_without_hash_starts_over_in_the_next_process() -> None:
    """Nobody could tell whether two halves belong together."""
    with pytest.raises(DataError, match="could not be fetched"):
        text_of(source(LocalFetch({URL: CONTENT}, breaks_after_bytes=1000, breaks=3)))
    fetch = LocalFetch({URL: CONTENT})
    assert text_of(source(fetch)) == TEXT
    assert fetch.asked == [(URL, 0)]


def test_broken_transfer_without_hash_starts_over_in_the_next_attempt_too() -> None:
    """The text may change between two attempts of one process as well."""
    fetch = LocalFetch({URL: CONTENT}, breaks_after_bytes=1000, breaks=2)
    assert text_of(source(fetch)) == TEXT
    assert fetch.asked == [(URL, 0)] * 3


def test_fetch_anew_without_hash_replaces_the_cached_text() -> None:
    """Nothing says that the copy is still what the address gives."""
    text_of(source(LocalFetch({URL: b"old text"})))
    made = source(LocalFetch({URL: CONTENT}))
    made.fetch_anew()
    assert text_of(made) == text_of(source(LocalFetch({}))) == TEXT


def test_fetch_anew_twice_by_one_source_fetches_twice() -> None:
    """Each call forgets what was fetched before it, and only that."""
    fetch = LocalFetch({URL: CONTENT})
    made = source(fetch)
    for _ in range(2):
        made.fetch_anew()
        assert text_of(made) == text_of(made) == TEXT
    assert len(fetch.asked) == 2


def test_fetch_anew_without_network_fails_and_keeps_the_cached_text() -> None:
    """The old copy is not taken for the new text, and not lost either."""
    text_of(source(LocalFetch({URL: CONTENT})))
    made = source(LocalFetch({}))
    made.fetch_anew()
    with pytest.raises(DataError, match="could not be fetched"):
        made.provenance()
    assert text_of(source(LocalFetch({}))) == TEXT


def test_fetch_anew_with_hash_keeps_what_the_hash_proves() -> None:
    """The same bytes need not travel twice."""
    text_of(source(LocalFetch({URL: CONTENT}), sha256=SHA256))
    made = source(LocalFetch({}), sha256=SHA256)
    made.fetch_anew()
    assert text_of(made) == TEXT


def test_older_half_of_another_text_is_thrown_away_and_fetched_anew() -> None:
    """The server's text changed between two processes."""
    with pytest.raises(DataError, match="could not be fetched"):
        text_of(source(LocalFetch({URL: b"x" * 5000}, breaks_after_bytes=1000, breaks=3), sha256=SHA256))
    fetch = LocalFetch({URL: CONTENT})
    assert text_of(source(fetch, sha256=SHA256)) == TEXT
    assert fetch.asked == [(URL, 3000), (URL, 0)]


def test_whole_leftover_with_the_right_hash_is_taken_without_fetching() -> None:
    """Killed between the last byte and the rename."""
    folder = cache_folder() / "downloads"
    folder.mkdir(parents=True)
    name = hashlib.sha256(URL.encode()).hexdigest()[:24]
    (folder / f"{name}.partial").write_bytes(CONTENT)
    fetch = LocalFetch({})
    assert text_of(source(fetch, sha256=SHA256)) == TEXT
    assert fetch.asked == []


def test_wrong_hash_names_expected_and_got_and_keeps_nothing() -> None:
    """A text that is not the one meant is never used."""
    with pytest.raises(
        DataError, match=rf"sha256 is {SHA256} \(4200 bytes\), prepare\.source\.sha256 is {'0' * 64}.*not kept"
    ):
        text_of(source(LocalFetch({URL: CONTENT}), sha256="0" * 64))
    assert downloads() == []


def test_cached_text_that_was_changed_is_fetched_anew() -> None:
    """The hash guards the cache too."""
    text_of(source(LocalFetch({URL: CONTENT}), sha256=SHA256))
    cached = next(path for path in (cache_folder() / "downloads").iterdir() if not path.suffix)
    cached.write_bytes(b"other")
    fetch = LocalFetch({URL: CONTENT})
    assert text_of(source(fetch, sha256=SHA256)) == TEXT
    assert len(fetch.asked) == 1


def test_offline_says_how_to_give_the_file_by_path() -> None:
    """After all attempts, with the exact words to type."""
    waits = Waits()
    with pytest.raises(
        DataError,
        match=r"fetched \(3 attempts\): no page at.*--set 'prepare\.source=\{kind=\"text_file\", path=\"FILE\"\}'",
    ):
        text_of(source(LocalFetch({}), waits))
    assert waits.seconds == [1.0, 2.0]


def test_empty_answer_says_so_and_keeps_nothing() -> None:
    """Zero bytes are no text."""
    with pytest.raises(DataError, match=r"text\.txt is empty \(0 bytes\); check prepare\.source\.url"):
        text_of(source(LocalFetch({URL: b""})))
    assert downloads() == []


@pytest.mark.parametrize("url", ["ftp://example.org/a.txt", "/home/me/a.txt", "example.org/a.txt", ""])
def test_build_address_of_another_kind_says_what_is_allowed(url: str) -> None:
    """A path is not an address."""
    with pytest.raises(ConfigError, match=r"is not an http, https or file address; for a file of yours use --set"):
        source(LocalFetch({}), url=url)


def test_build_malformed_address_says_so() -> None:
    """Before anything is fetched."""
    with pytest.raises(ConfigError, match=r"prepare\.source\.url = 'http://\[::1' is no address"):
        source(LocalFetch({}), url="http://[::1")


def test_build_unknown_encoding_is_refused_before_fetching() -> None:
    """As for files."""
    with pytest.raises(ConfigError, match="is no encoding of text"):
        source(LocalFetch({}), encoding="utf8x")


def test_cache_that_cannot_be_written_names_the_place(home: Path) -> None:
    """A file stands where the cache should be."""
    home.mkdir()
    (home / ".cache").write_text("in the way")
    with pytest.raises(StorageError, match=r"Could not write .*\.cache/downloads"):
        text_of(source(LocalFetch({URL: CONTENT})))


def test_partial_that_cannot_be_written_names_it() -> None:
    """A folder stands where the bytes should go."""
    folder = cache_folder() / "downloads"
    name = hashlib.sha256(URL.encode()).hexdigest()[:24]
    (folder / f"{name}.partial" / "x").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"Could not write .*\.partial"):
        text_of(source(LocalFetch({URL: CONTENT}), sha256=SHA256))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a file that is always full")
def test_full_disk_says_so_and_keeps_nothing() -> None:
    """Space is freed again, and no other attempt is made."""
    folder = cache_folder() / "downloads"
    folder.mkdir(parents=True)
    name = hashlib.sha256(URL.encode()).hexdigest()[:24]
    (folder / f"{name}.partial").symlink_to("/dev/full")
    fetch = LocalFetch({URL: CONTENT})
    with pytest.raises(StorageError, match="the disk is full"):
        text_of(source(fetch, sha256=SHA256))
    assert downloads() == []
    assert len(fetch.asked) == 1


def test_file_address_is_read(tmp_path: Path) -> None:
    """With the real fetch."""
    (tmp_path / "a.txt").write_bytes(CONTENT)
    url = (tmp_path / "a.txt").as_uri()
    assert text_of(build(UrlText(url=url), Deps())) == TEXT


def test_file_address_that_does_not_exist_is_tried_once(tmp_path: Path) -> None:
    """It will not be there a second later either."""
    waits = Waits()
    made = build(UrlText(url=(tmp_path / "no.txt").as_uri()), Deps(sleep=waits))
    with pytest.raises(DataError, match=r"could not be fetched \(1 attempt\)"):
        text_of(made)
    assert waits.seconds == []


class Pages(BaseHTTPRequestHandler):
    """A real server that answers each request in the way its path asks for, once; after that as it should."""

    seen: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        """Send the text, whole or from a byte on."""
        asked = self.headers.get("Range")
        first = not any(path == self.path for path, _ in self.seen)
        self.seen.append((self.path, asked))
        trouble = self.path.strip("/")
        if trouble == "404" or (trouble in ("503", "416") and first):
            self.send_error(int(trouble))
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and trouble != "norange" else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:1000] if (first and trouble in ("cut", "norange")) or trouble == "cut-always" else body)

    def log_message(self, *arguments: object) -> None:
        """Be quiet."""


@pytest.fixture
def server() -> Generator[ThreadingHTTPServer]:
    """On the loopback address, a free port."""
    handler = type("Handler", (Pages,), {"seen": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def over_http(server: ThreadingHTTPServer, trouble: str, **settings: object) -> UrlSource:
    """The source behind one kind of trouble."""
    url = f"http://127.0.0.1:{server.server_port}/{trouble}"
    # With the usual patience, a machine that stalls would be asked once more than the test counts.
    return build(UrlText.model_validate({"url": url, **settings}), Deps(fetch=UrlFetch(600), sleep=Waits()))


@pytest.mark.parametrize("trouble", ["fine", "503", "cut", "norange"])
def test_server_in_trouble_is_asked_again(server: ThreadingHTTPServer, trouble: str) -> None:
    """A hiccup, a connection that closes early, a server that knows no ranges: the text comes out whole."""
    assert text_of(over_http(server, trouble, sha256=SHA256)) == TEXT


def test_connection_that_closes_early_goes_on_from_there(server: ThreadingHTTPServer) -> None:
    """It looks like the end of the text; only the announced length tells."""
    text_of(over_http(server, "cut", sha256=SHA256))
    assert server.RequestHandlerClass.seen == [("/cut", None), ("/cut", "bytes=1000-")]  # type: ignore[attr-defined]


def test_connection_that_closes_early_for_good_says_how_much_is_missing(server: ThreadingHTTPServer) -> None:
    """A cut text is not taken for the text."""
    with pytest.raises(DataError, match="the connection closed 3200 bytes before the end"):
        text_of(over_http(server, "cut-always"))


def test_server_without_the_page_is_asked_once(server: ThreadingHTTPServer) -> None:
    """404 stays 404."""
    with pytest.raises(DataError, match=r"could not be fetched \(1 attempt\): the server answered 404 Not Found"):
        text_of(over_http(server, "404"))
    assert len(server.RequestHandlerClass.seen) == 1  # type: ignore[attr-defined]


def test_leftover_that_is_longer_than_the_text_is_thrown_away(server: ThreadingHTTPServer) -> None:
    """The server answers that it has nothing from there on."""
    made = over_http(server, "fine", sha256=SHA256)
    made._partial.parent.mkdir(parents=True)
    made._partial.write_bytes(b"y" * 9000)
    assert text_of(made) == TEXT


def test_nobody_listens_says_connection_refused() -> None:
    """The usual way to be offline."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
        with pytest.raises(DataError, match=r"could not be fetched \(3 attempts\): .*refused"):
            text_of(build(UrlText(url=url), Deps(sleep=Waits())))
