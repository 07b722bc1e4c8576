"""Opens addresses: http and https, and files of this machine. Where a server sends its reader on to is looked at first.

The library's own opener would follow to ftp and from https to http, know `data:` and `ftp:`, and wait for ever at a pipe.
"""

from http.client import HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit
from urllib.request import (
    FileHandler,
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
    url2pathname,
)

from ml_playground.core.deps import RefusedAddressError


class _Redirects(HTTPRedirectHandler):
    """To http and https only, and never out of TLS, which whoever stands between could else take away."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        """The request of the new address.

        Raises:
            RefusedAddressError: It is of another kind.
        """
        before, after = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if after not in ("http", "https") or (before, after) == ("https", "http"):
            fp.close()
            raise RefusedAddressError(f"it sends on from {before} to {newurl!r}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Files(FileHandler):
    """Files, and nothing that only looks like one."""

    def open_local_file(self, req: Request) -> Any:
        """The file.

        Raises:
            RefusedAddressError: It is a folder, a pipe or a device.
        """
        path = Path(url2pathname(req.selector))
        if path.exists() and not path.is_file():
            raise RefusedAddressError(f"{path} is no file")
        return super().open_local_file(req)


def opened(url: str, headers: dict[str, str], timeout_seconds: float) -> HTTPResponse:
    """The answer of an address; for a file an object with the same methods, whose status is none.

    Raises:
        OSError: The address did not answer, answered with an error, or sends on to what is not followed.
    """
    director = OpenerDirector()
    for handler in (
        ProxyHandler,
        UnknownHandler,
        HTTPHandler,
        HTTPSHandler,
        HTTPDefaultErrorHandler,
        HTTPErrorProcessor,
        _Redirects,
        _Files,
    ):
        director.add_handler(handler())
    return director.open(Request(url, headers=headers), timeout=timeout_seconds)  # noqa: S310 - of the kinds above only
