"""The LanceDB database: collections by name, and one owner of it at a time."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lancedb

from clip_client.errors import Unavailable
from clip_search.errors import Conflict, storage_problem
from clip_search.schema import About, check_collection, schema
from clip_search.table import Table


class Store:
    """A folder or an object store with a table per collection.

    Args:
        uri: as LanceDB takes it.
        lock_folder: local folder for a lock, so that no second sidecar changes the same database.

    Raises:
        Unavailable: another sidecar has it, or it can't be opened.
    """

    def __init__(self, uri: str, lock_folder: Path) -> None:
        try:
            lock_folder.mkdir(parents=True, exist_ok=True)
            self._lock = (lock_folder / "lock").open("a")
            self._database: Any = lancedb.connect(uri)
        except Exception as problem:  # LanceDB raises anything
            raise Unavailable(f"{uri} can't be opened ({problem}): name a folder that can be written, --data DIR") from problem
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            raise Unavailable(f"{uri} is in use by another sidecar: stop that one, or pass another --data") from problem

    def names(self) -> list[str]:
        """All collections, sorted."""
        page = self._database.list_tables()
        names = list(page.tables)
        while page.page_token:
            page = self._database.list_tables(page_token=page.page_token)
            names += page.tables
        return sorted(names)

    def create(self, name: str, about: About, columns: Mapping[str, str]) -> Table:
        """Make an empty collection.

        Raises:
            InvalidInput: the name or a column can't be used.
            Conflict: it is there already.
        """
        if check_collection(name) in self.names():
            raise Conflict(f"collection {name} is there already: add to it, drop it, or choose another name")
        wanted = schema(about, columns)
        try:
            return Table(self._database.create_table(name, schema=wanted))
        except Exception as problem:  # LanceDB raises anything
            if "already exists" in str(problem):  # somebody else made it this instant
                raise Conflict(f"collection {name} is there already: add to it, drop it, or choose another name") from problem
            raise storage_problem(problem) from problem

    def open(self, name: str) -> Table:
        """Open a collection.

        Raises:
            Exception: LanceDB's, of any kind.
        """
        return Table(self._database.open_table(name))

    def drop(self, name: str) -> None:
        """Remove a collection for good."""
        with contextlib.suppress(FileNotFoundError):
            self._database.drop_table(name)

    def close(self) -> None:
        """Let go of the database."""
        self._lock.close()
