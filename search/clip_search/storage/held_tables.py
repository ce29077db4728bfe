"""Tables of a database as a backup takes them: a version that stays while it is copied, its rows, another identity."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import time
from typing import Any

import lancedb

from clip_client.errors import ClipError, InvalidInput, Unavailable
from clip_search.errors import cleaned
from clip_search.storage.schema import identity, new_identity

_TAG = "clipserve-backup-"
_OLD_S = 2 * 24 * 3600.0  # a tag of this age is left over from a backup that was killed


class Pinned:
    """Newest version of a table, held by a tag until it is closed: its owner compacts around it."""

    def __init__(self, uri: str, name: str) -> None:
        self.told_rows = self.rows = 0  # as its manifest tells them, and as LanceDB reads them
        self.ids = ""
        self.name, self._tag = name, f"{_TAG}{int(time.time())}-{secrets.token_hex(4)}"
        self._table = opened(uri, name)
        try:
            self.version = int(self._table.version)
            self.identity = identity(self._table.schema) or name
            self._drop_old_tags()
            self._table.tags.create(self._tag, self.version)
            self._table.checkout(self.version)
        except Exception as problem:  # LanceDB raises anything
            self.close()
            raise Unavailable(f"collection {name} can't be read ({cleaned(problem)}): try again") from problem

    def count(self) -> None:
        """Read the ids of all rows; raise Unavailable unless they are as many as the manifest tells."""
        try:
            self.rows, self.ids = rows_and_ids(self._table)
        except Exception as problem:  # LanceDB raises anything
            raise Unavailable(f"collection {self.name} can't be read ({cleaned(problem)}): try again") from problem
        if self.rows != self.told_rows:
            raise Unavailable(f"collection {self.name}: its manifest tells {self.told_rows:,} rows, LanceDB {self.rows:,}")

    def close(self) -> None:
        """Let go of the version."""
        with contextlib.suppress(Exception):  # it may be gone with its table
            self._table.tags.delete(self._tag)

    def _drop_old_tags(self) -> None:
        for tag in self._table.tags.list():
            made = tag.removeprefix(_TAG).partition("-")[0]
            if tag.startswith(_TAG) and made.isdigit() and time.time() - int(made) > _OLD_S:
                with contextlib.suppress(Exception):  # another backup drops it, too
                    self._table.tags.delete(tag)


def names(uri: str) -> list[str]:
    """Return the names of a database's tables."""
    database, names = lancedb.connect(uri), []
    page = database.list_tables()
    names += page.tables
    while page.page_token:
        page = database.list_tables(page_token=page.page_token)
        names += page.tables
    return sorted(names)


def opened(uri: str, name: str) -> Any:
    """Return LanceDB's handle of a table; raise Unavailable if it can't be opened."""
    try:
        return lancedb.connect(uri).open_table(name)
    except Exception as problem:  # LanceDB raises anything
        raise Unavailable(f"collection {name} can't be opened ({cleaned(problem)}): look at its files") from problem


def rows_and_ids(table: Any) -> tuple[int, str]:
    """Return the number of rows, and a digest of their ids that doesn't depend on their order; empty for a table without."""
    if "id" not in table.schema.names:
        return int(table.count_rows()), ""
    rows = total = 0
    for batch in table.search().select(["id"]).limit(None).to_batches(65_536):
        for id in batch["id"].to_pylist():
            total += int.from_bytes(hashlib.blake2b(str(id).encode(), digest_size=16).digest(), "big")
        rows += batch.num_rows
    return rows, f"{total % 2**128:032x}"


def check(table: Any, name: str, rows: int, ids: str) -> None:
    """Raise InvalidInput unless a table has these rows."""
    there = rows_and_ids(table)
    if there != (rows, ids):
        raise InvalidInput(f"collection {name} has {there[0]:,} rows, not the {rows:,} of the backup: restore another snapshot")


def read_all(table: Any, name: str) -> None:
    """Read every value of a table; raise Unavailable if one can't be read."""
    try:
        for _ in table.search().limit(None).to_batches(1_024):
            pass
    except Exception as problem:  # LanceDB raises anything
        raise Unavailable(f"collection {name} can't be read ({cleaned(problem)}): restore another snapshot") from problem


def part_from_original(table: Any) -> None:
    """Give a restored table an identity of its own: what was derived from the original isn't derived from it."""
    if "row" not in table.schema.names:
        return
    try:
        table.update_field_metadata(new_identity())
    except ClipError:
        raise
    except Exception as problem:  # LanceDB raises anything
        raise Unavailable(f"the table can't be written ({cleaned(problem)}): look at the disk, then run it again") from problem
