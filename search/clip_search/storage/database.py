"""LanceDB database: collections by name, and one owner at a time."""

import contextlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import lancedb

from clip_client.errors import Unavailable
from clip_search.errors import Conflict, storage_problem
from clip_search.options import CACHE_BYTES, INDEXES, QUERIES
from clip_search.storage import object_store
from clip_search.storage.lease import Lease
from clip_search.storage.lock import owned
from clip_search.storage.permissions import keep_private
from clip_search.storage.schema import About, check_collection, schema
from clip_search.storage.table import Table

_LOCK, _INDEX_LOCK, _LEASE = ".clipserve-lock", "lock", ".clipserve-owner.json"  # names that no collection can have
_METADATA_BYTES = 32 * 2**20
"""Bound on LanceDB's cache of metadata. Its own is 1 GB, and each commit adds something that is never read again."""


class Database:
    """Folder or object store with a table per collection.

    Args:
        uri: as LanceDB takes it.
        index_folder: local folder of the indexes. It is locked, and so is a database in a folder; in an object store there is a
            lease on it. No second sidecar changes either of them.
        cache_bytes: what LanceDB may keep of its indexes of a collection in memory.

    Raises:
        Unavailable: another sidecar has it, or it can't be opened.
    """

    def __init__(self, uri: str, index_folder: Path, cache_bytes: int = CACHE_BYTES) -> None:
        self._lease: Lease | None = None
        self._uri, self._cache_bytes = uri, cache_bytes
        with contextlib.ExitStack() as locks:
            try:
                self._database: Any = lancedb.connect(uri)
                self._own(locks, index_folder)
            except Unavailable:
                raise
            except Exception as problem:  # LanceDB raises anything
                raise Unavailable(
                    f"{uri} can't be opened ({problem}): name folders that can be written, --data DIR"
                ) from problem
            self._locks = locks.pop_all()

    def _own(self, locks: contextlib.ExitStack, index_folder: Path) -> None:
        place = str(self._database.uri).removeprefix("file-object-store://")
        if folder := None if "://" in place else Path(place):
            locks.enter_context(owned(folder, _LOCK))
        locks.enter_context(owned(index_folder, _INDEX_LOCK))
        if folder is None:
            self._lease = Lease(object_store.cell(place, _LEASE), place)
            locks.callback(self._lease.close)
        else:
            keep_private(folder, lambda name: name.endswith(".lance") or name in (_LOCK, INDEXES, QUERIES))
        keep_private(index_folder, {_INDEX_LOCK, QUERIES, *self._names()}.__contains__)

    def trouble(self) -> str:
        """Return the reason why the lease of the database is lost, after which nothing is written; empty while it is ours."""
        return self._lease.trouble() if self._lease else ""

    def check_owner(self) -> None:
        """Raise Unavailable for a database that may have another owner by now."""
        if self._lease:
            self._lease.check()

    def names(self) -> list[str]:
        """Return the names of all collections, sorted; raise Unavailable if the database can't be read."""
        try:
            return self._names()
        except Exception as problem:  # LanceDB raises anything
            raise storage_problem(problem, "read") from problem

    def _names(self) -> list[str]:
        page = self._database.list_tables()
        names = list(page.tables)
        while page.page_token:
            page = self._database.list_tables(page_token=page.page_token)
            names += page.tables
        return sorted(names)

    def create(self, name: str, about: About, columns: Mapping[str, str]) -> Table:
        """Make an empty collection; raise InvalidInput for a name or column that can't be used, Conflict if it is there."""
        if check_collection(name) in self.names():
            raise self._there(name)
        wanted = schema(about, columns)
        self.check_owner()
        try:
            self._database.create_table(name, schema=wanted)
            return self.open(name)
        except Exception as problem:  # LanceDB raises anything
            if "already exists" in str(problem):
                raise self._there(name) from problem
            with contextlib.suppress(Exception):  # half of a table would be in the way for ever
                self.drop(name)
            raise storage_problem(problem) from problem

    def open(self, name: str) -> Table:
        """Open a collection; LanceDB raises Exceptions of any kind."""
        return Table(self._fresh(name), self.check_owner, reopen=partial(self._fresh, name))

    def _fresh(self, name: str) -> Any:
        """Return a handle of a table with caches of its own, which go with it."""
        session = lancedb.Session(self._cache_bytes, _METADATA_BYTES)
        return lancedb.connect(self._uri, session=session).open_table(name)

    def drop(self, name: str) -> None:
        """Remove a collection for good, if it exists; raise Unavailable if it can't be removed."""
        self.check_owner()
        try:
            self._database.drop_table(name)
        except Exception as problem:  # LanceDB raises anything
            if not isinstance(problem, FileNotFoundError) and "was not found" not in str(problem):
                raise storage_problem(problem, "removed") from problem

    def _there(self, name: str) -> Conflict:
        return Conflict(f"collection {name} is there already: add to it, drop it, or choose another name")

    def close(self) -> None:
        """Close the database and release its lock or lease."""
        self._locks.close()
