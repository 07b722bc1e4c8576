"""One text, fetched once and kept in the cache; with a known hash a broken transfer goes on where it stopped."""

import hashlib
from collections.abc import Iterator
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from filelock import FileLock

from ml_playground.core.atomic import sync_file
from ml_playground.core.deps import Deps, RefusedAddressError
from ml_playground.core.error_handling import ConfigError, DataError, StorageError
from ml_playground.core.run_folder import cache_folder
from ml_playground.core.storage_errors import storage_errors
from ml_playground.core.values import Document
from ml_playground.data_pipeline.settings import UrlText
from ml_playground.data_pipeline.source_protocol import NamedFile, Provenance, SourceFile
from ml_playground.data_pipeline.sources.text_pieces import PIECE_BYTES, check_encoding, file_account, text_pieces

SCHEMES = ("http", "https", "file")
WAITS_S = (0.0, 1.0, 2.0)
"""Before each attempt: together they outlast a hiccup, and whoever is offline hears of it soon."""
MOST_BYTES = 20_000_000_000
"""A longer answer is refused: before it begins where the server says its length, else as soon as so much has come."""
BY_PATH = '--set \'prepare.source={kind="text_file", path="FILE"}\''

# These say "not now"; every other answer of the 400s will be the same next time.
TRY_AGAIN = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)


class _BrokenTransferError(Exception):
    """The network failed; the text says how."""

    def __init__(self, reason: str, *, final: bool, useless_partial: bool) -> None:
        super().__init__(reason)
        self.final = final
        self.useless_partial = useless_partial


class UrlSource:
    """The text behind an address, as one document."""

    def __init__(self, settings: UrlText, deps: Deps, *, most_bytes: int = MOST_BYTES, by_path: str = BY_PATH) -> None:
        """`by_path`: what to type to name a file that came by other means."""
        check_encoding(settings.encoding)
        _check_url(settings.url, by_path)
        self._settings = settings
        self._deps = deps
        self._most_bytes = most_bytes
        self._by_path = by_path
        name = hashlib.sha256(settings.url.encode()).hexdigest()[:24]
        self._path = cache_folder() / "downloads" / name
        self._partial = self._path.with_suffix(".partial")
        self._checked = False
        self._anew = False

    def files(self) -> list[NamedFile]:
        """The text in the cache, fetched if need be."""
        return [NamedFile(self._settings.url, self._fetched(), self._settings.encoding)]

    def documents(self) -> Iterator[Document]:
        """The text in pieces, its address as the id."""
        for text in text_pieces(self._fetched(), self._settings.encoding):
            yield Document(self._settings.url, text)

    def provenance(self) -> Provenance:
        """Address and hash; nothing is fetched where the settings give the hash."""
        expected = self._settings.sha256
        if expected is not None and not self._path.is_file():
            account = SourceFile(name=self._settings.url, size_bytes=None, sha256=expected)
        else:
            account = file_account(self._fetched(), self._settings.url)
        return Provenance(kind=self._settings.kind, files=(account,))

    def fetch_anew(self) -> None:
        """Fetch again what no hash vouches for; the copy in the cache stays until the new text is whole."""
        self._anew = self._settings.sha256 is None
        self._checked = False

    def _fetched(self) -> Path:
        """The file in the cache, checked once, fetched if need be."""
        # It was renamed into its place: to look at it takes no lock, for which the right to write may lack.
        if (self._checked and self._path.is_file()) or (not self._anew and self._is_whole(self._path)):
            self._checked = True
            return self._path
        with storage_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._path.with_suffix(".lock"))
            lock.acquire()
        try:
            whole = self._is_whole(self._path)
            if not whole:
                self._path.unlink(missing_ok=True)
            if self._anew or not whole:
                self._download()
        finally:
            lock.release()
        self._checked, self._anew = True, False
        return self._path

    def _is_whole(self, path: Path) -> bool:
        """Whether a file is there and, where the settings give a hash, has it."""
        if not path.is_file():
            return False
        expected = self._settings.sha256
        return expected is None or file_account(path, "").sha256 == expected

    def _download(self) -> None:
        try:
            self._try_to_download()
        finally:
            if self._settings.sha256 is None:
                # Without a hash nobody could tell whether what an attempt left belongs to the next answer.
                self._drop_partial()

    def _try_to_download(self) -> None:
        failure = self._unreachable(0, "it was not tried")
        for attempt, wait_s in enumerate(WAITS_S):
            if wait_s:
                self._deps.sleep(wait_s)
            if self._settings.sha256 is None:
                with storage_errors(self._partial):
                    self._partial.unlink(missing_ok=True)
            went_on = self._partial.is_file()
            try:
                if not (went_on and self._is_whole(self._partial)):
                    self._transfer()
            except _BrokenTransferError as error:
                failure = self._unreachable(attempt + 1, str(error))
                if error.useless_partial:
                    self._drop_partial()
                if error.final:
                    raise failure from error
                continue
            refusal = self._accept()
            if refusal is None:
                return
            failure = refusal
            # What went on from an older part may be two answers in one; what came in one piece is what the server has.
            if not went_on:
                break
        raise failure

    def _drop_partial(self) -> None:
        if not self._partial.is_dir():
            self._partial.unlink(missing_ok=True)

    def _transfer(self) -> None:
        start = self._partial.stat().st_size if self._partial.is_file() else 0
        try:
            with storage_errors(self._partial), self._partial.open("ab") as out:
                for block in self._blocks(start):
                    out.write(block)
        except StorageError:
            self._drop_partial()
            raise
        sync_file(self._partial)

    def _blocks(self, start: int) -> Iterator[bytes]:
        try:
            with self._deps.fetch(self._settings.url, start=start) as stream:
                self._check_size(start + (getattr(stream, "length", None) or 0), "announces")
                while block := stream.read(PIECE_BYTES):
                    start += len(block)
                    self._check_size(start, "sends")
                    yield block
                # A connection that closes early looks like the end; only the announced length tells.
                missing: int | None = getattr(stream, "length", None)
                if missing:
                    raise ConnectionError(f"the connection closed {missing} bytes before the end")
        except HTTPError as error:
            error.close()
            again = error.code in TRY_AGAIN or error.code >= HTTPStatus.INTERNAL_SERVER_ERROR
            beyond = error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
            reason = f"the server answered {error.code} {error.reason}"
            raise _BrokenTransferError(reason, final=not again, useless_partial=beyond) from error
        except URLError as error:
            gone = isinstance(error.reason, FileNotFoundError)
            raise _BrokenTransferError(str(error.reason), final=gone, useless_partial=False) from error
        except (OSError, HTTPException, ValueError) as error:
            # A ValueError is an address that cannot be: an empty part of a host's name, a NUL in a path.
            reason = str(error) or type(error).__name__
            final = isinstance(error, ValueError | RefusedAddressError)
            raise _BrokenTransferError(reason, final=final, useless_partial=False) from error

    def _check_size(self, size_bytes: int, verb: str) -> None:
        """Refuse an answer that is longer than any text that is trained on here, before it fills the disk."""
        if size_bytes > self._most_bytes:
            reason = f"the server {verb} {size_bytes} bytes, and at most {self._most_bytes} are fetched"
            raise _BrokenTransferError(reason, final=True, useless_partial=True)

    def _accept(self) -> DataError | None:
        """Move what was fetched into its place, or remove it and say what is wrong with it."""
        got = file_account(self._partial, "")
        expected = self._settings.sha256
        if not got.size_bytes:
            self._partial.unlink()
            return DataError(f"{self._settings.url} is empty (0 bytes); check prepare.source.url.")
        if expected is not None and got.sha256 != expected:
            self._partial.unlink()
            return DataError(
                f"{self._settings.url} is not the expected text: its sha256 is {got.sha256} ({got.size_bytes} bytes), "
                f"prepare.source.sha256 is {expected}. It was not kept. Check the address; if the text was meant "
                "to change, set prepare.source.sha256 to its hash."
            )
        self._partial.replace(self._path)
        return None

    def _unreachable(self, attempts: int, reason: str) -> DataError:
        tries = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        return DataError(
            f"{self._settings.url} could not be fetched ({tries}): {reason}. Check address and network; "
            f"without a network, bring the file by other means and name it: {self._by_path}."
        )


def build(settings: UrlText, deps: Deps) -> UrlSource:
    """The source; nothing is fetched before it is read.

    Raises:
        ConfigError: The address or the encoding cannot be used.
    """
    return UrlSource(settings, deps)


def _check_url(url: str, by_path: str) -> None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"prepare.source.url = {url!r} is no address: {error}.") from error
    if parts.scheme not in SCHEMES:
        raise ConfigError(
            f"prepare.source.url = {url!r} is not an http, https or file address; for a file of yours use {by_path}."
        )
    if not (url.isascii() and url.isprintable()) or " " in url or port == 0:
        raise ConfigError(
            f"prepare.source.url = {url!a} is no address: write blanks and letters beyond ASCII as %20 and the like, "
            "and leave out a port of 0."
        )
