"""Routes of feedback on searches: take it, list it, delete it."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from clip_search import feedback
from clip_search.collection import Collection
from clip_search.storage.feedback_table import FeedbackTable
from clip_search.web import feedback_models as models
from clip_search.web.api_document import post
from clip_search.web.app_state import body, collection, off_loop, state
from clip_search.web.guard import answer
from clip_search.web.refusal import Refused
from clip_search.web.response_models import failures

router = APIRouter(prefix="/v1/collections/{name}/feedback", tags=["feedback"])
_OFF = "this sidecar takes no feedback (--no-feedback): start it without that option"


@post(router, "", models.NewFeedback, models.Kept, 404, 413, 503, 507, status=201)
async def add_feedback(request: Request, name: str) -> Response:
    """Keep a click on a row of an answer, or a mark on it; of the query texts and ids are kept, of pictures a digest."""
    shared, named = state(request), collection(request)
    try:
        if not shared.sidecar.options.feedback:
            raise Refused(403, _OFF)
        sent = await off_loop(request, (await body(request, models.NewFeedback)).sent)
        table = shared.sidecar.feedback.of(named)
        query_id, number = await shared.feedback.run(feedback.add, table, named, sent)
    except Exception:
        shared.metrics.feedback.refused()
        raise
    return answer({"query_id": query_id, "number": number}, 201)


@router.get("", response_model=models.FeedbackPage, responses=failures(404, 503))
async def list_feedback(
    request: Request,
    name: str,
    after: Annotated[int, Query(ge=-1, lt=2**62, description="number behind which to begin")] = -1,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """List what is kept, by number, and how much there is."""
    shared, named = state(request), collection(request)
    return answer(await shared.feedback.run(_page, shared.sidecar.feedback.of(named), after, limit))


@router.delete("", response_model=models.DeletedFeedback, responses=failures(404, 503, 507))
async def delete_feedback(
    request: Request,
    name: str,
    before: Annotated[datetime | None, Query(description="ISO 8601; UTC unless it says; everything if left out")] = None,
) -> Response:
    """Delete the feedback from before a time, or all; nothing of it is left on the disk then."""
    shared, named = state(request), collection(request)
    return answer({"deleted": await shared.feedback.run(_deleted, shared.sidecar.feedback.of(named), named, before)})


def _page(table: FeedbackTable, after: int, limit: int) -> dict[str, object]:
    page = table.page(after, limit)
    following = page[-1]["number"] if len(page) == limit else None
    return {"feedback": page, "next": following, **table.books()}


def _deleted(table: FeedbackTable, named: Collection, before: datetime | None) -> int:
    named.check_writable()
    return table.delete(before)
