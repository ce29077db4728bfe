"""Events of feedback: their fields, the columns of their table, and their queries as they are written."""

import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

import pyarrow as pa

Kind = Literal["click", "right", "wrong"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_OF, _SALT = b"clipserve_feedback_of", b"clipserve_salt"
_FIELDS = [
    pa.field("number", pa.int64(), nullable=False),
    pa.field("time", pa.timestamp("ms", "UTC"), nullable=False),
    pa.field("query_id", pa.string(), nullable=False),
    pa.field("query", pa.string(), nullable=False),
    pa.field("text", pa.string()),
    pa.field("shown", pa.list_(pa.string()), nullable=False),
    pa.field("kind", pa.string(), nullable=False),
    pa.field("position", pa.int32(), nullable=False),
    pa.field("model", pa.string(), nullable=False),
    pa.field("space", pa.string(), nullable=False),
    pa.field("client", pa.string()),
    pa.field("bytes", pa.int32(), nullable=False),
]
COLUMNS = [field.name for field in _FIELDS if field.name != "bytes"]


@dataclass(frozen=True)
class Event:
    """Answer to a search, and the row of it that somebody chose or marked.

    Attributes:
        query_id: of the search; events of one answer have the same.
        query: JSON list of the terms.
        text: the query where it is one text; else None.
        shown: ids of the rows in the order in which they were shown, from the top.
        position: of the chosen one among them, from 0.
        model, space: fingerprints of what answered; empty if unknown.
        client: opaque, as sent; only a salted hash of it is written.
    """

    query_id: str
    query: str
    text: str | None
    shown: tuple[str, ...]
    kind: Kind
    position: int
    model: str
    space: str
    client: str | None

    @property
    def size_bytes(self) -> int:
        """Size of its content, in UTF-8."""
        texts = (self.query_id, self.query, self.text or "", self.model, self.space, *self.shown)
        return sum(len(text.encode()) + 8 for text in texts) + 64

    def row(self, number: int, now: datetime, salt: bytes) -> dict[str, Any]:
        """Return its row of the table."""
        values = {**vars(self), "shown": list(self.shown), "client": self.client and hashed(self.client, salt)}
        return {**values, "number": number, "time": now, "bytes": self.size_bytes}


def schema(owner: str, salt: bytes | None = None) -> pa.Schema:
    """Return the schema of a table that belongs to a collection's, by its identity, with a salt of its own unless given."""
    return pa.schema(_FIELDS, metadata={_OF: owner.encode(), _SALT: salt or secrets.token_hex(16).encode()})


def belongs(table: pa.Schema, owner: str) -> bool:
    """Tell if a table has the feedback on a collection's table."""
    return (table.metadata or {}).get(_OF) == owner.encode()


def salt(table: pa.Schema) -> bytes:
    """Return the salt of a table's hashes."""
    return bytes(table.metadata[_SALT])


def hashed(client: str, salt: bytes) -> str:
    """Return the 32 hexadecimal digits that stand for a client."""
    return hmac.new(salt, client.encode(), hashlib.sha256).hexdigest()[:32]


def text_of(query: Sequence[dict[str, Any]]) -> str | None:
    """Return the text of a query that is one text; None for any other."""
    if len(query) == 1 and "text" in query[0] and query[0]["weight"] > 0:
        return str(query[0]["text"])
    return None


def as_json(query: Sequence[dict[str, Any]]) -> str:
    """Return the terms of a query as they are written."""
    return json.dumps(list(query), ensure_ascii=False, separators=(",", ":"))
