"""Routes of a collection's second set of vectors: begin, look, go back, drop."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from clip_search.errors import NotFound
from clip_search.reembedding import second_sets
from clip_search.web import reembedding_models as models
from clip_search.web.api_document import post
from clip_search.web.app_state import body, collection, state
from clip_search.web.guard import answer
from clip_search.web.response_models import Reembedding, failures

router = APIRouter(prefix="/v1/collections/{name}/reembed", tags=["reembedding"])


@post(router, "", models.NewReembedding, Reembedding, 404, 409, 413, 503, 507, status=202)
async def reembed(request: Request, name: str) -> Response:
    """Embed a collection with another model in the background, then let that answer; go on with what was refused or failed."""
    shared, named = state(request), collection(request)
    sent = await body(request, models.NewReembedding)
    return answer(await shared.model.run(shared.sidecar.seconds.start, named, sent.wish()), 202)


@router.get("", response_model=Reembedding, responses=failures(404, 503))
async def reembedding(request: Request, name: str) -> Response:
    """Tell how far the second set of vectors is, or that it is kept; 404 if there is none."""
    told = await run_in_threadpool(state(request).sidecar.seconds.state, collection(request).name)
    if told is None:
        raise NotFound(second_sets.nothing(name))
    return answer(told)


@router.get("/left-out", response_model=models.LeftOut, responses=failures(404, 503))
async def left_out(
    request: Request,
    name: str,
    after: Annotated[int, Query(ge=-1, lt=2**62, description="number of the row behind which to begin")] = -1,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
) -> Response:
    """List rows that aren't in the newer set of vectors, with the reasons, by number."""
    seconds = state(request).sidecar.seconds
    page = await run_in_threadpool(seconds.left_out, collection(request).name, after, limit)
    return answer({"rows": page, "next": page[-1]["row"] if len(page) == limit else None})


@post(router, "/back", models.WayBack, Reembedding, 404, 409, 413, 503, 507, status=202)
async def back(request: Request, name: str) -> Response:
    """Let the set that is kept answer again, once it has the rows that came since."""
    shared, named = state(request), collection(request)
    sent = await body(request, models.WayBack)
    return answer(await shared.model.run(shared.sidecar.seconds.back, named, sent.to or ""), 202)


@router.delete("", response_model=models.DroppedSet, responses=failures(404, 503, 507))
async def drop_set(request: Request, name: str) -> Response:
    """Remove the set of vectors that doesn't answer, for good; one that is being made, too."""
    shared = state(request)
    return answer(await shared.model.run(shared.sidecar.seconds.drop, collection(request).name))
