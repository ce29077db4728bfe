"""Download of a URL within a limit and a deadline.

The client fetches for its own user and opens any URL; the sidecar fetches for strangers and checks each address first. So the
way to open a URL is passed in; redirects, body, deadline and messages are the same for both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import urljoin

import urllib3

from clip_client.deadlines import Deadline
from clip_client.errors import ClipError, InvalidInput, Timeout, TooLarge, Unavailable

_REDIRECTS = 3
_PIECE_BYTES = 2**16

Open: TypeAlias = Callable[[str, Deadline], urllib3.BaseHTTPResponse]
"""Sends a GET for one URL, follows no redirect and reads no body; each connection is watched by the deadline."""


class BadStatus(InvalidInput):
    """An answer other than 200.

    Args:
        url: that was asked for.
        status: of the answer.
        retry_after: header of that name; empty where there is none.
    """

    def __init__(self, url: str, status: int, retry_after: str) -> None:
        super().__init__(f"{url} answers {status}: expected 200 with an image")
        self.status, self.retry_after = status, retry_after


@dataclass(frozen=True)
class Downloader:
    """Reader of URLs."""

    open: Open  # called for the URL, and again for each redirect
    most_bytes: int  # largest file
    timeout_s: float  # bound on one download, from the first connection to the last byte, redirects included
    unreachable: type[ClipError] = Unavailable  # raised for a host that can't be reached
    too_slow: type[ClipError] = Timeout  # raised for a host that is

    def read(self, url: str) -> bytes:
        """Return the file behind an http(s) URL.

        Raises:
            InvalidInput: not such a URL, too many redirects; as BadStatus, an answer other than 200.
            TooLarge: the file is.
            Unavailable, Timeout: the host can't be reached, or is too slow.
        """
        with Deadline(self.timeout_s) as deadline:
            try:
                for _ in range(_REDIRECTS + 1):
                    with self.open(url, deadline) as response:
                        self._check_time(url, deadline)  # or headers that were cut off are taken for whole
                        location = response.get_redirect_location()
                        if not location:
                            return self._body(url, response, deadline)
                        url = urljoin(url, location)
            except ClipError:
                raise
            except (urllib3.exceptions.HTTPError, ValueError, OSError) as problem:
                raise self._failure(url, problem, deadline) from problem
        raise InvalidInput(
            f"{url} has too many redirects: it redirects more than {_REDIRECTS} times; pass the address of the picture itself"
        )

    def _body(self, url: str, response: urllib3.BaseHTTPResponse, deadline: Deadline) -> bytes:
        if response.status != 200:
            raise BadStatus(url, response.status, response.headers.get("Retry-After", ""))
        body = bytearray()
        while piece := response.read1(_PIECE_BYTES):
            body += piece
            if len(body) > self.most_bytes:
                raise TooLarge(
                    f"{url} has more than {self.most_bytes:,} bytes, and at most {self.most_bytes:,} are taken: "
                    "pass a smaller picture"
                )
        self._check_time(url, deadline)  # or a file that was cut off is taken for whole
        return bytes(body)

    def _check_time(self, url: str, deadline: Deadline) -> None:
        """Refuse what was read after the deadline: its connection was shut, which may look like the end."""
        if deadline.expired:
            raise self._late(url)

    def _failure(self, url: str, problem: Exception, deadline: Deadline) -> ClipError:
        if isinstance(problem, urllib3.exceptions.NewConnectionError):  # which urllib3 takes for a timeout
            return self.unreachable(f"{url} can't be reached: is the host up, and its name right?")
        if deadline.expired or isinstance(problem, urllib3.exceptions.TimeoutError):
            return self._late(url)
        if isinstance(problem, urllib3.exceptions.ProtocolError):
            return self.unreachable(f"{url} broke off ({problem}): try again later, or send the picture itself")
        return InvalidInput(f"{url} can't be fetched ({problem}): look at it in a browser, or send the picture itself")

    def _late(self, url: str) -> ClipError:
        return self.too_slow(f"{url} didn't answer within {self.timeout_s:g} s")


def open_url(url: str, deadline: Deadline) -> urllib3.BaseHTTPResponse:
    """Open any URL that a user passes; see :data:`Open`."""
    pools = urllib3.PoolManager()
    pools.pool_classes_by_scheme = deadline.pools()
    timeout = urllib3.Timeout(total=deadline.remaining_s)
    return pools.request("GET", url, timeout=timeout, redirect=False, retries=False, preload_content=False)
