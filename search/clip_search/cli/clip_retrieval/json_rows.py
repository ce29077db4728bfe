"""Rows as JSON, for sidecars that know no Arrow."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from clip_client.search import OnConflict, Row, Search
from clip_search.arrays import Floats
from clip_search.cli.commands import batches
from clip_search.imports.steps import Sent
from clip_search.imports.values import kind_for, values
from clip_search.storage.schema import RESERVED

_LOOKED_UP = 1_000  # rows, of which a sidecar tells at once
_SAME = 0.999  # least cosine of a vector and itself after an export in half precision


@dataclass(frozen=True)
class JsonRows:
    """Additions to a collection, in JSON."""

    search: Search
    collection: str
    on_conflict: OnConflict
    fingerprint: str

    def add(self, batch: pa.RecordBatch) -> Sent:
        """Add rows; raises as :meth:`Search.add`."""
        kinds = {field.name: kind_for(field.type) for field in batch.schema if field.name not in RESERVED}
        rows = _rows(batch, kinds)
        added = self.search.add(
            self.collection, rows, on_conflict=self.on_conflict, fingerprint=self.fingerprint, columns=kinds
        )
        others = self._others(rows) if added.skipped else ()
        return Sent(added.added, added.replaced, added.skipped - len(others), added.errors, others)

    def _others(self, rows: Sequence[Row]) -> tuple[int, ...]:
        """Return positions of rows whose ids belong to others: of a folder imported before, or of other programs."""
        there: dict[str, Mapping[str, Any]] = {}
        for part in batches([str(row.id) for row in rows], _LOOKED_UP):
            there |= {row["id"]: row for row in self.search.get(self.collection, part, vectors=True)}
        return tuple(n for n, row in enumerate(rows) if row.id in there and not _is_same(row, there[row.id]))


def _rows(batch: pa.RecordBatch, kinds: Mapping[str, str]) -> list[Row]:
    fixed = {name: batch[name].to_pylist() for name in batch.schema.names if name not in kinds}
    own = {name: values(batch[name], kind, Counter()) for name, kind in kinds.items()}
    none = [None] * len(batch)
    ids, images, texts, small, sources = (
        fixed.get(name, none) for name in ("id", "vector_image", "vector_text", "thumbnail", "source")
    )
    metadata = [{name: column[n] for name, column in own.items() if column[n] is not None} for n in range(len(batch))]
    return [
        Row(ids[n], vector=images[n], text_vector=texts[n], image=small[n], metadata=metadata[n], source=sources[n])
        for n in range(len(batch))
    ]


def _is_same(row: Row, there: Mapping[str, Any]) -> bool:
    """Tell if a row in the collection has the vectors of one that was sent."""
    pairs = [(row.vector, there.get("vector_image")), (row.text_vector, there.get("vector_text"))]
    return all(_are_close(ours, theirs) for ours, theirs in pairs if ours is not None)


def _are_close(ours: Any, theirs: Floats | None) -> bool:
    if theirs is None:
        return False
    a, b = np.asarray(ours, np.float64), theirs.astype(np.float64)
    return float(a @ b / math.sqrt(float(a @ a) * float(b @ b))) >= _SAME
