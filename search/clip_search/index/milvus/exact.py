"""Exact search through a table's vectors, batch by batch: for what Milvus can't answer, and to measure what it does."""

from collections.abc import Iterator

import numpy as np

from clip_client.spec import Tower
from clip_search.arrays import Floats, Found, Positions, Rows, present
from clip_search.index.faiss_index import nearest
from clip_search.storage.table import Table

_FEW = 1_000  # rows that are read one by one


def exact(table: Table, tower: Tower, query: Floats, k: int, only: Rows | None, last: int) -> Found:
    """Return the nearest to a query [D] of all rows up to ``last``, or of ``only`` (ascending)."""
    scores, rows = np.empty(0, np.float32), np.empty(0, np.int64)
    only = only if only is None else only[only <= last]
    for numbers, vectors in _batches(table, tower, only, last):
        here, best = nearest(query, np.ascontiguousarray(vectors), k)
        scores, rows = np.concatenate([scores, here]), np.concatenate([rows, numbers[best]])
        order = np.argsort(-scores, kind="stable")[:k]
        scores, rows = scores[order], rows[order]
    return scores, rows


def exact_of_many(table: Table, tower: Tower, queries: Floats, k: int, last: int) -> Positions:
    """Return the nearest rows to queries [Q, D] up to row ``last``, int64 [Q, k]."""
    scores, rows = np.full((len(queries), k), -np.inf, np.float32), np.full((len(queries), k), -1, np.int64)
    for numbers, vectors in table.vectors(tower, 0, last):
        scores = np.concatenate([scores, queries @ vectors.T], 1)
        rows = np.concatenate([rows, np.broadcast_to(numbers, (len(queries), len(numbers)))], 1)
        best = np.argpartition(-scores, k - 1, 1)[:, :k]
        scores, rows = np.take_along_axis(scores, best, 1), np.take_along_axis(rows, best, 1)
    return rows


def _batches(table: Table, tower: Tower, only: Rows | None, last: int) -> Iterator[tuple[Rows, Floats]]:
    if only is None:
        yield from table.vectors(tower, 0, last)
    elif len(only) <= _FEW:
        if by_row := table.vectors_of(tower, only.tolist()):
            yield np.array(list(by_row), np.int64), np.stack(list(by_row.values()))
    else:
        for rows, vectors in table.vectors(tower, int(only[0]), int(only[-1])):
            if (here := present(only, rows)).any():
                yield rows[here], vectors[here]
