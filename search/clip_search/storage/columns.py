"""Columns that new rows need: added with their first value, widened from int to float, never by a refused row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from clip_client.errors import InvalidInput
from clip_search.storage.kinds import EXACT, checked_value, kind_by, shown, word
from clip_search.storage.rows import NewRow
from clip_search.storage.schema import check_column, check_new_columns


class Columns:
    """Columns of a table, and what rows add to them one after the other.

    Args:
        known: kinds by name of the columns that the table has.
        large: tells of an int column whether it holds numbers that a float can't.
    """

    def __init__(self, known: Mapping[str, str], large: Callable[[str], bool]) -> None:
        self._known, self._is_large = known, large
        self._large: set[str] = set()
        self.new: dict[str, str] = {}  # kinds by name of columns to be added
        self.widened: set[str] = set()  # int columns of the table that are to hold floats
        self._kinds = dict(known)  # of all so far

    def fresh(self) -> Columns:
        """Return the table's columns without the additions of rows."""
        return Columns(self._known, self._is_large)

    def take(self, metadata: Mapping[str, Any], declared: Mapping[str, str]) -> None:
        """Add the columns of a row's metadata; a new one is of the declared kind, else of its first value's.

        Raises:
            InvalidInput: if a name or a value doesn't fit; nothing has changed then.
        """
        if self._fits(metadata):
            return
        kinds = {name: self._kind(name, value, declared) for name, value in metadata.items() if value is not None}
        new = {name: kind for name, kind in kinds.items() if self._kinds.get(name) is None}
        check_new_columns([*self._known, *self.new], new)
        for name, kind in kinds.items():
            checked_value(name, kind, metadata[name])
        for name, kind in kinds.items():
            if self._kinds.get(name) == "int" and kind == "float":
                self._widen(name)
        self.new.update(new)
        self._kinds.update(new)
        self._large.update(name for name, kind in kinds.items() if kind == "int" and abs(metadata[name]) > EXACT)

    def _fits(self, metadata: Mapping[str, Any]) -> bool:
        """Tell if a row's metadata change nothing, as nearly all do; raises as :meth:`take`."""
        for name, value in metadata.items():
            kind = self._kinds.get(name)
            if value is None:
                continue
            if kind is None or (kind == "int" and (type(value) is not int or abs(value) > EXACT)):
                return False
            checked_value(name, kind, value)
        return True

    def _kind(self, name: str, value: Any, declared: Mapping[str, str]) -> str:
        """Return the kind of a column once it holds this value."""
        now = self._kinds.get(name)
        if now is None:
            check_column(name)
            return declared.get(name) or kind_by(name, value)
        if now == "int" and type(value) is float:
            self._check_widening(name, value)
            return "float"
        return now

    def _check_widening(self, name: str, value: float) -> None:
        if name in self._large or (name in self._known and self._is_large(name)):
            raise InvalidInput(
                f"metadata {word(name)} is {shown(value)}, the column holds int64, some of which no float is equal to: "
                "send it as another column"
            )

    def _widen(self, name: str) -> None:
        if name in self.new:
            self.new[name] = "float"
        else:
            self.widened.add(name)
        self._kinds[name] = "float"


def refused(columns: Columns, rows: Iterable[NewRow], declared: Mapping[str, str]) -> dict[str, str]:
    """Add the columns of rows; return by id the reason why a row's metadata don't fit."""
    reasons = {}
    for row in rows:
        try:
            columns.take(row.metadata, declared)
        except InvalidInput as problem:
            reasons[row.id] = str(problem)
    return reasons
