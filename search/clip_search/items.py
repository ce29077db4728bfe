"""Rows as they are sent, before anything is embedded or checked against a collection."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clip_client.spec import Tower
from clip_search.query import Term
from clip_search.storage.rows import OnConflict


@dataclass(frozen=True)
class Item:
    """A row as sent: at least one of image, text and vectors."""

    id: str | None = None
    image: Term | None = None  # an image term
    text: str | None = None  # goes through the text tower, and into the column `caption` unless that is given
    vectors: dict[Tower, Any] = field(default_factory=dict)  # ready ones by tower, as sent
    metadata: dict[str, Any] = field(default_factory=dict)
    source: str | None = None
    source_state: str | None = None  # what the client notes of the source
    same_as: str | None = None  # id of a row that gives what isn't here: vectors, thumbnail, columns


@dataclass(frozen=True)
class AddOptions:
    """Options of all rows of a request."""

    on_conflict: OnConflict = "error"
    fingerprint: str = ""  # of the model that made ready vectors; empty if unknown
    columns: Mapping[str, str] = field(default_factory=dict)  # declared kinds of columns that aren't there yet
