"""Engine with LanceDB's own index on disk, for collections larger than memory."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clip_client.spec import Tower
from clip_search.arrays import Floats, Found, Rows
from clip_search.options import IndexOptions
from clip_search.storage.derived_files import Sums
from clip_search.storage.table import Table


class LanceEngine:
    """Engine that searches the table itself; LanceDB compares rows without an index one by one."""

    def __init__(self, table: Table, tower: Tower, size: int, options: IndexOptions) -> None:
        self._table, self._tower, self._size, self._options = table, tower, size, options
        self._indexed = table.indexed(tower)
        self._new = 0

    def search(self, query: Floats, k: int, where: str, only: Callable[[], Rows | None], *, exactly: bool = False) -> Found:
        hits = self._table.nearest(query, self._tower, k, where, exactly=exactly)
        scores = np.array([1 - hit["_distance"] for hit in hits], np.float32)
        return scores, np.array([hit["row"] for hit in hits], np.int64)

    def size(self) -> int:
        return self._table.count(self._tower)

    def vectors(self, rows: Rows) -> Floats:
        vectors = np.zeros((len(rows), self._size), np.float32)
        by_row = self._table.vectors_of(self._tower, rows.tolist())
        for n, row in enumerate(rows.tolist()):
            vectors[n] = by_row.get(row, 0)
        return vectors

    def check_room(self) -> None:
        pass  # the table says so itself

    def append(self, rows: Rows, vectors: Floats) -> None:
        self._new += len(rows)

    def hide(self, rows: Rows) -> None:
        pass  # the table knows

    def agree(self) -> None:
        pass  # the table is what is searched

    def files(self) -> Mapping[Path, Sums]:
        return {}  # LanceDB's files are the table

    def distrust(self, path: Path, why: str) -> None:
        pass  # there are none

    def last_row(self) -> int:
        return -1

    def maintain(self, patience: int) -> bool:
        if self._indexed or self._new <= self._options.exact_rows * patience:
            return False
        self.rebuild()
        return True

    def rebuild(self) -> None:
        if self.size() > self._options.exact_rows:
            self._table.index_vectors(self._tower)
            self._indexed = True
        self._new = 0

    def discard(self) -> None:
        pass  # it goes with the table

    def stats(self) -> dict[str, Any]:
        return {"engine": "lancedb", "rows": self.size(), "indexed": self._indexed}
