"""Objects in an object store: one that is changed by conditional puts, and many as files. No other module imports obstore."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from clip_client.errors import Unavailable

if TYPE_CHECKING:
    from obstore.store import ObjectStore

Version = Mapping[str, Any]  # `e_tag` and `version` of an object, as the store names them
_REQUEST_S = 5  # well below the lease
_RETRIES = 2  # within that time
_FILE_S = 120  # of a request for some megabytes of a file
_PIECE_BYTES = 8 * 2**20
_SCHEMES = {"s3": "AWS", "s3a": "AWS", "gs": "GOOGLE", "az": "AZURE", "abfs": "AZURE", "abfss": "AZURE"}
"""Stores whose puts may have a condition, and how the names of their variables begin."""
_CONNECTION = ("allow_http", "allow_invalid_certificates", "proxy_url", "proxy_ca_certificate", "proxy_excludes", "user_agent")


@dataclass(frozen=True)
class Stored:
    """Content of an object, and the version that a put may ask for."""

    content: bytes
    version: Version


class Cell:
    """An object that somebody else may change at any time."""

    def __init__(self, store: ObjectStore, name: str) -> None:
        self._store, self._name = store, name

    def read(self) -> Stored | None:
        """Return the object; None if there is none. If the store can't be asked, obstore raises Exceptions of any kind."""
        import obstore

        try:
            answer = obstore.get(self._store, self._name)
            return Stored(bytes(answer.bytes()), _version(answer.meta))
        except FileNotFoundError:
            return None

    def write(self, content: bytes, before: Version | None) -> Version | None:
        """Put the object in the place of version ``before``, of none if that is None.

        Returns:
            The new version; None if the object has another version than that.

        Raises:
            Exception: as :meth:`read`; the put may have been done.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        mode: Any = "create" if before is None else dict(before)
        try:
            return _version(obstore.put(self._store, self._name, content, mode=mode))
        except (AlreadyExistsError, PreconditionError, FileNotFoundError):
            return None


class Bucket:
    """Objects below an address as files; a :class:`~clip_search.storage.file_places.Place`."""

    def __init__(self, address: str) -> None:
        self._store = _store(address, _FILE_S)

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Return sizes by path."""
        import obstore

        batches = obstore.list(self._store, folder or None)
        return {str(found["path"]): int(found["size"]) for batch in batches for found in batch}

    def read(self, path: str) -> Iterator[bytes]:
        """Yield the content of a file."""
        import obstore

        for piece in obstore.get(self._store, path).stream(min_chunk_size=_PIECE_BYTES):
            yield bytes(piece)

    def write(self, path: str, pieces: Iterable[bytes]) -> None:
        """Write a file and make it durable."""
        import obstore

        writer = obstore.open_writer(self._store, path, buffer_size=_PIECE_BYTES)
        for piece in pieces:  # which may come from a store, too: a put that reads them itself can't wait for another one
            writer.write(piece)
        writer.close()  # an object comes to be here, and not if the pieces end with an error

    def remove(self, path: str) -> None:
        """Remove a file."""
        import obstore

        with contextlib.suppress(FileNotFoundError):
            obstore.delete(self._store, path)


def cell(database: str, name: str) -> Cell:
    """Return the object of this name in a database; credentials come from the environment, as LanceDB takes them.

    Raises:
        Unavailable: the store isn't one whose puts may have a condition, or the library isn't there.
    """
    return Cell(_store(database, _REQUEST_S), name)


def _store(address: str, request_s: int) -> ObjectStore:
    """Return the store at an address, as :func:`cell` does."""
    scheme, _, rest = address.partition("?")[0].replace("s3+ddb://", "s3://").partition("://")
    if scheme not in _SCHEMES:
        raise Unavailable(f"no lease is known for {scheme}://: expected a folder, or one of {', '.join(_SCHEMES)}")
    try:
        from obstore.store import from_url
    except ImportError as problem:
        raise Unavailable(f"{address} needs another library: pip install 'clipserve[object-store]'") from problem
    connection: Any = _connection(_SCHEMES[scheme], request_s)
    retries: Any = {"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=request_s)}
    return from_url(f"{scheme}://{rest}", client_options=connection, retry_config=retries)


def _connection(prefix: str, request_s: int) -> dict[str, Any]:
    """Return how to connect; obstore looks for that in the environment only where it isn't told anything."""
    limit = timedelta(seconds=request_s)
    given = {name: os.environ.get(f"{prefix}_{name.upper()}", "") for name in _CONNECTION}
    return {"timeout": limit, "connect_timeout": limit, **{name: value for name, value in given.items() if value}}


def _version(told: Any) -> Version:
    return {name: told[name] for name in ("e_tag", "version") if told.get(name) is not None}
