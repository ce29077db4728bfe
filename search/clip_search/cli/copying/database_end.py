"""Collection of a database that no sidecar has open: a folder, or an object store."""

import contextlib
import copy
import tempfile
from collections.abc import Collection as Several
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clip_client.errors import InvalidInput, Unavailable
from clip_client.search import Row
from clip_client.spec import TOWERS
from clip_search.arrays import Floats
from clip_search.cli.copying.ends import TOGETHER, CopiedRow, Description, Written
from clip_search.collection import Collection
from clip_search.errors import cleaned
from clip_search.options import INDEXES, IndexOptions
from clip_search.storage.database import Database
from clip_search.storage.rows import NewRow
from clip_search.storage.schema import SOURCE_STATE, About, own_columns, tower_column

_UNINDEXED = IndexOptions(engine="lancedb", exact_rows=2**62)
"""The sidecar that serves it later builds its own index."""


class DatabaseEnd:
    """Collection that is read and written in place; the database is locked meanwhile.

    Args:
        uri: as LanceDB takes it.
        is_source: a database that isn't there is an error.
    """

    def __init__(self, uri: str, name: str, *, is_source: bool) -> None:
        self._name, self._stack = name, contextlib.ExitStack()
        if is_source and "://" not in uri and not Path(uri).is_dir():
            raise InvalidInput(f"{uri}: there is no such database")
        indexes = Path(uri) / INDEXES
        if "://" in uri or is_source:
            indexes = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="clipserve-copy-")))
        try:
            self._database = Database(uri, indexes)
        except Unavailable as problem:
            self._stack.close()
            raise Unavailable(f"{problem}; one that is served is named by its sidecar's address") from problem
        self._stack.callback(self._database.close)
        self._indexes = indexes
        self._opened: Collection | None = None

    def beside(self, name: str) -> "DatabaseEnd":
        """Return another collection of the same database; it is closed before this one."""
        other = copy.copy(self)
        other._name, other._opened, other._stack = name, None, contextlib.ExitStack()
        return other

    def describe(self) -> Description | None:
        if self._name not in self._database.names():
            return None
        opened = self._collection()
        return Description(opened.about.size, opened.about.fingerprint, own_columns(opened.table.schema), len(opened.table))

    def make(self, about: Description) -> None:
        self._database.create(self._name, About(about.size, about.fingerprint), about.columns)

    def ids(self) -> Iterator[list[str]]:
        table = self._collection().table
        numbers = table.numbers()
        for start in range(0, len(numbers), TOGETHER):
            part = table.get(numbers[start : start + TOGETHER].tolist(), ["id"])
            yield [part[row]["id"] for row in sorted(part)]

    def present(self, ids: Sequence[str]) -> Several[str]:
        return self._collection().present(ids)

    def get(self, ids: Sequence[str]) -> list[CopiedRow]:
        table = self._collection().table
        wanted = [name for name in table.schema.names if name not in _NOT_COPIED]
        rows = table.get(list(table.rows_of(list(ids)).values()), wanted)
        return [_copied(rows[row]) for row in sorted(rows)]

    def add(self, rows: Sequence[CopiedRow], about: Description, *, replace: bool) -> Written:
        new = [
            NewRow(row.id, dict(row.vectors), dict(row.metadata), row.source, row.thumbnail, row.source_state) for row in rows
        ]
        try:
            on_conflict: Any = "replace" if replace else "skip"
            more: dict[str, Any] = {"fingerprint": about.fingerprint, "columns": about.columns}
            added = self._collection().add(new, on_conflict=on_conflict, **more).result()
        except InvalidInput as problem:
            if not problem.errors:
                raise
            return Written(errors={rows[n].id: reason for n, reason in problem.errors.items()})
        return Written(added.added, added.replaced, dict(added.refused))

    def close(self) -> None:
        if self._opened:
            self._opened.close()
        self._stack.close()

    def _collection(self) -> Collection:
        if self._opened is None:
            try:
                table = self._database.open(self._name)
                self._opened = Collection(self._name, table, self._indexes / self._name, _UNINDEXED, _no_texts)
            except Exception as problem:  # LanceDB raises anything
                raise Unavailable(
                    f"collection {self._name} can't be opened ({cleaned(problem)}): look at its disk"
                ) from problem
        return self._opened


_NOT_COPIED = {"row", "time", "fingerprint", *(f"has_{what}" for what in (*TOWERS, "thumbnail"))}


def _copied(values: dict[str, Any]) -> CopiedRow:
    vectors: dict[Any, Floats] = {}
    for tower in TOWERS:
        if (vector := values.pop(tower_column(tower))) is not None:
            vectors[tower] = np.array(vector, np.float32)
    id, source, thumbnail = (values.pop(name) for name in ("id", "source", "thumbnail"))
    state = values.pop(SOURCE_STATE, None)
    metadata = Row(metadata={name: value for name, value in values.items() if value is not None}).to_json()["metadata"]
    return CopiedRow(id, vectors, metadata, source, state, thumbnail)


def _no_texts(count: int, space: str, size: int) -> tuple[Floats, Any]:
    return np.empty((0, size), np.float32), "vectors"
