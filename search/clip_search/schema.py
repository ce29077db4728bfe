"""What a collection's table looks like, and what a user may put into it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from clip_client.errors import ContractMismatch, InvalidInput
from clip_client.spec import TOWERS, Tower

_COLLECTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
MAX_COLUMNS = 256
_KEY = b"clipserve"

TYPES: dict[str, pa.DataType] = {"string": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
"""What a metadata column may hold."""
_NAMES = {kind: name for name, kind in TYPES.items()}
_KINDS: dict[type, str] = {bool: "bool", int: "int", float: "float", str: "string"}

_FIXED = [
    pa.field("id", pa.string(), nullable=False),
    pa.field("row", pa.int64(), nullable=False),
    pa.field("source", pa.string()),
    pa.field("fingerprint", pa.string()),
    pa.field("time", pa.timestamp("us", "UTC")),
    pa.field("has_image", pa.bool_()),
    pa.field("has_text", pa.bool_()),
    pa.field("has_thumbnail", pa.bool_()),
    pa.field("thumbnail", pa.binary()),
]
SOURCE_STATE = "source_state"
"""Column that whoever keeps a collection in line with files notes their state in; there from the first row on that has one."""
RESERVED = {field.name for field in _FIXED} | {f"vector_{tower}" for tower in TOWERS} | {SOURCE_STATE}
HEAVY = {"thumbnail", SOURCE_STATE, *(f"vector_{tower}" for tower in TOWERS)}
"""Columns that hits don't show."""


@dataclass(frozen=True)
class About:
    """What a collection is, kept in its table's schema.

    Attributes:
        size: D, length of its vectors.
        fingerprint: of the model that made them; empty if nobody said.
    """

    size: int
    fingerprint: str

    def check_fingerprint(self, other: str, name: str) -> None:
        """Refuse vectors of another model.

        Raises:
            ContractMismatch: both are known and differ.
        """
        if other and self.fingerprint and other != self.fingerprint:
            raise ContractMismatch(
                f"collection {name} holds vectors of model {self.fingerprint}, got {other}: embed the sources again into "
                f"a new one, clipserve search add FOLDER --collection {name}-{other[:8]}"
            )


def schema(about: About, columns: Mapping[str, str]) -> pa.Schema:
    """The table of a collection with these metadata columns, ``{name: type}``."""
    vectors = [pa.field(f"vector_{tower}", pa.list_(pa.float32(), about.size)) for tower in TOWERS]
    own = [pa.field(name, column_type(name, kind)) for name, kind in columns.items()]
    return pa.schema([*_FIXED, *vectors, *own], metadata={_KEY: json.dumps(asdict(about)).encode()})


def about(table: pa.Schema, name: str) -> About:
    """Read back what :func:`schema` wrote.

    Raises:
        ContractMismatch: the table is somebody else's.
    """
    try:
        return About(**json.loads((table.metadata or {})[_KEY]))
    except (KeyError, ValueError, TypeError) as problem:
        raise ContractMismatch(f"table {name} wasn't made by clipserve: keep it in another database") from problem


def own_columns(table: pa.Schema) -> dict[str, str]:
    """The user's columns with their types."""
    return {field.name: _NAMES.get(field.type, str(field.type)) for field in table if field.name not in RESERVED}


def check_collection(name: Any) -> str:
    """A name that is fit for a folder and a URL.

    Raises:
        InvalidInput: it isn't.
    """
    if not isinstance(name, str) or not _COLLECTION.fullmatch(name):
        raise InvalidInput(f"the collection's name is {name!r}: expected up to 64 letters, digits, '-' and '_'")
    return name


def column_type(name: str, kind: Any) -> pa.DataType:
    """The type of a new metadata column.

    Raises:
        InvalidInput: the name or the type can't be used.
    """
    if not isinstance(name, str) or not _COLUMN.fullmatch(name):
        raise InvalidInput(f"a column can't be called {name!r}: expected letters, digits and '_', no digit first")
    if name in RESERVED:
        raise InvalidInput(f"column {name} is taken: the sidecar's own are {', '.join(sorted(RESERVED))}")
    if not isinstance(kind, str) or kind not in TYPES:
        raise InvalidInput(f"column {name} can't be of type {kind!r}: expected one of {', '.join(TYPES)}")
    return TYPES[kind]


def new_columns(known: Mapping[str, str], metadatas: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Columns that these rows have and a table with these :func:`own_columns` hasn't, typed by their first value."""
    found: dict[str, str] = {}
    for metadata in metadatas:
        for name, value in metadata.items():
            if name not in known and name not in found and value is not None:
                found[name] = _kind(name, value)
                column_type(name, found[name])
    count = len(RESERVED) + len(known) + len(found)
    if count > MAX_COLUMNS:
        raise InvalidInput(f"{count} columns: expected at most {MAX_COLUMNS}; put the rest into one")
    return found


def _kind(name: str, value: Any) -> str:
    kind = _KINDS.get(type(value))
    if kind is None:
        raise InvalidInput(f"metadata {name} is a {type(value).__name__}: expected a string, a number or true/false")
    return kind


def checked_value(name: str, kind: str, value: Any) -> Any:
    """A metadata value that fits its column, which is of this kind.

    Raises:
        InvalidInput: it doesn't.
    """
    if value is None:
        return None
    if kind == "float" and type(value) is int:
        return float(value)
    if _kind(name, value) != kind:
        raise InvalidInput(f"metadata {name} is {value!r}, the column holds {TYPES.get(kind, kind)}: send that type")
    if type(value) is int and not -(2**63) <= value < 2**63:
        raise InvalidInput(f"metadata {name} is {value}: expected a whole number of 64 bits")
    return value


def tower_column(tower: Tower) -> str:
    """Name of the column that holds a tower's vectors."""
    return f"vector_{tower}"
