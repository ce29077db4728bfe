"""Lists of items in the forms that callers have: anything that can be iterated over, but for what would give its names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from clip_client.errors import InvalidInput
from clip_client.type_names import a_type


def iterable(items: Any, name: str, expected: str) -> Iterable[Any]:
    """Return what gives the items, one after the other.

    Args:
        name: of the argument, in messages.
        expected: there, too.

    Raises:
        InvalidInput: it can't be iterated over, or would give the names of its columns or keys instead of what they hold.
    """
    if isinstance(items, Mapping) or (hasattr(items, "columns") and hasattr(items, "shape")):  # a table of pandas, say
        raise InvalidInput(f"{name} can't be {a_type(items)}: expected {expected}; pass a column, or its values")
    if hasattr(items, "to_pylist"):  # a column of Arrow, whose own items are scalars of Arrow
        return list(items.to_pylist())
    if not isinstance(items, Iterable) or getattr(items, "ndim", 1) == 0:
        raise InvalidInput(f"{name} can't be {a_type(items)}: expected {expected}")
    return items
