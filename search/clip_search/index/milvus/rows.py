"""Rows of one tower in a collection of Milvus: their numbers, vectors and filterable columns."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from clip_client.errors import Unavailable
from clip_search.arrays import Floats, Found, Positions, Rows
from clip_search.index.milvus import server
from clip_search.options import MilvusOptions

MOST = 16_384
"""Most hits that Milvus gives, and the most rows of a query."""
_READ_S, _WRITE_S, _SLOW_S = 10.0, 60.0, 300.0
_BATCH_BYTES = 8 * 2**20  # Milvus and gRPC take 64 MB; its queue copes better with less
_ROW_BYTES = 1_024  # guess at a row's columns
_LISTED = 100_000  # row numbers that are asked for at once
_UNINDEXED = 1_024  # rows of a segment below which Milvus makes no index: they are compared one by one
_NAMED = 5_000  # rows in one deletion
_POLL_S = 0.5
_LINKS, _CANDIDATES = 16, 128
_METRIC = "IP"  # of vectors of unit length: the cosine
_RECENT = "Bounded"
"""Searches see all that is 5 s old, without a wait of 200 ms and more for what is newer: the engine has that in memory."""
_Out = TypeVar("_Out")


class MilvusRows:
    """One collection, made with its first row; each method has a deadline and raises Unavailable.

    Args:
        name: the collection's name in Milvus.
        table: identity of the table that it is derived from.
        size: D.
    """

    def __init__(self, options: MilvusOptions, name: str, table: str, size: int) -> None:
        self.name, self._options, self._table, self._size = name, options, table, size
        self._client: Any = None
        self._is_made = False

    def open(self) -> None:
        """Connect anew, and load the collection if it is there."""
        self.close()
        self._client = server.client(self._options)
        self._is_made = self._ask(self._client.has_collection, self.name)
        if self._is_made:
            self._check(self._ask(self._client.describe_collection, self.name))
            self._ask(self._client.load_collection, self.name, timeout_s=_SLOW_S)

    def close(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def numbers(self, last: int) -> Rows:
        """Return all rows, ascending; it looks up to ``last`` in steps, and for what is beyond at once."""
        steps = [f"row >= {first} and row < {first + _LISTED}" for first in range(0, last + 1, _LISTED) if self._is_made]
        found = [self._query(step) for step in [*steps, f"row > {last}"]]
        return np.unique(np.concatenate(found))

    def there(self, rows: Rows) -> Rows:
        """Return which of some rows are there."""
        return np.unique(np.concatenate([np.empty(0, np.int64), *(self._query(_among(part)) for part in _parts(rows))]))

    def vectors(self, rows: Rows) -> dict[int, Floats]:
        """Return vectors of rows, by row."""
        more: dict[str, Any] = {"filter": _among(rows), "output_fields": ["row", "vector"], "consistency_level": "Strong"}
        return {one["row"]: np.asarray(one["vector"], np.float32) for one in self._ask(self._client.query, self.name, **more)}

    def put(self, rows: Rows, vectors: Floats, columns: Sequence[Mapping[str, Any]], *, anew: bool) -> None:
        """Store rows; ``anew`` for rows that may be there already."""
        if not self._is_made:
            self._make()
        step = max(1, _BATCH_BYTES // (4 * self._size + _ROW_BYTES))
        send = self._client.upsert if anew else self._client.insert
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            sent = zip(rows[part].tolist(), vectors[part], columns[part], strict=True)
            self._ask(send, self.name, [{**own, "row": row, "vector": vector} for row, vector, own in sent], timeout_s=_WRITE_S)

    def remove(self, rows: Rows) -> None:
        """Delete rows."""
        for part in _parts(rows) if self._is_made else ():
            self._ask(self._client.delete, self.name, filter=_among(part), timeout_s=_WRITE_S)

    def nearest(self, query: Floats, k: int, effort: int, condition: str) -> Found:
        """Return the nearest to a query [D] of those that a condition keeps."""
        (hits,) = self._searched(query[None], k, effort, condition)
        return np.array([hit["distance"] for hit in hits], np.float32), np.array([hit["id"] for hit in hits], np.int64)

    def nearest_of_many(self, queries: Floats, k: int, effort: int) -> Positions:
        """Return the nearest rows to queries [Q, D], int64 [Q, k]; -1 where there are fewer."""
        found = np.full((len(queries), k), -1, np.int64)
        for n, hits in enumerate(self._searched(queries, k, effort, "")):
            found[n, : len(hits)] = [hit["id"] for hit in hits]
        return found

    def seal(self) -> None:
        """Have all rows that were sent written and indexed soon."""
        if self._is_made:
            self._ask(self._client.flush, self.name, timeout_s=_SLOW_S)

    def is_settled(self) -> bool:
        """Tell if all that was sealed is searched through its index."""
        if not self._is_made:
            return True
        about = self._ask(self._client.describe_index, self.name, "vector")
        if not about or about.get("pending_index_rows", 0):
            return False
        loaded = self._ask(self._client.list_loaded_segments, self.name)
        indexed = sum(int(one.num_rows) for one in loaded if one.index_name or one.num_rows < _UNINDEXED)
        return indexed >= int(about.get("total_rows", 0))

    def settle(self, limit_s: float) -> None:
        """Seal, and wait until all that was sent is searched through its index."""
        deadline = time.monotonic() + limit_s
        self.seal()
        while not self.is_settled():
            if time.monotonic() > deadline:
                raise Unavailable(f"Milvus hasn't indexed the rows in {limit_s:.0f} s: it goes on, look at its log")
            time.sleep(_POLL_S)

    def drop(self) -> None:
        """Remove the collection."""
        if self._is_made:
            self._ask(self._client.drop_collection, self.name, timeout_s=_WRITE_S)
        self._is_made = False

    def _searched(self, queries: Floats, k: int, effort: int, condition: str) -> Any:
        if not self._is_made:
            return [[]] * len(queries)
        effort = min(max(effort, k), 2 * MOST)
        return self._ask(
            self._client.search, self.name, list(queries), limit=k, filter=condition,
            search_params={"metric_type": _METRIC, "params": {"ef": effort}}, consistency_level=_RECENT,
        )  # fmt: skip

    def _query(self, condition: str) -> Rows:
        if not self._is_made:
            return np.empty(0, np.int64)
        more: dict[str, Any] = {"filter": condition, "output_fields": ["row"], "consistency_level": "Strong"}
        return np.array([one["row"] for one in self._ask(self._client.query, self.name, **more)], np.int64)

    def _make(self) -> None:
        import pymilvus

        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=True, description=self._about())
        schema.add_field("row", pymilvus.DataType.INT64, is_primary=True)
        schema.add_field("vector", pymilvus.DataType.FLOAT_VECTOR, dim=self._size)
        index = self._client.prepare_index_params()
        graph = {"M": _LINKS, "efConstruction": _CANDIDATES}
        index.add_index("vector", index_type="HNSW", metric_type=_METRIC, params=graph)
        more: dict[str, Any] = {"schema": schema, "index_params": index, "consistency_level": "Session"}
        self._ask(self._client.create_collection, self.name, timeout_s=_WRITE_S, **more)
        self._is_made = True

    def _about(self) -> str:
        return json.dumps({"clipserve": 1, "table": self._table, "size": self._size})

    def _check(self, found: Mapping[str, Any]) -> None:
        """Refuse somebody else's collection of the same name."""
        if found.get("description") != self._about():
            raise Unavailable(
                f"collection {self.name} in Milvus at {server.shown(self._options)} wasn't made for these rows: name another "
                "database of Milvus, --milvus-uri http://HOST:19530/DATABASE, or remove it there"
            )

    def _ask(self, function: Callable[..., _Out], *arguments: Any, timeout_s: float = _READ_S, **more: Any) -> _Out:
        return server.call(self._options, function, *arguments, timeout_s=timeout_s, **more)


def _parts(rows: Rows) -> list[Rows]:
    return [rows[start : start + _NAMED] for start in range(0, len(rows), _NAMED)]


def _among(rows: Rows) -> str:
    return f"row in {rows.tolist()}"
