"""Feedback on searches: the checks of an event, and the tables by collection."""

import hashlib
import threading
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from clip_client.errors import InvalidInput, Unavailable
from clip_search.collection import Collection
from clip_search.errors import NotFound, ReadOnly, TooLarge
from clip_search.storage import vector_sets
from clip_search.storage.database import Database
from clip_search.storage.feedback_events import KINDS, Event, Kind, as_json, text_of
from clip_search.storage.feedback_table import FeedbackTable
from clip_search.storage.rows import checked_id

MOST_SHOWN = 1_000  # rows of an answer that are kept
_MOST_BYTES = 256 * 2**10  # of an event
Asked = Literal["text", "image", "image_url", "vector", "id", "digest"]


@dataclass(frozen=True)
class Sent:
    """Event as it was sent, its query in terms of the search.

    Attributes:
        terms: kind, value and weight of each.
        shown: ids in the order in which they were shown.
        chosen: one of them.
    """

    terms: Sequence[tuple[Asked, Any, float]]
    shown: Sequence[str]
    chosen: str
    kind: Kind
    query_id: str | None = None
    model: str | None = None
    space: str | None = None
    client: str | None = None


class Feedback:
    """Tables of feedback by collection."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._tables: dict[str, tuple[str, FeedbackTable]] = {}
        self._past: Counter[str] = Counter()  # counts of collections that are no more

    def of(self, collection: Collection) -> FeedbackTable:
        """Return the feedback on a collection."""
        owner = vector_sets.origin(collection.table.schema) or collection.table.identity
        with self._lock:
            known = self._tables.get(collection.name)
            if known is None or known[0] != owner:
                known = owner, self._database.feedback(collection.name, owner)
                self._forget(collection.name)
                self._tables[collection.name] = known
            return known[1]

    def known(self) -> dict[str, FeedbackTable]:
        """Return the tables that were asked for, by collection."""
        with self._lock:
            return {name: table for name, (_, table) in sorted(self._tables.items())}

    def counts(self) -> dict[str, int]:
        """Return what came since this process began, by kind, and what went."""
        with self._lock:
            every = Counter(self._past)
            for _, table in self._tables.values():
                every.update(table.counts())
        return {name: every[name] for name in (*KINDS, "made_room", "deleted")}

    def drop(self, name: str) -> None:
        """Remove the feedback on a collection that is no more.

        Raises:
            Unavailable: it can't be removed.
        """
        with self._lock:
            table = self._forget(name) or self._database.feedback(name, "")
        try:
            table.drop()
        except Unavailable as problem:
            raise Unavailable(
                f"collection {name} is dropped, the feedback on it isn't: {problem}; make one of that name and drop it"
            ) from problem

    def _forget(self, name: str) -> FeedbackTable | None:
        _, table = self._tables.pop(name, ("", None))
        if table:
            self._past.update(table.counts())
        return table


def add(table: FeedbackTable, collection: Collection, sent: Sent) -> tuple[str, int]:
    """Check an event and keep it; return the id of its search and its own number, once it is durable.

    Raises:
        InvalidInput, NotFound, TooLarge: it can't be true, or rows of it aren't there.
        ReadOnly, Unavailable, StorageFull: it can't be written.
    """
    if collection.table.read_only:
        raise ReadOnly
    event = _event(collection, sent)
    return event.query_id, table.append(event)


def digest(content: bytes) -> str:
    """Return what is kept of a picture or a vector."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _event(collection: Collection, sent: Sent) -> Event:
    position = _position(sent)
    if not sent.terms:
        raise InvalidInput("nothing was looked for: send the search's own text, id, picture, mix or minus")
    query = [_kept(*term) for term in sent.terms]
    _check_rows(collection, {**dict.fromkeys(sent.shown, "shown"), **{term["id"]: "id" for term in query if "id" in term}})
    about = collection.about
    event = Event(
        query_id=sent.query_id or uuid.uuid4().hex,
        query=as_json(query),
        text=text_of(query),
        shown=tuple(sent.shown),
        kind=sent.kind,
        position=position,
        model=sent.model or about.fingerprint,
        space=sent.space or about.space,
        client=sent.client,
    )
    if event.size_bytes > _MOST_BYTES:
        raise TooLarge(
            f"the query and the ids have {event.size_bytes:,} bytes: expected at most {_MOST_BYTES:,}; send fewer as shown"
        )
    return event


def _position(sent: Sent) -> int:
    """Return the place of the chosen row; raise InvalidInput for an order that no answer has."""
    places: dict[str, int] = {}
    for n, id in enumerate(sent.shown):
        if (first := places.setdefault(checked_id(id), n)) != n:
            raise InvalidInput(f"shown has {id!r} at {first} and at {n}: expected each row once, in the order of the answer")
    if sent.chosen not in places:
        raise InvalidInput(f"chosen is {sent.chosen[:200]!r}: expected one of the {len(places)} ids in shown")
    return places[sent.chosen]


def _kept(kind: Asked, value: Any, weight: float) -> dict[str, Any]:
    """Return what is kept of a term: texts and ids as they are, of all else a digest."""
    if kind in ("text", "id", "digest"):
        return {kind: value, "weight": weight}
    if kind == "vector":
        value = np.ascontiguousarray(value, "<f4").tobytes()
    return {"digest": digest(value if isinstance(value, bytes) else value.encode()), "weight": weight}


def _check_rows(collection: Collection, fields: dict[str, str]) -> None:
    """Raise NotFound for ids that the collection lacks; ``fields`` by id says where they were sent."""
    there = collection.numbers(list(fields))
    missing = [id for id in fields if id not in there]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise NotFound(
            f"{fields[missing[0]]} has {missing[0]!r}{more}, no row of collection {collection.name}: expected ids that a "
            "search of it returned; were they deleted since?"
        )
