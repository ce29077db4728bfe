"""Conversion of int columns to float; LanceDB itself casts from one size of integers to another at most."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

_NEW, _OLD = "widened ", "before "  # prefixes of temporary columns: no user's column has a blank in its name


def widen(table: Any, columns: Sequence[str]) -> None:
    """Write the columns again as floats and swap the names in one commit, so that no read misses them."""
    finish_widening(table)  # one that failed, of a full disk say, may have left its columns
    table.add_columns({_NEW + name: f"cast({name} as double)" for name in columns})
    table.alter_columns(*({"path": name, "rename": _OLD + name} for name in columns),
                        *({"path": _NEW + name, "rename": name} for name in columns))  # fmt: skip
    finish_widening(table)


def finish_widening(table: Any) -> None:
    """Drop the old columns after :func:`widen`, or after a crash in it."""
    left = [name for name in table.schema.names if name.startswith((_NEW, _OLD))]
    if left:
        table.drop_columns(left)


def whole(schema: pa.Schema) -> pa.Schema:
    """Return a schema without the columns that another process is still widening."""
    kept = [field for field in schema if not field.name.startswith((_NEW, _OLD))]
    return schema if len(kept) == len(schema) else pa.schema(kept, schema.metadata)
