"""Fields of pictures as metadata: names and values that a collection's columns take, and a reason for each that they don't."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from clip_client.errors import InvalidInput
from clip_search.schema import MAX_COLUMNS, RESERVED, column_type

_PLAIN: dict[type, str] = {bool: "bool", int: "int", float: "float", str: "string"}
_UNFIT = re.compile(r"[^A-Za-z0-9_]")
_LONGEST_NAME = 64
_OWN = "own_"
"""In front of a field that is called as one of the sidecar's own columns."""

Note = Callable[[str], None]


class Fields:
    """Columns of a collection, those included that its next rows bring; what doesn't fit is noted and left away.

    Args:
        columns: kinds by name of the columns that are there.
    """

    def __init__(self, columns: Mapping[str, str]) -> None:
        self._there = dict(columns)
        self._new: dict[str, str] = {}
        self._by_lower = {name.lower(): name for name in columns}  # filters don't tell capitals apart

    def take(self, fields: Mapping[str, Any], note: Note) -> dict[str, Any]:
        """Return what can be kept of a picture's fields; each other one is passed to ``note`` with its reason."""
        kept: dict[str, Any] = {}
        for name, value in fields.items():
            try:
                column = self._column(name)
                if column in kept:
                    raise InvalidInput(f"comes to column {column} as another field does: rename one")
                found = self._value(column, value)
            except InvalidInput as problem:
                note(f"{str(name)[:80]!r} {problem}")
                continue
            if found is not None:
                kept[column] = found
        return kept

    def typed(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Return metadata with whole numbers as floats in new columns that hold both."""
        return {name: float(value) if self._is_mixed(name, value) else value for name, value in metadata.items()}

    def _is_mixed(self, name: str, value: Any) -> bool:
        return self._new.get(name) == "float" and type(value) is int

    def _column(self, name: Any) -> str:
        """The column of a field, by a name that SQL can have."""
        fitted = _UNFIT.sub("_", str(name))[:_LONGEST_NAME]
        fitted = f"_{fitted}"[:_LONGEST_NAME] if fitted[:1].isdigit() else fitted
        if fitted.lower() in RESERVED:
            fitted = _OWN + fitted
        fitted = self._by_lower.get(fitted.lower(), fitted)
        if fitted not in self._there:
            column_type(fitted, "string")
        return fitted

    def _value(self, column: str, value: Any) -> Any:
        value = _sendable(value)
        if value is None:
            return None
        kind = self._there.get(column) or self._new.get(column)
        if kind and kind.startswith("list<"):
            return value if isinstance(value, list) else [value]
        value = json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
        own = _PLAIN[type(value)]
        if kind is None:
            self._begin(column, own)
        elif {kind, own} == {"int", "float"}:
            self._widen(column)
        elif kind != own and kind in _PLAIN.values():
            raise InvalidInput(f"is {str(value)[:80]!r}, the column holds {kind}: correct it, or rename it")
        return value

    def _begin(self, column: str, kind: str) -> None:
        if len(self._there) + len(self._new) + len(RESERVED) >= MAX_COLUMNS:
            raise InvalidInput(f"would be one column too many: {MAX_COLUMNS} are kept")
        self._new[column] = kind
        self._by_lower[column.lower()] = column

    def _widen(self, column: str) -> None:
        if column in self._new:
            self._new[column] = "float"


def _sendable(value: Any) -> Any:
    """A value as JSON has it: scalars, and lists of them.

    Raises:
        InvalidInput: it is an object, bytes, or a number that no column holds.
    """
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, list):
        return [_sendable(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput(f"is {value}: expected a finite number")
    if type(value) is int and not -(2**63) <= value < 2**63:
        raise InvalidInput("is a whole number beyond 64 bits")
    if isinstance(value, str):
        return _text(value)
    if value is not None and type(value) not in _PLAIN:
        raise InvalidInput(f"is a {type(value).__name__}: expected a text, a number, true or false, or a list of them")
    return value


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as problem:
        raise InvalidInput("has half of a surrogate pair: save the text as UTF-8") from problem
    return value
