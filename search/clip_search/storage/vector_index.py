"""LanceDB's own index of a tower's vectors: its build, its state, searches in it, and the note of its tuning in the table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from clip_search.arrays import Floats

_NOTE = "clipserve_tuned"  # key in the metadata of the vectors' column
BITS = (
    3,
    1,
)  # RaBitQ's bits for each number of a vector, best first; more bits mean fewer exact comparisons for the same recall
_ROW_BYTES = 24  # of a row's number and factors, beside its bits
_LIST_ROWS = 2_048  # vectors in a list; LanceDB splits one that grows to several times as many
_SAMPLE, _LEAST_SAMPLE = 256, 32  # vectors a list that k-means is trained on
_RESULT = ["row", "_distance"]  # LanceDB warns in its log, at each search, if `_distance` isn't named


@dataclass(frozen=True)
class Effort:
    """Effort of a search."""

    probes: int  # lists of the index that are read
    refine: int  # times k: candidates that are compared exactly, by the table's vectors


@dataclass(frozen=True)
class IndexState:
    """State of an index."""

    id: str  # another after each build
    kind: str
    rows: int  # that it holds
    new_rows: int  # of the table that it doesn't hold: LanceDB compares them one by one
    segments: int  # one of the build, and one for each time that new rows were taken in


def bits_for(rows: int, size: int, memory_bytes: int) -> int:
    """Return the bits with which an index of vectors [rows, size] takes half of the memory at most, else the fewest."""
    return next((bits for bits in BITS if 2 * rows * (_ROW_BYTES + bits * size // 8) <= memory_bytes), BITS[-1])


def sample_rate(rows: int, size: int, memory_bytes: int) -> int:
    """Return the number of vectors a list to train k-means on: LanceDB's own, or as many as an eighth of the memory holds."""
    lists = max(1, rows // _LIST_ROWS)
    return max(_LEAST_SAMPLE, min(_SAMPLE, memory_bytes // 8 // (4 * size * lists)))


def build(table: Any, column: str, bits: int, sample: int) -> None:
    """Build the index of a column anew, through LanceDB's handle; ``sample`` vectors a list train it."""
    import lancedb.index

    config = lancedb.index.IvfRq(distance_type="cosine", num_bits=bits, sample_rate=sample, target_partition_size=_LIST_ROWS)
    table.create_index(column, config=config)


def state(table: Any, column: str) -> IndexState | None:
    """Return the state of a column's index; None if there is none."""
    for index in table.list_indices():
        if column in index.columns:
            rows, new = int(index.num_indexed_rows or 0), int(index.num_unindexed_rows or 0)
            return IndexState(str(index.index_uuid), index.index_type, rows, new, int(index.num_segments or 1))
    return None


def prepared(table: Any, column: str, query: Floats, effort: Effort | None) -> Any:
    """Return LanceDB's search for a vector [D], by cosine; through the index with an effort, exact without."""
    search = table.search(query, vector_column_name=column).distance_type("cosine").select(_RESULT)
    if effort is None:
        return search.bypass_vector_index()
    return search.nprobes(effort.probes).refine_factor(effort.refine)


def noted(schema: pa.Schema, column: str) -> dict[str, Any]:
    """Return the note of a column's tuning; empty if there is none that can be read."""
    try:
        note = json.loads((schema.field(column).metadata or {})[_NOTE.encode()])
    except (KeyError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def note(column: str, content: dict[str, Any]) -> dict[str, Any]:
    """Return the change of a column's metadata that :func:`noted` reads."""
    return {"path": column, "metadata": {_NOTE: json.dumps(content)}}
