"""Pictures of rows in full, from where they were indexed."""

from urllib.parse import quote

from fastapi import APIRouter, Request, Response

from clip_search.collection import Collection
from clip_search.errors import NotFound
from clip_search.pictures import Memory, Picture, in_full, is_url
from clip_search.sidecar import Sidecar
from clip_search.web.app_state import collection, state
from clip_search.web.response_models import Responses, failures
from clip_search.web.row_thumbnails import RowNumber, sources_of
from clip_search.web.sending import PictureResponse

router = APIRouter()
_TYPES = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/avif")
_PICTURES: Responses = {200: {"content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in _TYPES}}}


@router.get(
    "/v1/collections/{name}/pictures/{row}",
    tags=["collections"],
    response_class=Response,
    responses={**_PICTURES, **failures(404, 503)},
)
async def row_picture(request: Request, name: str, row: RowNumber, download: bool = False) -> Response:
    """Return a row's picture in full, from where it was indexed; formats that browsers don't show become JPEG."""
    shared, named = state(request), collection(request)
    sources = await shared.pictures.run(sources_of, named, row)
    threads = shared.fetching if any(map(is_url, sources)) else shared.full
    picture = await threads.run(_picture, named, row, sources, shared.sidecar)
    headers = {
        "Cache-Control": "private, max-age=300",
        "Content-Disposition": f"{'attachment' if download else 'inline'}; {_file_name(picture.name)}",
        "Content-Security-Policy": "sandbox",
        "X-Content-Type-Options": "nosniff",
    }
    return PictureResponse(picture, shared.sender, headers)


def _picture(named: Collection, row: int, sources: list[str], sidecar: Sidecar) -> Picture:
    memory = Memory(sidecar.fetched, sidecar.decoding)
    try:
        return in_full(sources, sidecar.options, memory)
    except NotFound as problem:
        raise NotFound(f"row {row} of collection {named.name} has no picture in full: {problem}") from problem


def _file_name(name: str) -> str:
    """Return a file's name as RFC 6266 and RFC 5987 have it, and in ASCII for programs that don't know them."""
    plain = name.encode("ascii", "replace").decode().replace("?", "_")
    return f"filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
