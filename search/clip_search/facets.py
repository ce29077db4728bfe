"""Facets of a collection's columns: the most frequent values of texts, the range of numbers and times."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clip_client.errors import InvalidInput, Timeout
from clip_search.arrays import Rows
from clip_search.collection import Collection
from clip_search.row_order import shuffled
from clip_search.storage.kinds import kind_of
from clip_search.storage.schema import HEAVY, own_columns, unknown_column

MOST_ROWS = 100_000  # counted, each column in some ten milliseconds
MOST_VALUES = 20
_LONGEST = 256  # characters of a value that is named: nobody picks a longer one
_MOST_TEXT = 64 * 2**20  # bytes of a column whose values are counted
_TIME_S = 10.0  # for all columns
_ORDERED = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_timestamp, pa.types.is_date)


def facets(collection: Collection, where: str, columns: Sequence[str]) -> dict[str, Any]:
    """Return facets by column of the rows that a filter keeps, ready for JSON; of 100,000 of them if they are more.

    Args:
        columns: the user's own if empty.

    Raises:
        InvalidInput: a filter or a column that can't be used.
        Timeout: there are too many columns.
    """
    names = _checked(collection, columns)
    rows = collection.matching(where)
    sample = _sample(rows)
    deadline = time.monotonic() + _TIME_S
    counted: dict[str, Any] = {}
    for name in names:
        counted[name] = _facet(collection, name, sample)
        if time.monotonic() > deadline and len(counted) < len(names):
            raise Timeout(f"{len(counted)} of {len(names)} columns took {_TIME_S:g} s: name some, columns={names[0]}")
    sampled = {"sampled": True} if len(sample) < len(rows) else {}
    return {"rows": len(rows), **sampled, "facets": counted}


def _checked(collection: Collection, columns: Sequence[str]) -> list[str]:
    schema = collection.table.schema
    for name in columns:
        if name not in schema.names or name in HEAVY:
            raise InvalidInput(f"columns: {unknown_column(name, schema)}")
    return list(dict.fromkeys(columns)) or list(own_columns(schema))


def _sample(rows: Rows) -> Rows:
    """Return the rows to count, ascending: all, or the same ones drawn each time."""
    return rows if len(rows) <= MOST_ROWS else np.sort(rows[shuffled(rows, 0)[:MOST_ROWS]])


def _facet(collection: Collection, name: str, rows: Rows) -> dict[str, Any]:
    kind = collection.table.schema.field(name).type
    if collection.cards.mean_bytes(name) * len(rows) > _MOST_TEXT:
        missing = np.intersect1d(collection.table.numbers(f"`{name}` IS NULL"), rows)
        return {"kind": kind_of(kind), "missing": len(missing), "values": [], "more": True}
    column = collection.cards.table([name], rows)[name].cast(kind).combine_chunks()
    return {"kind": kind_of(kind), "missing": column.null_count, **_content(column)}


def _content(column: pa.Array) -> dict[str, Any]:
    """Return what there is to say of a column's values; nothing of kinds that can be neither counted nor ordered."""
    parents: Rows = np.arange(len(column))
    if pa.types.is_list(column.type):
        parents, column = pc.list_parent_indices(column).to_numpy(), pc.list_flatten(column)
    if pa.types.is_string(column.type) or pa.types.is_boolean(column.type):
        return _values(column, parents)
    if any(is_kind(column.type) for is_kind in _ORDERED):
        return pc.min_max(column).as_py()  # type: ignore[no-any-return]
    return {}


def _values(column: pa.Array, parents: Rows) -> dict[str, Any]:
    """Return the most frequent values with the number of rows that have them; a row's list counts a value once."""
    encoded = column.dictionary_encode()
    names, codes = encoded.dictionary, encoded.indices.drop_null().to_numpy()
    count = max(len(names), 1)
    pairs = np.unique(parents[column.is_valid().to_numpy(zero_copy_only=False)] * count + codes)
    rows = np.bincount(pairs % count, minlength=count)
    frequent = [(names[n].as_py(), int(rows[n])) for n in np.argsort(-rows, kind="stable")[: 4 * MOST_VALUES] if rows[n]]
    values = [{"value": name, "rows": number} for name, number in frequent if len(str(name)) <= _LONGEST][:MOST_VALUES]
    return {"values": values, "more": len(values) < len(names)}
