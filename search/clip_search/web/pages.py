"""Pages: the search page, and the API's description by Swagger UI. Their files are open to all; what they ask for is not."""

import functools
from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, Response
from starlette.responses import RedirectResponse

from clip_search.errors import NotFound

router = APIRouter(include_in_schema=False)
_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml", "html": "text/html"}
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'self'"
)
_SWAGGER = ("swagger-ui-bundle.js", "swagger-ui.css")


@router.get("/")
async def page() -> Response:
    """Return the search page."""
    return _file("index.html")


@router.get("/docs")
async def docs() -> Response:
    """Return the page that describes the API; it loads the OpenAPI document with the user's token."""
    return _file("docs.html")


@router.get("/redoc")
async def redoc() -> Response:
    """Lead to the only description that there is."""
    return RedirectResponse("/docs")


@router.get("/page/{file:path}")
async def page_file(file: str) -> Response:
    """Return a style, script or icon of the pages."""
    return _file(file)


@functools.cache
def _files() -> dict[str, Path]:
    """Return the files by the end of their address: nothing else is ever read."""
    folder, swagger = (
        Path(str(files("clip_search").joinpath("page"))),
        Path(str(files("fastapi_swagger").joinpath("resources"))),
    )
    own = (path for path in folder.rglob("*") if path.suffix[1:] in _TYPES)
    return {**{path.relative_to(folder).as_posix(): path for path in own}, **{name: swagger / name for name in _SWAGGER}}


def _file(name: str) -> Response:
    path = _files().get(name)
    if path is None:
        raise NotFound(f"no {name[:100]!r} here: the page is at /")
    headers = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
    return Response(path.read_bytes(), media_type=_TYPES[path.suffix[1:]], headers=headers)
