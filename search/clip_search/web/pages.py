"""Pages: the search page, and the API's description by Swagger UI. Their files are open to all; what they ask for is not."""

from importlib.resources import files

from fastapi import APIRouter, Response
from starlette.responses import RedirectResponse

from clip_search.errors import NotFound

router = APIRouter(include_in_schema=False)
_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml", "html": "text/html"}
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; "
    "frame-ancestors 'self'"
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


@router.get("/page/{file}")
async def page_file(file: str) -> Response:
    """Return a style, script or icon of the pages."""
    return _file(file)


def _file(name: str) -> Response:
    folder = files("fastapi_swagger").joinpath("resources") if name in _SWAGGER else files("clip_search").joinpath("page")
    if name not in {path.name for path in folder.iterdir()}:
        raise NotFound(f"no {name[:100]!r} here: the page is at /")
    headers = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
    return Response(folder.joinpath(name).read_bytes(), media_type=_TYPES[name.rpartition(".")[2]], headers=headers)
