"""Rows on their way into a table: checked values, then Arrow."""

import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from clip_client.errors import InvalidInput
from clip_client.file_names import is_text
from clip_client.spec import TOWERS, Tower
from clip_search.arrays import Floats
from clip_search.storage.kinds import checked_value
from clip_search.storage.schema import SOURCE_STATE, own_columns, tower_column

OnConflict = Literal["error", "replace", "skip"]
_MAX_ID = 2048  # paths and URLs fit


@dataclass
class NewRow:
    """Row to be added."""

    id: str  # the user's key; a random one if none was given
    vectors: dict[Tower, Floats] = field(default_factory=dict)  # float32 [D] of unit length by tower
    metadata: dict[str, Any] = field(default_factory=dict)  # the user's columns
    source: str | None = None  # path or URL that it came from
    thumbnail: bytes | None = None  # a small picture of it
    source_state: str | None = None  # what its client notes of the source
    others: dict[Tower, Floats] = field(default_factory=dict)  # vectors for the set beside the one that serves


def checked_id(value: Any) -> str:
    """Return a valid id, or a new one for None; raise InvalidInput for what can't be one."""
    if value is None:
        return uuid.uuid4().hex
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_ID or not is_text(value):
        raise InvalidInput(
            f"id is {ascii(value)[:80]}: expected a printable string of 1 to {_MAX_ID} characters, none of control"
        )
    return value


def checked_vector(values: Any, size: int) -> Floats:
    """Return a vector [size] as float32 of unit length; raise InvalidInput for another size, NaN, zeros, no numbers."""
    is_ready = isinstance(values, np.ndarray) and values.dtype == np.float32
    vector: Floats = values if is_ready else _numbers(values, size)
    flat = vector.ravel()
    norm = math.sqrt(flat.dot(flat))
    if vector.shape != (size,):
        raise InvalidInput(f"the vector has shape {list(vector.shape)}, the collection holds [{size}]: use the same model")
    if not math.isfinite(norm) or norm < 1e-12:
        raise InvalidInput("the vector has NaN, infinity or length 0: send finite numbers that have a direction")
    return np.asarray(vector / norm, np.float32)


def _numbers(values: Any, size: int) -> Floats:
    try:
        with np.errstate(over="ignore"):  # becomes infinity, which is refused
            return np.asarray(values, np.float32)
    except (TypeError, ValueError, OverflowError) as problem:
        raise InvalidInput(f"the vector isn't a list of numbers: send {size} of them") from problem


def to_arrow(rows: Sequence[NewRow], first: int, fingerprint: str, table: pa.Schema) -> pa.Table:
    """Return rows as a table of this schema, numbered from ``first``."""
    columns: dict[str, pa.Array] = {
        "id": pa.array([row.id for row in rows], pa.string()),
        "row": pa.array(np.arange(first, first + len(rows))),
        "source": pa.array([row.source for row in rows], pa.string()),
        SOURCE_STATE: pa.array([row.source_state for row in rows], pa.string()),
        "fingerprint": pa.array([fingerprint or None] * len(rows), pa.string()),
        "time": pa.array([datetime.now(timezone.utc)] * len(rows), pa.timestamp("us", "UTC")),
        "has_thumbnail": pa.array([row.thumbnail is not None for row in rows]),
        "thumbnail": pa.array([row.thumbnail for row in rows], pa.binary()),
    }
    for tower in TOWERS:
        columns[f"has_{tower}"] = pa.array([tower in row.vectors for row in rows])
        kind = table.field(tower_column(tower)).type
        columns[tower_column(tower)] = as_lists([row.vectors.get(tower) for row in rows], kind)
    for name, kind in own_columns(table).items():
        values = [checked_value(name, kind, row.metadata.get(name)) for row in rows]
        columns[name] = pa.array(values, table.field(name).type)
    return pa.table([columns[column.name] for column in table], schema=table)


def vectors_in(rows: pa.Table, tower: Tower) -> Floats:
    """Return the vectors of a tower in rows of :func:`to_arrow`, float32 [n, D], of those that have one."""
    column = rows[tower_column(tower)].combine_chunks()
    return np.asarray(column.flatten().to_numpy().reshape(-1, column.type.list_size), np.float32)  # [n * D] -> [n, D]


def as_lists(vectors: Sequence[Floats | None], kind: pa.FixedSizeListType) -> pa.Array:
    """Return vectors as Arrow's lists of a fixed size, null where there is none."""
    size = kind.list_size
    flat = np.zeros((len(vectors), size), np.float32)
    missing = np.array([vector is None for vector in vectors], bool)
    for n, vector in enumerate(vectors):
        if vector is not None:
            flat[n] = vector
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), type=kind, mask=pa.array(missing))
