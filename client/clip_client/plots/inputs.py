"""Checks of what plots are given; each names the argument and what it takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from clip_client.errors import InvalidInput
from clip_client.type_names import a_type

Floats = npt.NDArray[np.float64]


def listed(name: str, items: Any, of: str) -> list[Any]:
    """Return the items of a list; one string isn't taken for many."""
    if isinstance(items, str | bytes) or not isinstance(items, Iterable):
        raise InvalidInput(f"{name} is {a_type(items)}: expected a list of {of}")
    return list(items)


def strings(name: str, items: Any) -> list[str]:
    """Return a list of strings."""
    rows = listed(name, items, "strings")
    for n, row in enumerate(rows):
        if not isinstance(row, str):
            raise InvalidInput(f"{name}[{n}] is {a_type(row)}: expected a string")
    return rows


def numbers(name: str, values: Any, dimensions: int, of: str) -> Floats:
    """Return float64 of so many dimensions; None and NaN stand for what isn't known."""
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError) as problem:
        raise InvalidInput(f"{name} is {a_type(values)}: expected {of} ({problem})") from problem
    if array.size == 0 and array.ndim < dimensions:
        return array.reshape((0,) * dimensions)
    if array.ndim != dimensions:
        raise InvalidInput(f"{name} has shape {list(array.shape)}: expected {of}")
    return array


def same_length(name: str, items: int, others: str, expected: int) -> None:
    """Refuse lists that don't belong together."""
    if items != expected:
        raise InvalidInput(f"{name} has {items} items, {others} has {expected}: pass as many of both")


def at_least_one(name: str, value: Any) -> int:
    """Return a count of 1 or more."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InvalidInput(f"{name} is {value!r}: expected a whole number of at least 1")
    return int(value)
