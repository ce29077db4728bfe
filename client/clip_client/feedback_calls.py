"""Verbs of the sidecar's API for feedback on searches: clicks on hits, and marks."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal
from urllib.parse import quote, urlencode

from clip_client.concurrency import Concurrency
from clip_client.errors import InvalidInput
from clip_client.hits import Hits
from clip_client.rows_and_hits import Hit, Term, as_terms
from clip_client.sidecar_http import AwaitableSidecar
from clip_client.type_names import a_type

FeedbackKind = Literal["click", "right", "wrong"]

_PAGE = 1_000  # events of a request, at most


@dataclass(frozen=True)
class FeedbackEvent:
    """Feedback on one row of one answer, as the sidecar keeps it.

    Attributes:
        number: ascending in the order in which it came.
        time: the sidecar's clock.
        query_id: of the search; all feedback on one answer has the same.
        query: terms, each with ``weight`` and one of ``text``, ``id``, ``digest``.
        text: the query where it is one text.
        shown: ids in the order in which they were shown, from the top.
        kind: ``click``, or a mark as ``right`` or ``wrong``.
        position: of the chosen row in ``shown``, from 0.
        model, space: fingerprints of what answered; empty if unknown.
        client: salted hash of what was sent as the client, if anything was.
    """

    number: int
    time: datetime
    query_id: str
    query: list[dict[str, Any]]
    text: str | None
    shown: list[str]
    kind: FeedbackKind
    position: int
    model: str
    space: str
    client: str | None


@dataclass(frozen=True)
class FeedbackBooks:
    """Amount of a collection's feedback.

    Attributes:
        events, bytes: that are kept.
        taken, made_room, deleted: that came, went for newer ones, and were deleted since the sidecar began.
    """

    events: int
    bytes: int
    taken: int
    made_room: int
    deleted: int


class FeedbackCalls:
    """Calls about feedback."""

    _http: AwaitableSidecar
    _concurrency: Concurrency

    async def feedback(
        self,
        collection: str,
        what: str | Term | Sequence[Term],
        shown: Sequence[Hit | str],
        chosen: Hit | str,
        *,
        kind: FeedbackKind = "click",
        minus: Sequence[Term] = (),
        query_id: str | None = None,
        client: str | None = None,
    ) -> str:
        """Tell which hit of a search was chosen, or is marked; return the id of the search once the feedback is kept.

        Pictures and vectors aren't sent, only their digests.

        Args:
            what: as it was sent to :meth:`query`.
            shown: hits, or their ids, in the order in which they were shown, from the first; at most 1,000.
            chosen: one of them.
            kind: ``click``, ``right`` (it was looked for) or ``wrong`` (it was not).
            minus: as it was sent to :meth:`query`.
            query_id: what an earlier call for the same answer returned.
            client: an opaque id of who searched; the sidecar keeps a salted hash of it.

        Raises:
            InvalidInput: ``chosen`` wasn't shown, a row is there twice, or another argument can't be used.
            NotFound: no such collection or rows.
            ClipError: the sidecar takes no feedback (``--no-feedback``, ``--read-only``).
            Unavailable: the sidecar is down, or the disk is full.
        """
        mix, dropped = as_terms(what, "what"), as_terms(minus, "minus")
        [terms] = await self._concurrency.apply(_reduced, [[*mix, *dropped]], 1)
        query = {"mix": terms[: len(mix)], "minus": terms[len(mix) :]}
        event = query | _shown(shown) | {"chosen": _id(chosen, "chosen"), "kind": kind}
        event |= {name: value for name, value in (("query_id", query_id), ("client", client)) if value is not None}
        return str((await self._http.ask("POST", _path(collection), event))["query_id"])

    async def kept_feedback(self, collection: str, *, after: int = -1) -> AsyncIterator[FeedbackEvent]:
        """Iterate over a collection's feedback in the order in which it came, behind a number."""
        following: int | None = after
        while following is not None:
            answer = await self._http.ask("GET", f"{_path(collection)}?{urlencode({'after': following, 'limit': _PAGE})}")
            for event in answer["feedback"]:
                yield _event(event)
            following = answer["next"]

    async def feedback_books(self, collection: str) -> FeedbackBooks:
        """Return how much feedback there is."""
        answer = await self._http.ask("GET", f"{_path(collection)}?limit=1")
        return FeedbackBooks(**{name: int(answer[name]) for name in FeedbackBooks.__dataclass_fields__})

    async def delete_feedback(self, collection: str, *, before: datetime | None = None) -> int:
        """Delete a collection's feedback from before a time (UTC unless it says), or all; return the number of events."""
        if before is not None and not isinstance(before, datetime):
            raise InvalidInput(f"before is {a_type(before)}: expected a datetime")
        path = _path(collection)
        if before is not None:
            path += f"?{urlencode({'before': (before if before.tzinfo else before.replace(tzinfo=timezone.utc)).isoformat()})}"
        return int((await self._http.ask("DELETE", path))["deleted"])


def _reduced(terms: Sequence[Term]) -> list[dict[str, Any]]:
    """Return terms as the API takes them, with digests for pictures and vectors."""
    return [_without_content(term.to_json()) for term in terms]


def _without_content(term: dict[str, Any]) -> dict[str, Any]:
    if "text" in term or "id" in term:
        return term
    encoded = term.get("image") or term.get("vector")
    content = base64.b64decode(encoded) if encoded else term["image_url"].encode()
    return {"digest": f"sha256:{hashlib.sha256(content).hexdigest()}", "weight": term["weight"]}


def _event(event: Mapping[str, Any]) -> FeedbackEvent:
    time = datetime.fromisoformat(event["time"])
    return FeedbackEvent(**{**event, "time": time, "query": json.loads(event["query"])})


def _shown(shown: Any) -> dict[str, Any]:
    """Return what is sent of the hits, with the model that answered if it is known."""
    if isinstance(shown, str | bytes | Mapping) or not isinstance(shown, Iterable):
        raise InvalidInput(f"shown is {a_type(shown)}: expected a list of hits or of their ids")
    origin = {"model": shown.model, "space": shown.space} if isinstance(shown, Hits) else {}
    ids = [_id(hit, f"shown[{n}]") for n, hit in enumerate(shown)]
    return {"shown": ids, **{name: value for name, value in origin.items() if value}}


def _id(hit: Any, name: str) -> str:
    if isinstance(hit, Hit | str):
        return hit if isinstance(hit, str) else hit.id
    raise InvalidInput(f"{name} is {a_type(hit)}: expected a hit, or its id")


def _path(collection: str) -> str:
    return f"/v1/collections/{quote(collection, safe='')}/feedback"
