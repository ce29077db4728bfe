"""Locations: local paths, and URLs of any file system that fsspec knows."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from clip_client.errors import ClipError, InvalidInput, Unavailable

STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")
"""Schemes of object stores, whose puts may have the condition that nothing is there."""


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
        return fsspec.url_to_fs(url)  # type: ignore[no-any-return]
    except ImportError as problem:
        raise Unavailable(f"{shown(url)} needs another package ({problem})") from problem
    except ValueError as problem:
        raise InvalidInput(f"{shown(url)} can't be opened: {problem}") from problem


@contextlib.contextmanager
def reached(url: str) -> Iterator[None]:
    """Turn what a file system raises into Unavailable, but for errors that have an errno of their own."""
    try:
        yield
    except (OSError, ClipError):
        raise
    except Exception as problem:  # each file system has errors of its own
        raise Unavailable(f"{shown(url)} can't be read ({line_of(problem)}): look at its address and credentials") from problem


def line_of(problem: Exception) -> str:
    """Return the first line of an error."""
    return (str(problem).strip().splitlines() or [type(problem).__name__])[0][:200]


def open_read(location: str) -> BinaryIO:
    """Open a local file or any URL of fsspec for reading; raises OSError."""
    if "://" not in location:
        return open(location, "rb")
    files, path = opened_url(location)
    with reached(location):
        return cast(BinaryIO, _Watched(files.open(path, "rb"), location))


class _Watched(io.RawIOBase):
    """File of another machine: what goes wrong there is Unavailable, so that nobody takes it for damage of the file."""

    def __init__(self, file: Any, url: str) -> None:
        self._file, self._url = file, url

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def readinto(self, buffer: Any) -> int:
        try:
            content = self._file.read(len(buffer))
        except Exception as problem:  # each file system has errors of its own
            raise Unavailable(f"{shown(self._url)} can't be read ({line_of(problem)}): try again later") from problem
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._file.seek(offset, whence)
        return self.tell()

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def shown(url: str) -> str:
    """Return a URL without name, password and query, which may hold secrets."""
    return re.sub(r"^(\w+://)[^/?#]*@", r"\1", url).partition("?")[0]
