"""Rows copied from another row: a moved file keeps its vectors, thumbnail and user's columns."""

from collections.abc import Collection as Several
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np

from clip_client.spec import TOWERS, Tower
from clip_search.collection import Collection
from clip_search.errors import NotFound
from clip_search.storage.kinds import for_json
from clip_search.storage.rows import NewRow
from clip_search.storage.schema import SOURCE_STATE, own_columns, tower_column


def completed(row: NewRow, collection: Collection, same_as: str, embedded: Several[Tower]) -> NewRow:
    """Return a row completed from another one.

    Args:
        row: what is given; a column of None stays empty.
        collection: that both are in.
        same_as: id of the other row.
        embedded: towers whose vector is made anew.

    Raises:
        NotFound: no such row.
    """
    number = collection.row_of(same_as)
    schema = collection.table.schema
    own = own_columns(schema)
    fixed = [name for name in ("source", "thumbnail", SOURCE_STATE, *map(tower_column, TOWERS)) if name in schema.names]
    values = collection.table.get([number], [*fixed, *own]).get(number)
    if values is None:
        raise NotFound(f"no row {same_as!r} in collection {collection.name} any more: send its picture")
    for tower in TOWERS:
        vector = values[tower_column(tower)]
        if vector is not None and tower not in embedded:
            row.vectors.setdefault(tower, np.asarray(vector, np.float32))
    for tower, vector in (collection.commits.beside.copied(number) if collection.commits.beside else {}).items():
        if tower not in embedded:
            row.others.setdefault(tower, vector)
    kept = {name: _as_sent(values[name]) for name in own if values[name] is not None}
    row.metadata = {**kept, **row.metadata}
    row.source = row.source or values["source"]
    row.thumbnail = values["thumbnail"]
    row.source_state = row.source_state or values.get(SOURCE_STATE)
    return row


def _as_sent(value: Any) -> Any:
    """Return a column's value in the form in which clients send it."""
    if isinstance(value, date):  # also a datetime
        return value.isoformat()
    return for_json(value) if isinstance(value, bytes | Decimal) else value
