"""Schema of a collection's table: fixed columns, user's columns, names and kinds."""

import difflib
import json
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from clip_client.errors import ContractMismatch, InvalidInput
from clip_client.spec import TOWERS, ModelSpec, Tower
from clip_search.storage.kinds import TYPES, arrow_type, kind_of, shown

_COLLECTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_UNFIT = re.compile(r"[^A-Za-z0-9_]")
_TAKEN = "meta_"  # prefix for a name that is taken
LONGEST_COLUMN = 64
MAX_COLUMNS = 256
_MOST_TOLD = 12  # columns named in a message
_KEY, _IDENTITY = b"clipserve", b"clipserve_table"
_RESERVED = "clipserve_reserved"

_FIXED = [
    pa.field("id", pa.string(), nullable=False),
    pa.field("row", pa.int64(), nullable=False, metadata={_RESERVED: "0"}),
    pa.field("source", pa.string()),
    pa.field("fingerprint", pa.string()),
    pa.field("time", pa.timestamp("us", "UTC")),
    pa.field("has_image", pa.bool_()),
    pa.field("has_text", pa.bool_()),
    pa.field("has_thumbnail", pa.bool_()),
    pa.field("thumbnail", pa.binary()),
]
_DATABASES = re.compile(r"_row.*|_distance|_score|_relevance_score|vector", re.I)
"""Names that LanceDB keeps for itself: a table can't be read any more, or a list in ``vector`` becomes null."""
SOURCE_STATE = "source_state"  # column for a client's note of a source's state; made with the first row that has one
RESERVED = {field.name for field in _FIXED} | {f"vector_{tower}" for tower in TOWERS} | {SOURCE_STATE}
HEAVY = {"thumbnail", SOURCE_STATE, *(f"vector_{tower}" for tower in TOWERS)}  # columns that hits don't show


@dataclass(frozen=True)
class About:
    """Model of a collection, kept in its table's schema."""

    size: int  # D, length of its vectors
    fingerprint: str  # of the model that made them; empty if nobody said
    own_space: str = ""  # of its vectors; empty where it is the model's fingerprint, as of every model that wasn't tuned

    @property
    def space(self) -> str:
        """Space of the vectors; empty if nobody said of which model they are."""
        return self.own_space or self.fingerprint

    def check_space(self, spec: ModelSpec, name: str) -> None:
        """Raise ContractMismatch for a model whose vectors can't be compared with these."""
        if self.space and spec.space != self.space:
            of_space = "" if (spec.space, self.space) == (spec.fingerprint, self.fingerprint) else f" in space {self.space}"
            got = spec.fingerprint if not of_space else f"{spec.fingerprint} in space {spec.space}"
            raise ContractMismatch(
                f"collection {name} holds vectors of model {self.fingerprint}{of_space}, got {got}: embed the sources again "
                f"into a new one, clipserve search add FOLDER --collection {name}-{spec.fingerprint[:8]}"
            )

    def check_fingerprint(self, other: str, name: str) -> None:
        """Raise ContractMismatch for vectors of another model, if both are known."""
        if other and self.fingerprint and other not in (self.fingerprint, self.space):
            raise ContractMismatch(
                f"collection {name} holds vectors of model {self.fingerprint}, got {other}: embed the sources again into "
                f"a new one, clipserve search add FOLDER --collection {name}-{other[:8]}"
            )


def schema(about: About, columns: Mapping[str, str]) -> pa.Schema:
    """Return the schema of a table with these metadata columns, ``{name: type}``."""
    check_new_columns((), columns)
    vectors = [pa.field(f"vector_{tower}", pa.list_(pa.float32(), about.size)) for tower in TOWERS]
    own = [pa.field(name, column_type(name, kind)) for name, kind in columns.items()]
    return pa.schema([*_FIXED, *vectors, *own], metadata=_metadata(about))


def beside(table: pa.Schema, about: About, note: Mapping[str, str]) -> pa.Schema:
    """Return the schema of a table with the same columns for vectors of another model; its row numbers have this note."""
    vectors = {tower_column(tower): pa.list_(pa.float32(), about.size) for tower in TOWERS}
    fields = [pa.field(field.name, vectors.get(field.name, field.type), field.nullable) for field in table]
    noted = {_RESERVED: "0", **note}
    return pa.schema(
        [field.with_metadata(noted) if field.name == "row" else field for field in fields], metadata=_metadata(about)
    )


def _metadata(about: About) -> dict[bytes, bytes]:
    return {_KEY: json.dumps(_stated(about)).encode(), _IDENTITY: uuid.uuid4().hex.encode()}


def _stated(about: About) -> dict[str, Any]:
    """Return the fields, the space only where it says more: sidecars of earlier versions know none."""
    return {name: value for name, value in asdict(about).items() if name != "own_space" or value}


def identity(table: pa.Schema) -> str:
    """Return what tells a table from every other, one of the same name that was there before included.

    A table that came from a backup has one of its own. Empty for a table that was made before tables had one.
    """
    restored = (table.field("row").metadata or {}).get(_IDENTITY) if "row" in table.names else None
    return bytes(restored or (table.metadata or {}).get(_IDENTITY, b"")).decode()


def reserved(table: pa.Schema) -> int | None:
    """Return the number below which all row numbers may have been given; None for a table that has no note of it."""
    noted = (table.field("row").metadata or {}).get(_RESERVED.encode(), b"")
    return int(noted) if noted.isdigit() else None


def reservation(end: int) -> dict[str, Any]:
    """Return the change of a field's metadata that :func:`reserved` reads."""
    return {"path": "row", "metadata": {_RESERVED: str(end)}}


def new_identity() -> dict[str, Any]:
    """Return the change of a field's metadata that gives a table another identity: it is a copy, which goes its own way."""
    return {"path": "row", "metadata": {_IDENTITY.decode(): uuid.uuid4().hex}}


def about(table: pa.Schema, name: str) -> About:
    """Read back what :func:`schema` wrote; raise ContractMismatch for somebody else's table."""
    try:
        return About(**json.loads((table.metadata or {})[_KEY]))
    except (KeyError, ValueError, TypeError) as problem:
        raise ContractMismatch(f"table {name} wasn't made by clipserve: keep it in another database") from problem


def own_columns(table: pa.Schema) -> dict[str, str]:
    """Return the user's columns with their types."""
    return {field.name: kind_of(field.type) for field in table if field.name not in RESERVED}


def unknown_column(name: str, table: pa.Schema) -> str:
    """Return a message on a column that a table lacks, with the user's own and the one that may be meant."""
    fixed = [field.name for field in _FIXED if field.name in table.names and field.name not in HEAVY]
    known = [*own_columns(table), *fixed]
    near = difflib.get_close_matches(name.lower(), known, 1, 0.5)
    more = f" and {len(known) - _MOST_TOLD} more" if len(known) > _MOST_TOLD else ""
    hint = f": did you mean {near[0]}?" if near else ""
    return f"No field named {name[:100]}. Valid fields are {', '.join(known[:_MOST_TOLD])}{more}{hint}"


def check_collection(name: Any) -> str:
    """Return a name that is fit for a folder and a URL; raise InvalidInput for any other."""
    if not isinstance(name, str) or not _COLLECTION.fullmatch(name):
        raise InvalidInput(f"the collection's name is {name!r}: expected up to 64 letters, digits, '-' and '_'")
    return name


def column_type(name: Any, kind: Any) -> pa.DataType:
    """Return the type of a new metadata column; raise InvalidInput if the name or the kind can't be used."""
    check_column(name)
    return check_kind(name, kind)


def check_new_columns(known: Iterable[str], new: Mapping[str, str]) -> None:
    """Raise InvalidInput for columns ``{name: kind}`` that can't be used, or can't stand beside known ones."""
    there = {name.lower(): name for name in known} if new else {}
    before = len(there)
    for name, kind in new.items():
        column_type(name, kind)
        if (other := there.setdefault(name.lower(), name)) != name:
            raise InvalidInput(f"column {name} is there as {other}: filters don't tell capitals apart, send it as {other}")
    if new and (count := len(RESERVED) + before + len(new)) > MAX_COLUMNS:
        first = next(iter(new))
        raise InvalidInput(f"column {first} makes {count} columns: expected at most {MAX_COLUMNS}; put the rest into one")


def check_kind(name: Any, kind: Any) -> pa.DataType:
    """Return the type of a kind; raise InvalidInput if there is no such kind."""
    if (arrow := arrow_type(kind)) is None:
        raise InvalidInput(
            f"column {shown(name)} can't be of type {shown(kind)}: expected one of {', '.join(TYPES)}, decimal(P,S)"
        )
    return arrow


def check_column(name: Any) -> None:
    """Raise InvalidInput for a column's name that is no plain word, or taken; in SQL, capitals make no difference."""
    if not isinstance(name, str) or not _COLUMN.fullmatch(name):
        raise InvalidInput(f"a column can't be called {shown(name)}: expected up to 64 letters, digits and '_', no digit first")
    if name.lower() in RESERVED or _DATABASES.fullmatch(name):
        own = ", ".join(sorted(RESERVED))
        raise InvalidInput(f"column {name} is taken: the sidecar's own are {own}; LanceDB's are vector, _distance, _row…")


def fitted_column(name: str) -> str:
    """Return a name that a metadata column can have: ``_`` for what can't be in one, ``meta_`` before one that is taken."""
    word = _UNFIT.sub("_", name)[:LONGEST_COLUMN] or "column"
    word = f"_{word}"[:LONGEST_COLUMN] if word[0].isdigit() else word
    try:
        check_column(word)
    except InvalidInput:
        return (_TAKEN + word)[:LONGEST_COLUMN]
    return word


def tower_column(tower: Tower) -> str:
    """Return the name of the column of a tower's vectors."""
    return f"vector_{tower}"
