"""LanceDB database: collections by name, and one owner at a time."""

import contextlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import lancedb
import pyarrow as pa

from clip_client.errors import Unavailable
from clip_search.errors import Conflict, ReadOnly, cleaned, storage_problem
from clip_search.options import CACHE_BYTES, FEEDBACK, INDEXES, QUERIES
from clip_search.storage import object_store, vector_sets
from clip_search.storage.feedback_table import FeedbackTable
from clip_search.storage.lease import Lease
from clip_search.storage.lock import owned
from clip_search.storage.permissions import keep_private
from clip_search.storage.schema import About, check_collection, schema
from clip_search.storage.table import Table
from clip_search.storage.vector_sets import SetNote, Sets

_LOCK, _INDEX_LOCK, _LEASE = ".clipserve-lock", "lock", ".clipserve-owner.json"  # names that no collection can have
_METADATA_BYTES = 32 * 2**20
"""Bound on LanceDB's cache of metadata. Its own is 1 GB, and each commit adds something that is never read again."""

_PATIENCE = {"client_max_retries": "3", "client_retry_timeout": "20"}
"""Limits on LanceDB's retries of a request to an object store, in seconds; its own of 180 would hold up a whole sidecar."""

_GRACE_S = 60.0
"""Age up to which old versions stay in an object store: sidecars that only read may be seconds behind."""


class Database:
    """Folder or object store with a table per collection.

    Args:
        uri: as LanceDB takes it.
        index_folder: local folder of the indexes. It is locked, and so is a database in a folder; in an object store there is a
            lease on it. No second sidecar changes either of them.
        cache_bytes: what LanceDB may keep of its indexes of a collection in memory.
        read_only: it is another sidecar's: no lock, no lease, nothing is written but into ``index_folder``.

    Raises:
        Unavailable: another sidecar has it, or it can't be opened.
    """

    def __init__(self, uri: str, index_folder: Path, cache_bytes: int = CACHE_BYTES, *, read_only: bool = False) -> None:
        self._lease: Lease | None = None
        self._uri, self._cache_bytes, self.read_only = uri, cache_bytes, read_only
        self._is_remote = "://" in uri.removeprefix("file://").removeprefix("file-object-store://")
        with contextlib.ExitStack() as locks:
            try:
                self._look_for()
                self._database: Any = self._connected()
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
        self._folder = folder = None if "://" in place else Path(place)
        self._followed = folder if self.read_only else None
        self._was_owned = folder is not None and (folder / _LOCK).exists()  # an empty mount point was not
        if folder and not self.read_only:
            locks.enter_context(owned(folder, _LOCK))
        locks.enter_context(owned(index_folder, _INDEX_LOCK))
        if self.read_only:
            pass  # the owner sees to its files
        elif folder is None:
            self._lease = Lease(object_store.cell(place, _LEASE), place)
            locks.callback(self._lease.close)
        else:
            keep_private(folder, lambda name: name.endswith(".lance") or name in (_LOCK, INDEXES, QUERIES, FEEDBACK))
        keep_private(index_folder, {_INDEX_LOCK, QUERIES, *self._names()}.__contains__)

    def _look_for(self) -> None:
        """Raise Unavailable for a store that can't be read, within seconds, or a folder to read that isn't there."""
        if self._is_remote:
            try:
                object_store.cell(self._uri, _LEASE).read()
            except Unavailable:
                raise
            except Exception as problem:  # obstore's, of any kind
                reason = f"{self._uri} can't be read ({cleaned(problem)}): look at its address and credentials"
                raise Unavailable(reason) from problem
        elif self.read_only and not Path(self._uri.removeprefix("file://")).expanduser().is_dir():
            raise Unavailable(f"{self._uri} can't be read: there is no such folder; name that of another sidecar, --data DIR")

    def _connected(self, session: Any = None) -> Any:
        return lancedb.connect(self._uri, session=session, storage_options=_PATIENCE if self._is_remote else None)

    def trouble(self) -> str:
        """Return the reason why the lease of the database is lost, after which nothing is written; empty while it is ours."""
        return self._lease.trouble() if self._lease else ""

    def check_owner(self) -> None:
        """Raise ReadOnly for another's database, Unavailable for one that may have another owner by now."""
        if self.read_only:
            raise ReadOnly
        if self._lease:
            self._lease.check()

    def names(self) -> list[str]:
        """Return the names of all collections, sorted; raise Unavailable if the database can't be read."""
        self._check_there()
        try:
            return sorted({vector_sets.collection_of(table) for table in self._names()})
        except Exception as problem:  # LanceDB raises anything
            raise storage_problem(problem, "read") from problem

    def tables(self, name: str) -> list[str]:
        """Return the tables of a collection's sets of vectors, the oldest first."""
        return vector_sets.tables_of(name, self._names())

    def sets(self, name: str) -> Sets:
        """Return which table of a collection serves, and which is beside it; LanceDB raises Exceptions of any kind."""
        tables = self.tables(name) or [name]
        note = None if tables == [name] else vector_sets.noted(self._fresh(tables[-1]).schema)
        return vector_sets.sets_of(tables, note)

    def _check_there(self) -> None:
        """Raise Unavailable if a folder that is followed is away: LanceDB takes it for one without tables."""
        if self._followed and not (self._followed.is_dir() and (self._followed / _LOCK).exists() >= self._was_owned):
            raise Unavailable(f"{self._uri} can't be read: its folder is away")

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
        """Open the set of vectors of a collection that serves; LanceDB raises Exceptions of any kind."""
        return self.open_set(self.sets(name).serving)

    def open_set(self, table: str) -> Table:
        """Open a set of vectors; LanceDB raises Exceptions of any kind."""
        return Table(self._fresh(table), self.check_owner, reopen=partial(self._fresh, table),
                     read_only=self.read_only, grace_s=_GRACE_S if self._is_remote else 0,
                     folder=self._folder and self._folder / f"{table}.lance")  # fmt: skip

    def create_set(self, name: str, like: pa.Schema, about: About, note: SetNote) -> str:
        """Make an empty set of vectors with the columns of another one's table; return its name.

        Raises:
            Unavailable, StorageFull: it can't be made.
        """
        self.check_owner()
        try:
            table = vector_sets.following(self.tables(name), name)
            self._database.create_table(table, schema=vector_sets.schema_beside(like, about, note))
            return table
        except Exception as problem:  # LanceDB raises anything
            raise storage_problem(problem) from problem

    def _fresh(self, name: str) -> Any:
        """Return a handle of a table with caches of its own, which go with it."""
        session = lancedb.Session(self._cache_bytes, _METADATA_BYTES)
        return self._connected(session).open_table(name)

    def feedback(self, name: str, owner: str) -> FeedbackTable:
        """Return the feedback on a collection, by its table's identity; nothing is read or written yet."""
        return FeedbackTable(name, owner, self._feedback, self.check_owner, read_only=self.read_only)

    def _feedback(self, make: bool) -> Any:
        """Return the database of all feedback, made if it may be; None if it isn't there."""
        uri = f"{self._uri.rstrip('/')}/{FEEDBACK}"
        if not self._is_remote and not make and not Path(uri.removeprefix("file://")).expanduser().is_dir():
            return None
        session = lancedb.Session(CACHE_BYTES, _METADATA_BYTES)
        return lancedb.connect(uri, session=session, storage_options=_PATIENCE if self._is_remote else None)

    def drop(self, name: str) -> None:
        """Remove a collection for good, if it exists; raise Unavailable if it can't be removed."""
        serving = name
        with contextlib.suppress(Exception):  # a broken one can be dropped, too
            serving = self.sets(name).serving
        for table in sorted(self.tables(name) or [name], key=lambda table: table == serving):  # the one that serves goes last
            self.drop_set(table)

    def drop_set(self, table: str) -> None:
        """Remove a set of vectors for good, if it exists; raise Unavailable if it can't be removed."""
        self.check_owner()
        try:
            self._database.drop_table(table)
        except Exception as problem:  # LanceDB raises anything
            if not isinstance(problem, FileNotFoundError) and "was not found" not in str(problem):
                raise storage_problem(problem, "removed") from problem

    def _there(self, name: str) -> Conflict:
        return Conflict(f"collection {name} is there already: add to it, drop it, or choose another name")

    def close(self) -> None:
        """Close the database and release its lock or lease."""
        self._locks.close()
