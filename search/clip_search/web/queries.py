"""Routes of pictures that links to a search refer to."""

from fastapi import APIRouter, Request, Response

from clip_search.web import exploring_models as answers
from clip_search.web.api_document import post
from clip_search.web.app_state import body, off_loop, state
from clip_search.web.guard import answer
from clip_search.web.request_models import QueryPicture, file_bytes
from clip_search.web.response_models import Responses, failures

router = APIRouter(prefix="/v1/queries", tags=["queries"])
_JPEG: Responses = {200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}}


@post(router, "", QueryPicture, answers.KeptQuery, 413, 503, 507, status=201)
async def keep_query(request: Request) -> Response:
    """Keep a small JPEG of a picture, for a short link to a search by it; the last 1,000 are kept."""
    sent, shared = await body(request, QueryPicture), state(request)
    file = await off_loop(request, file_bytes, sent.image)
    return answer({"id": await shared.pictures.run(shared.sidecar.queries.keep, file)}, 201)


@router.get("/{id}", response_class=Response, responses={**_JPEG, **failures(404, 503)})
async def kept_query(request: Request, id: str) -> Response:
    """Return a picture that was kept."""
    shared = state(request)
    picture = await shared.pictures.run(shared.sidecar.queries.get, id)
    headers = {
        "Cache-Control": "private, max-age=86400, immutable",
        "Content-Security-Policy": "sandbox",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(picture, media_type="image/jpeg", headers=headers)
