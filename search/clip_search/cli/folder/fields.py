"""Fields of pictures as metadata: names and values that columns take, and a reason for each that they don't."""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from clip_client.errors import InvalidInput
from clip_search.storage.kinds import checked_value
from clip_search.storage.schema import MAX_COLUMNS, RESERVED, fitted_column

_PLAIN: dict[type, str] = {bool: "bool", int: "int", float: "float", str: "string"}
_NAMES: dict[type, str] = {dict: "an object", bytes: "binary"}

Note = Callable[[str], None]


class Fields:
    """Columns of a collection, with those of its next rows.

    All rows are taken first, so that a new column gets the kind that most of its values have; then each row is fitted.

    Args:
        columns: kinds by name of the columns that are there.
    """

    def __init__(self, columns: Mapping[str, str]) -> None:
        self._there = dict(columns)
        self._seen: dict[str, Counter[str]] = {}
        self._by_lower = {name.lower(): name for name in columns}  # filters don't tell capitals apart

    def take(self, fields: Mapping[str, Any], note: Note) -> dict[str, Any]:
        """Return a row's fields by column; pass one that no column can hold to ``note`` with its reason."""
        kept: dict[str, Any] = {}
        for name, value in fields.items():
            try:
                sent = _sendable(value)
                column = self._column(name)
                if column in kept:
                    raise InvalidInput(f"comes to column {column} as another field does: rename one")
            except InvalidInput as problem:
                note(f"{str(name)[:80]!r} {problem}")
                continue
            if sent is not None:
                kept[column] = self._seen_as(column, sent)
        return kept

    def fit(self, metadata: Mapping[str, Any], note: Note) -> dict[str, Any]:
        """Return a row's fields without values that aren't of their column's kind; note these."""
        kept = dict[str, Any]()
        for column, value in metadata.items():
            if problem := _misfit(column, self._kind(column), value):
                note(problem)
            else:
                kept[column] = value
        return kept

    def typed(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Return metadata with whole numbers as floats in new columns that hold both."""
        return {
            name: float(value) if type(value) is int and name in self._seen and self._kind(name) == "float" else value
            for name, value in metadata.items()
        }

    def _column(self, name: Any) -> str:
        """Return the column of a field, by a name that SQL takes."""
        fitted = fitted_column(str(name))
        fitted = self._by_lower.get(fitted.lower(), fitted)
        if fitted not in self._there and fitted not in self._seen:
            if len(self._there) + len(self._seen) + len(RESERVED) >= MAX_COLUMNS:
                raise InvalidInput(f"would be one column too many: {MAX_COLUMNS} are kept")
            self._by_lower[fitted.lower()] = fitted
        return fitted

    def _seen_as(self, column: str, value: Any) -> Any:
        if self._there.get(column, "").startswith("list<"):
            return value if isinstance(value, list) else [value]
        value = json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
        if column not in self._there:
            self._seen.setdefault(column, Counter())[_PLAIN[type(value)]] += 1
        return value

    def _kind(self, column: str) -> str:
        if column in self._there:
            return self._there[column]
        seen = self._seen[column]
        numbers = seen["int"] + seen["float"]
        others = {kind: count for kind, count in seen.items() if kind not in ("int", "float")}
        if numbers < max(others.values(), default=0):
            return max(others, key=lambda kind: others[kind])
        return "float" if seen["float"] else "int"


def _misfit(column: str, kind: str, value: Any) -> str:
    """Return the reason why a column of a kind can't hold a value; empty if it can, also once an int column is float."""
    own = _PLAIN.get(type(value), kind)
    if kind in _PLAIN.values() and kind != own and {kind, own} != {"int", "float"}:
        return f"{column!r} is {str(value)[:80]!r}, the column holds {kind}: correct it, or rename it"
    try:
        checked_value(column, "float" if own == "float" and kind == "int" else kind, value)
    except InvalidInput as problem:
        return str(problem)
    return ""


def _sendable(value: Any) -> Any:
    """Return a value as JSON has it, scalars and lists of them; raise InvalidInput for one that no column holds."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, list):
        return [_sendable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput(f"is {value}: expected a finite number")
    if type(value) is int and not -(2**63) <= value < 2**63:
        raise InvalidInput("is a whole number beyond 64 bits")
    if isinstance(value, str):
        return _text(value)
    if value is not None and type(value) not in _PLAIN:
        raise InvalidInput(
            f"is {_NAMES.get(type(value), type(value).__name__)}: expected a text, a number, true or false, or a list of them"
        )
    return value


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as problem:
        raise InvalidInput("has half of a surrogate pair: save the text as UTF-8") from problem
    return value
