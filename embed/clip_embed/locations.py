"""Locations: local paths, and URLs of any file system that fsspec knows."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, BinaryIO

from clip_client.errors import ClipError, InvalidInput, Unavailable

OWN = "_clipserve"
"""Folder of an output for records; readers of data sets pass over names that begin so."""

STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")
"""Schemes of object stores, whose puts may have the condition that nothing is there."""


RETRIES: Any = {"max_retries": 10, "retry_timeout": timedelta(seconds=30)}
"""Bounds on requests to object stores, whose library would go on for three minutes."""

_BUFFER = 8 * 2**20
_CODE = re.compile(r"<Code>(\w+)</Code>\s*<Message>([^<]*)</Message>")
_AWAY = re.compile(r"(https?://[^/\s]+)\S* in [^-]* - HTTP error: error sending request")


def opened_url(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path in it; object stores are obstore's, all others fsspec's own.

    Raises:
        InvalidInput: the scheme isn't known.
        Unavailable: a package for it isn't installed.
    """
    import fsspec

    scheme = url.partition("://")[0]
    try:
        if scheme in STORES:
            from obstore.fsspec import register

            register(scheme)
            return fsspec.url_to_fs(url, retry_config=RETRIES)  # type: ignore[no-any-return]
        return fsspec.url_to_fs(url)  # type: ignore[no-any-return]
    except ImportError as problem:
        raise Unavailable(f"{shown(url)} needs another package ({problem})") from problem
    except ValueError as problem:
        raise InvalidInput(f"{shown(url)} can't be opened: {problem}") from problem


def open_read(location: str) -> BinaryIO:
    """Open a local file or any URL of fsspec for reading; this and reading raise OSError, whatever the file system has."""
    if "://" not in location:
        return open(location, "rb")
    return io.BufferedReader(open_remote(location), _BUFFER)


def open_remote(location: str) -> io.RawIOBase:
    """Open a URL for reading at any place; errors are those of :func:`open_read`."""
    files, path = opened_url(location)
    settings: dict[str, Any] = {}
    with remote_errors(location):
        if location.partition("://")[0] in STORES:
            files.info(path)  # obstore's file complains on standard error when it couldn't be opened
            settings = {"buffer_size": _BUFFER}  # of each request
        return _Remote(files.open(path, "rb", **settings), location)


@contextmanager
def remote_errors(url: str) -> Iterator[None]:
    """Raise the errors of a file system, of which each has kinds of its own, as Unavailable, which is an OSError.

    So nobody takes them for damage of a file.
    """
    try:
        yield
    except (FileNotFoundError, ClipError):
        raise
    except Exception as problem:
        raise Unavailable(f"{shown(url)} can't be read ({told(problem)})") from problem


def told(problem: Exception) -> str:
    """Return a store's error in a line: its own words where they are in XML, as S3 has them, else the first line."""
    if answer := _CODE.search(str(problem)):
        return f"{answer[1]}: {answer[2]}"[:200]
    if away := _AWAY.search(str(problem)):
        return f"{away[1]} can't be reached"
    lines = str(problem).strip().splitlines() or [type(problem).__name__]
    return lines[0][:200]


class _Remote(io.RawIOBase):
    """File of fsspec's whose errors are those of :func:`remote_errors`."""

    def __init__(self, file: Any, url: str) -> None:
        self._file, self._url = file, url

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell if any place of it can be read."""
        return bool(self._file.seekable())

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place; return it."""
        self._file.seek(offset, whence)
        return self.tell()

    def tell(self) -> int:
        """Return the place."""
        return int(self._file.tell())

    def readinto(self, buffer: Any) -> int:
        """Read at most as much as fits in."""
        with remote_errors(self._url):
            content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        """Close both."""
        if not self.closed:
            self._file.close()
        super().close()


def shown(url: str) -> str:
    """Return a URL without name, password and query, which may hold secrets."""
    return re.sub(r"^(\w+://)[^/?#]*@", r"\1", url).partition("?")[0]
