"""Ends of a copy: a collection of a sidecar, or of a database that nobody serves; both are read and written."""

from __future__ import annotations

from collections.abc import Collection as Several
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from clip_client.errors import InvalidInput
from clip_client.spec import Tower
from clip_search.arrays import Floats
from clip_search.storage.schema import check_collection

TOGETHER = 500  # rows in a step: some megabytes


@dataclass(frozen=True)
class Description:
    """Collection without its rows."""

    size: int  # D
    fingerprint: str
    columns: Mapping[str, str]  # kinds by name
    rows: int


@dataclass(frozen=True)
class CopiedRow:
    """Row on its way; metadata as JSON has them."""

    id: str
    vectors: Mapping[Tower, Floats]
    metadata: Mapping[str, Any]
    source: str | None
    source_state: str | None
    thumbnail: bytes | None


@dataclass
class Written:
    """Outcome of a step: counts, and the reason by id of each row that was left out."""

    added: int = 0
    replaced: int = 0
    errors: dict[str, str] = field(default_factory=dict)


class End(Protocol):
    """A collection that is copied from or to."""

    def describe(self) -> Description | None:
        """Return what is known of the collection; None if there is none."""

    def make(self, about: Description) -> None:
        """Make the collection."""

    def ids(self) -> Iterator[list[str]]:
        """Yield all ids, :data:`TOGETHER` at a time."""

    def present(self, ids: Sequence[str]) -> Several[str]:
        """Return those of some ids that are there."""

    def get(self, ids: Sequence[str]) -> list[CopiedRow]:
        """Return rows by id, without those that aren't there."""

    def add(self, rows: Sequence[CopiedRow], about: Description, *, replace: bool) -> Written:
        """Add rows; return once they are durable."""

    def close(self) -> None:
        """Close what was opened."""


def parted(place: str) -> tuple[str, str]:
    """Return where a place is, and its collection; raise InvalidInput unless it has both."""
    where, slash, name = place.replace("\\", "/").rstrip("/").rpartition("/")
    if not slash or not where or where.endswith((":/", ":")):
        raise InvalidInput(f"{place} names no collection: expected http://HOST:PORT/COLLECTION or DATABASE/COLLECTION")
    return where, check_collection(name)


def is_sidecar(where: str) -> bool:
    """Tell a sidecar's address from a database's."""
    return where.lower().startswith(("http://", "https://"))
