"""Locations: local paths, and URLs of any file system that fsspec knows."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, BinaryIO

from clip_client.errors import InvalidInput, Unavailable

OWN = "_clipserve"
"""Folder of an output for records; readers of data sets pass over names that begin so."""

STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")
"""Schemes of object stores, whose puts may have the condition that nothing is there."""


RETRIES: Any = {"max_retries": 10, "retry_timeout": timedelta(seconds=30)}
"""Bounds on requests to object stores, whose library would go on for three minutes."""


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
    """Open a local file or any URL of fsspec for reading; raises OSError."""
    if "://" not in location:
        return open(location, "rb")
    files, path = opened_url(location)
    return files.open(path, "rb")  # type: ignore[no-any-return]


def shown(url: str) -> str:
    """Return a URL without name, password and query, which may hold secrets."""
    return re.sub(r"^(\w+://)[^/?#]*@", r"\1", url).partition("?")[0]
