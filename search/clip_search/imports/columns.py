"""Columns of foreign tables: each gets a name that a collection takes and a kind that holds all its parts."""

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from clip_client.errors import InvalidInput
from clip_search.imports.values import Lost, is_string, kind_for, merged, typed
from clip_search.storage.kinds import word
from clip_search.storage.schema import LONGEST_COLUMN, MAX_COLUMNS, RESERVED, check_column, fitted_column

Key = tuple[str, int]  # column of a table: its name, and its number among several of that name


@dataclass
class Column:
    """Column of a collection for one of foreign tables."""

    key: Key
    name: str | None  # None if it isn't kept
    kind: str
    is_text: bool
    lost: Lost = field(default_factory=Counter)  # values that can't be kept, by reason

    def told(self) -> str:
        """Return what differs from the table; empty if nothing does."""
        if self.name is None:
            return f"column {word(self.key[0])} isn't kept: the collection would have more than {MAX_COLUMNS}"
        parts = [f"is kept as {self.name}"] if self.name != self.key[0] else []
        parts += ["is kept as JSON text" if not parts else "in JSON text"] if self.is_text else []
        return f"column {word(self.key[0])} {', '.join(parts)}" if parts else ""


class ForeignColumns:
    """Columns of tables that may differ.

    Args:
        schemas: of all parts.
        known: kinds by name of the columns that the collection has.
    """

    def __init__(self, schemas: Sequence[pa.Schema], known: Mapping[str, str]) -> None:
        self._known = known
        self._by_lower = {name.lower(): name for name in known}
        kinds: dict[Key, str] = {}
        self._sources: dict[Key, set[str]] = {}
        for key, type in itertools.chain.from_iterable(map(_fields, schemas)):
            kinds[key] = merged(kinds.get(key, ""), kind_for(type))
            self._sources.setdefault(key, set()).add(_form(type))
        self._columns = {column.key: column for column in self._named({key: kind for key, kind in kinds.items() if kind})}

    def __iter__(self) -> Iterator[Column]:
        return iter(self._columns.values())

    def kinds(self) -> dict[str, str]:
        """Return the kinds by name of the collection's columns."""
        return {column.name: column.kind for column in self if column.name is not None}

    def name(self, key: str) -> str:
        """Return the collection's name of a column; empty if it isn't kept."""
        column = self._columns.get((key, 0))
        return column.name or "" if column else ""

    def arrays(self, batch: pa.RecordBatch) -> dict[str, pa.Array]:
        """Return the columns that are kept, by the collection's names, as its table has them."""
        arrays: dict[str, pa.Array] = {}
        for position, (key, _) in enumerate(_fields(batch.schema)):
            column = self._columns.get(key)
            if column is not None and column.name is not None:
                arrays[column.name] = typed(batch.column(position), column.kind, column.lost)
        return arrays

    def _named(self, kinds: Mapping[Key, str]) -> Iterable[Column]:
        """Return columns with names of their own; those that can keep theirs come first."""
        taken: set[str] = set()
        room = MAX_COLUMNS - len(RESERVED) - len(self._known)
        for key in sorted(kinds, key=lambda key: not _is_fit(key)):
            name, kind = self._place(fitted_column(key[0]), kinds[key], taken)
            room -= name not in self._known
            is_kept = name in self._known or room >= 0
            taken.add(name.lower())
            is_text = kind == "string" and self._sources[key] != {"string"}
            yield Column(key, name if is_kept else None, kind, is_text)

    def _place(self, name: str, kind: str, taken: set[str]) -> tuple[str, str]:
        """Return the first of ``name``, ``name_2``, … that is free and of a kind that holds this one."""
        number, fitted = 1, name
        while True:
            there = self._by_lower.get(fitted.lower(), fitted)
            holds = _held(self._known.get(there), kind)
            if fitted.lower() not in taken and holds:
                return there, holds
            number += 1
            fitted = f"{name[: LONGEST_COLUMN - 1 - len(str(number))]}_{number}"


def _fields(schema: pa.Schema) -> Iterator[tuple[Key, pa.DataType]]:
    seen: Counter[str] = Counter()
    for column in schema:
        yield (column.name, seen[column.name]), column.type
        seen[column.name] += 1


def _form(type: pa.DataType) -> str:
    """Return the form of a type in a column of strings: ``string`` only for real ones."""
    kind = kind_for(type)
    return ("string" if is_string(type) else str(type)) if kind else "string"


def _is_fit(key: Key) -> bool:
    try:
        check_column(key[0])
    except InvalidInput:
        return False
    return key[1] == 0


def _held(there: str | None, kind: str) -> str:
    """Return the kind in which an existing column takes values of another; empty if it can't."""
    if there is None:
        return kind
    both = merged(there, kind)
    return both if both == there or (there, both) == ("int", "float") else ""
