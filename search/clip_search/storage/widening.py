"""Int columns of a LanceDB table made float; LanceDB itself casts no further than from one size of integers to another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_NEW, _OLD = "widened ", "before "
"""Prefixes that no column of a user's has: their names have no blanks."""


def widen(table: Any, columns: Sequence[str]) -> None:
    """Write the columns again as floats and let them take the old ones' names in one commit, so that no read misses them."""
    finish_widening(table)  # one that failed, of a full disk say, may have left its columns
    table.add_columns({_NEW + name: f"cast({name} as double)" for name in columns})
    table.alter_columns(*({"path": name, "rename": _OLD + name} for name in columns),
                        *({"path": _NEW + name, "rename": name} for name in columns))  # fmt: skip
    finish_widening(table)


def finish_widening(table: Any) -> None:
    """Drop the columns that :func:`widen` needs no more; after a crash in it, those that are left."""
    left = [name for name in table.schema.names if name.startswith((_NEW, _OLD))]
    if left:
        table.drop_columns(left)
