"""Models of the feedback routes: what is sent, and what is answered."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, get_args

from pydantic import Field
from typing_extensions import TypedDict

from clip_search.feedback import MOST_SHOWN, Asked, Sent
from clip_search.storage.feedback_events import Kind
from clip_search.web.request_models import MAX_TERMS, SearchTerm, checked_text, file_bytes, floats

Fingerprint = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{0,64}$")]


class FeedbackTerm(SearchTerm):
    """Term of the search, as it was sent to it; of a picture also its digest."""

    digest: Annotated[str | None, Field(pattern="^sha256:[0-9a-f]{64}$", description="of a picture's file")] = None

    def terms(self, sign: float = 1.0) -> Iterator[tuple[Asked, Any, float]]:
        """Yield kind, value and weight of what was sent."""
        for kind in get_args(Asked):
            value = getattr(self, kind)
            if value is None:
                continue
            if kind in ("text", "id", "image_url"):
                checked_text(kind, value)
            value = file_bytes(value) if kind == "image" else floats(value) if kind == "vector" else value
            yield kind, value, sign * self.weight


class NewFeedback(FeedbackTerm):
    """Feedback on one row of one answer: the search, the rows as they were shown, and the one that was chosen."""

    mix: Annotated[list[FeedbackTerm], Field(default_factory=list, max_length=MAX_TERMS)]
    minus: Annotated[list[FeedbackTerm], Field(default_factory=list, max_length=MAX_TERMS)]
    shown: Annotated[
        list[str], Field(min_length=1, max_length=MOST_SHOWN, description="ids in the order of the answer, from its first")
    ]
    chosen: Annotated[str, Field(description="one of the ids that were shown")]
    kind: Annotated[Kind, Field(description="opened; marked as what was looked for, or as not that")] = "click"
    query_id: Annotated[
        str | None, Field(pattern="^[A-Za-z0-9_-]{1,64}$", description="the same for all feedback on one answer")
    ] = None
    model: Annotated[Fingerprint | None, Field(description="of the answer; the collection's if left out")] = None
    space: Annotated[Fingerprint | None, Field(description="of the answer; the collection's if left out")] = None
    client: Annotated[
        str | None, Field(min_length=1, max_length=256, description="opaque; only a salted hash of it is kept")
    ] = None

    def sent(self) -> Sent:
        """Return it as the sidecar takes it."""
        checked_text("client", self.client)
        mixed = [term for part in self.mix for term in part.terms()]
        minus = [term for part in self.minus for term in part.terms(-1.0)]
        terms = [*self.terms(), *mixed, *minus]
        return Sent(terms, self.shown, self.chosen, self.kind, self.query_id, self.model, self.space, self.client)


class Kept(TypedDict):
    """Feedback that is kept: the id of its search, made here unless it was sent, and its number."""

    query_id: str
    number: int


class KeptEvent(TypedDict):
    """Feedback; ``position`` is that of the chosen row among those that were shown, from 0."""

    number: int
    time: datetime
    query_id: str
    query: Annotated[str, Field(description="JSON list of terms: text, id or digest, and weight")]
    text: Annotated[str | None, Field(description="the query where it is one text")]
    shown: list[str]
    kind: Kind
    position: int
    model: str
    space: str
    client: Annotated[str | None, Field(description="salted hash of what the client sent")]


class FeedbackPage(TypedDict):
    """Feedback in the order in which it came; ``next`` is the ``after`` of the following page.

    Of all feedback on the collection ``events`` are kept, with ``bytes``. Since the sidecar began, ``taken`` came,
    ``made_room`` of the oldest went for newer ones, and ``deleted`` were deleted.
    """

    feedback: list[KeptEvent]
    next: int | None
    events: int
    bytes: int
    taken: int
    made_room: int
    deleted: int


class DeletedFeedback(TypedDict):
    """Number of events that were deleted."""

    deleted: int
