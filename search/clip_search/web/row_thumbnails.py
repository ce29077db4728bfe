"""Thumbnails of rows, and of nothing else."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from clip_client.errors import ClipError
from clip_client.file_names import source_path
from clip_client.thumbnails import thumbnail
from clip_search import fetch
from clip_search.collection import Collection
from clip_search.errors import Busy, NotFound
from clip_search.sidecar import Sidecar
from clip_search.web.app_state import collection, state
from clip_search.web.response_models import Responses, failures

router = APIRouter()
RowNumber = Annotated[int, Path(ge=0, lt=2**62)]
_JPEG: Responses = {200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}}


@router.get(
    "/v1/collections/{name}/thumbnails/{row}",
    tags=["collections"],
    response_class=Response,
    responses={**_JPEG, **failures(404, 503)},
)
async def row_thumbnail(request: Request, name: str, row: RowNumber) -> Response:
    """Return a small JPEG of a row's picture."""
    shared = state(request)
    picture = await shared.pictures.run(picture_of, collection(request), row, shared.sidecar)
    if picture is None:
        raise NotFound(f"row {row} of collection {name} has no picture that can be shown")
    headers = {"Cache-Control": "private, max-age=86400, immutable", "X-Content-Type-Options": "nosniff"}
    return Response(picture, media_type="image/jpeg", headers=headers)


def picture_of(owner: Collection, row: int, sidecar: Sidecar) -> bytes | None:
    """Return a row's stored thumbnail, or one of its source if that lies below a folder named at start."""
    values = _values(owner, row, "thumbnail")
    if values is None:
        return None
    if values["thumbnail"]:
        return bytes(values["thumbnail"])
    return picture_at((values.get("image_path"), values["source"]), sidecar)


def sources_of(owner: Collection, row: int) -> list[str]:
    """Return the places where a row's picture may be, the likelier first; raise NotFound if there is no such row."""
    values = _values(owner, row)
    if values is None:
        raise NotFound(f"no row {row} in collection {owner.name}: it may have been deleted or replaced")
    places = (values.get("image_path"), values["source"])
    return list(dict.fromkeys(place for place in places if isinstance(place, str) and place))


def _values(owner: Collection, row: int, *more: str) -> dict[str, Any] | None:
    names = [name for name in ("source", "image_path", *more) if name in owner.table.schema.names]
    return owner.table.get([row], names).get(row)


def thumbnails_of(owner: Collection, rows: Sequence[int]) -> dict[int, bytes]:
    """Return the stored thumbnails, by row."""
    kept = owner.table.get(rows, ["thumbnail"])
    return {row: bytes(values["thumbnail"]) for row, values in kept.items() if values["thumbnail"]}


def picture_at(paths: Iterable[Any], sidecar: Sidecar) -> bytes | None:
    """Return a thumbnail of the first file that lies below a folder named at start; raise Busy if others have the memory."""
    options = sidecar.options.fetch
    for path in paths if options.folders else ():
        if not isinstance(path, str) or not path:  # a user's column may hold anything
            continue
        try:
            return thumbnail(fetch.read(source_path(path), options), sidecar.decoding)
        except Busy:
            raise
        except ClipError:
            continue
    return None
