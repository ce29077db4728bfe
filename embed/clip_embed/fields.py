"""Own columns of items that come as objects: JSON beside pictures, lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from clip_client.embedded_files import THUMBNAIL

OTHER = "other_fields"
"""Column of JSON texts with the fields that the first items don't have, or have in another type."""

RESERVED = ("image_path", "caption", "image", "text", THUMBNAIL)
"""Columns of outputs; an own one of such a name gets a ``_`` behind it."""

Fields = Mapping[str, Any]

_TYPES: dict[type, pa.DataType] = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}


def schema_of(items: Iterable[Fields], taken: Sequence[str] = ()) -> pa.Schema:
    """Return the schema of objects that were seen: a column for each name, strings of JSON for lists, objects and mixtures.

    Args:
        items: the first of them; :data:`OTHER` keeps what differs later.
        taken: names of other columns; a field of such a name gets a ``_`` behind it.
    """
    types: dict[str, pa.DataType] = {}
    for fields in items:
        for name, value in fields.items():
            if value is not None and is_unicode(name):
                own = _TYPES.get(type(value), pa.string())
                types[name] = _common(types.get(name, own), own)
    own_fields: list[pa.Field] = []
    for name, kind in types.items():
        free = name if name not in (*taken, OTHER) else free_name(name, (*taken, *types, *(own.name for own in own_fields)))
        own_fields.append(pa.field(free, kind, metadata={"field": name}))
    return pa.schema([*own_fields, pa.field(OTHER, pa.string())]) if types else pa.schema([])


def batch_of(items: Sequence[Fields], schema: pa.Schema) -> pa.RecordBatch:
    """Return objects as a batch of the schema; raise nothing: what doesn't fit goes to :data:`OTHER`."""
    columns: dict[str, list[Any]] = {field.name: [] for field in schema}
    names = {
        (field.metadata or {}).get(b"field", field.name.encode()).decode(): field for field in schema if field.name != OTHER
    }
    for fields in items:
        rest = {name: value for name, value in fields.items() if value is not None}
        for name, column in names.items():
            fits, value = _fitted(rest.get(name), column.type)
            columns[column.name].append(value)
            if fits:
                rest.pop(name, None)
        if OTHER in columns:
            columns[OTHER].append(_json(rest) if rest else None)
    if not columns:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * len(items), pa.struct([])))
    arrays = [pa.array(columns[field.name], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def free_name(name: str, taken: Sequence[str]) -> str:
    """Return a name that isn't taken: itself, or with ``_`` behind it."""
    while name in taken or name == OTHER:
        name += "_"
    return name


def _common(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    if first == second:
        return first
    return pa.float64() if {first, second} == {pa.int64(), pa.float64()} else pa.string()


def _fitted(value: Any, kind: pa.DataType) -> tuple[bool, Any]:
    """Tell if a value fits a type, and return it as that."""
    if value is None:
        return True, None
    if kind == pa.string():
        text = value if isinstance(value, str) else _json(value)
        return is_unicode(text), text if is_unicode(text) else None
    if kind == pa.float64() and type(value) in (int, float):
        return True, float(value)
    if kind == pa.int64():
        fits = type(value) is int and -(2**63) <= value < 2**63
        return fits, value if fits else None
    return type(value) is bool, value if type(value) is bool else None


def _json(value: Any) -> str:
    return json.dumps(value, default=str)


def is_unicode(text: str) -> bool:
    """Tell if a text can be stored: it has no lone half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
