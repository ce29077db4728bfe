"""Search of Milvus under a filter: told to the server, or looked up among its hits; and the best of several answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from clip_search.arrays import Floats, Found, Rows, present
from clip_search.index.milvus.rows import MOST, MilvusRows
from clip_search.storage.filters.milvus import milvus_filter

_NAMED = 10_000  # rows of a filter that are named to the server
_SPARE = 4  # times as many hits as wanted are looked through for a filter that can't be told the server


@dataclass(frozen=True)
class Filter:
    """Filter as the server takes it, or the rows that it keeps, to be looked up here; neither for all rows."""

    condition: str = ""
    kept: Rows | None = None

    @classmethod
    def of(cls, where: str, schema: pa.Schema, kept: Rows | None) -> Filter:
        """Return a client's filter; ``kept`` are its rows (ascending), which are needed unless Milvus can read it."""
        condition = milvus_filter(where, schema) if where else ""
        if condition is None and kept is not None and len(kept) <= _NAMED:
            condition = f"row in {kept.tolist()}"
        return cls(condition or "", kept if condition is None else None)


def asked(milvus: MilvusRows, query: Floats, wanted: tuple[int, int], effort: int, chosen: Filter) -> Found:
    """Return the hits for a query [D]; ``wanted`` are their number, and the number of rows that may be among them in vain."""
    k, hidden = wanted
    most = k + hidden if chosen.kept is None else _SPARE * k + hidden
    scores, rows = milvus.nearest(query, min(most, MOST), effort, chosen.condition)
    if chosen.kept is not None:
        here = present(chosen.kept, rows)
        scores, rows = scores[here], rows[here]
    return scores, rows


def best(found: Sequence[Found], gone: Rows, k: int) -> Found:
    """Return the best of what was found, each row once, without those that are gone."""
    scores, rows = (np.concatenate([part[n] for part in found]) for n in (0, 1))
    order = np.argsort(-scores, kind="stable")
    scores, rows = scores[order], rows[order]
    _, first = np.unique(rows, return_index=True)
    keep = np.sort(first)
    keep = keep[~present(gone, rows[keep])][:k]
    return scores[keep].astype(np.float32), rows[keep].astype(np.int64)
