"""Sets of vectors of a collection: a table for each, and a note in the newest which of them serves.

The first table has the collection's name, later ones a number behind it, ``photos.2``; a row has the same number in all. There
are two at most. The note is in the newest, so a change of the serving set is one commit of one table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pyarrow as pa

from clip_search.storage.schema import About, beside, check_collection, identity

State = Literal["filling", "serving", "kept"]
"""Of the newest set: it is being made; it serves; it served, or might have, and the one before does."""
Asked = tuple[str, bool] | None
"""Name of a checkpoint, and whether the second Triton serves it; None for the one of the sidecar's options."""
_NUMBERED = re.compile(r"([A-Za-z0-9][A-Za-z0-9_-]{0,63})\.([1-9][0-9]{0,8})")
_KEY = "clipserve_set"


@dataclass(frozen=True)
class SetNote:
    """Note of a collection's newest set.

    Attributes:
        model: name by which its checkpoint is asked for.
        is_next: that is on the second Triton.
        space: of its vectors.
        before: name by which the checkpoint of the other set is asked for; empty for the one that the sidecar was told.
        origin: identity of the collection's first table, to which feedback belongs.
        most_missing: share of rows that may be left out of it.
        cores: share of the time in which it is worked on.
        thumbnails: pictures that can't be had otherwise are embedded from their thumbnails.
    """

    state: State
    model: str
    is_next: bool
    space: str
    before: str = ""
    before_is_next: bool = False
    origin: str = ""
    most_missing: float = 0.0
    cores: float = 1.0
    thumbnails: bool = False


@dataclass(frozen=True)
class Sets:
    """Tables of one collection: the one that serves, the other one if there is one, and the note of the newest."""

    serving: str
    other: str | None = None
    note: SetNote | None = None

    @property
    def newest(self) -> str:
        """Table with the note."""
        return self.other if self.other and self.note and self.note.state != "serving" else self.serving

    def asked(self, table: str) -> Asked:
        """Return by which name the checkpoint of a table is asked for."""
        if self.note is None:
            return None
        if table == self.newest:
            return self.note.model, self.note.is_next
        return (self.note.before, self.note.before_is_next) if self.note.before else None


def collection_of(table: str) -> str:
    """Return the collection that a table is a set of, by its name."""
    numbered = _NUMBERED.fullmatch(table)
    return numbered[1] if numbered else table


def check_table(name: Any) -> str:
    """Return the name of a collection's table; raise InvalidInput for any other."""
    check_collection(collection_of(name) if isinstance(name, str) else name)
    return str(name)


def tables_of(collection: str, tables: Iterable[str]) -> list[str]:
    """Return the sets of a collection, of these tables, the oldest first."""
    return sorted((table for table in tables if collection_of(table) == collection), key=_number)


def following(tables: Iterable[str], collection: str) -> str:
    """Return the name of a new set beside these."""
    return f"{collection}.{max([1, *map(_number, tables)]) + 1}"


def sets_of(tables: list[str], note: SetNote | None) -> Sets:
    """Return the roles of a collection's tables (the oldest first) by the note of the newest."""
    *before, newest = tables
    other = before[-1] if before else None
    if other is None or note is None:  # a table without a note is no set of ours
        return Sets(other if other is not None and note is None else newest, None, note)
    return Sets(newest, other, note) if note.state == "serving" else Sets(other, newest, note)


def noted(schema: pa.Schema) -> SetNote | None:
    """Return the note in a table; None if it has none."""
    raw = (schema.field("row").metadata or {}).get(_KEY.encode()) if "row" in schema.names else None
    try:
        return SetNote(**json.loads(raw)) if raw else None
    except (ValueError, TypeError):
        return None


def change(note: SetNote) -> dict[str, Any]:
    """Return the change of a field's metadata that :func:`noted` reads."""
    return {"path": "row", "metadata": _written(note)}


def schema_beside(table: pa.Schema, about: About, note: SetNote) -> pa.Schema:
    """Return the schema of a new set of vectors with a table's columns."""
    return beside(table, about, _written(note))


def origin(schema: pa.Schema) -> str:
    """Return the identity of the first table of a collection, by the schema of any of its sets."""
    note = noted(schema)
    return note.origin if note and note.origin else identity(schema)


def _written(note: SetNote) -> dict[str, str]:
    return {_KEY: json.dumps(asdict(note))}


def _number(table: str) -> int:
    numbered = _NUMBERED.fullmatch(table)
    return int(numbered[2]) if numbered else 1
