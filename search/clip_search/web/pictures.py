"""Thumbnails, of rows and of nothing else, and the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from clip_client.errors import ClipError
from clip_search import fetch
from clip_search.collection import Collection
from clip_search.errors import Busy, NotFound
from clip_search.sidecar import Sidecar
from clip_search.thumbnails import thumbnail
from clip_search.web.state import collection, state

router = APIRouter()
RowNumber = Annotated[int, Path(ge=0, lt=2**62)]
_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; "
    "frame-ancestors 'self'"
)


@router.get("/v1/collections/{name}/thumbnails/{row}", tags=["collections"])
async def row_thumbnail(request: Request, name: str, row: RowNumber) -> Response:
    """A small JPEG of a row's picture."""
    shared = state(request)
    picture = await shared.pictures.run(picture_of, collection(request), row, shared.sidecar)
    if picture is None:
        raise NotFound(f"row {row} of collection {name} has no picture that can be shown")
    headers = {"Cache-Control": "private, max-age=86400, immutable", "X-Content-Type-Options": "nosniff"}
    return Response(picture, media_type="image/jpeg", headers=headers)


@router.get("/", include_in_schema=False)
async def page() -> Response:
    """The page."""
    return _file("index.html", "text/html")


@router.get("/page/{file}", include_in_schema=False)
async def page_file(file: str) -> Response:
    """Its style, script and icon."""
    kind = _TYPES.get(file.rpartition(".")[2])
    if not kind or file not in {path.name for path in files("clip_search").joinpath("page").iterdir()}:
        raise NotFound(f"no {file[:100]!r} here: the page is at /")
    return _file(file, kind)


def picture_of(found: Collection, row: int, sidecar: Sidecar) -> bytes | None:
    """The thumbnail that was kept of a row, or one of its source where that lies below a folder named at start."""
    names = [name for name in ("thumbnail", "source", "image_path") if name in found.table.schema.names]
    values = found.table.get([row], names).get(row)
    if values is None:
        return None
    if values["thumbnail"]:
        return bytes(values["thumbnail"])
    return picture_at((values.get("image_path"), values["source"]), sidecar)


def thumbnails_of(found: Collection, rows: Sequence[int]) -> dict[int, bytes]:
    """Return the thumbnails that were kept, by row."""
    kept = found.table.get(rows, ["thumbnail"])
    return {row: bytes(values["thumbnail"]) for row, values in kept.items() if values["thumbnail"]}


def picture_at(paths: Iterable[str | None], sidecar: Sidecar) -> bytes | None:
    """A thumbnail of the first file that is there and lies below a folder named at start.

    Raises:
        Busy: others have the memory for it.
    """
    options = sidecar.options.fetch
    for path in filter(None, paths if options.folders else ()):
        try:
            return thumbnail(fetch.read(path, options), sidecar.decoding)
        except Busy:
            raise
        except ClipError:
            continue
    return None


def _file(name: str, kind: str) -> Response:
    content = files("clip_search").joinpath("page", name).read_bytes()
    headers = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
    return Response(content, media_type=kind, headers=headers)
