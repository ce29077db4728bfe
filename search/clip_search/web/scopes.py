"""Scope of each route, and its check."""

from fastapi import Request

from clip_search.options import Scope
from clip_search.web.refusal import Refused
from clip_search.web.tokens import Caller

_READ = """
GET /redoc /v1/collections /v1/collections/{name} /v1/collections/{name}/rows /v1/collections/{name}/rows/{id}
GET /v1/collections/{name}/arrow /v1/collections/{name}/facets /v1/collections/{name}/thumbnails/{row}
GET /v1/collections/{name}/reembed /v1/collections/{name}/reembed/left-out
GET /v1/collections/{name}/pictures/{row} /v1/queries/{id} /v1/models /indices-list /config.json /metrics /metrics-summary
POST /v1/collections/{name}/get /v1/collections/{name}/search /v1/collections/{name}/duplicates /v1/queries /v1/compare
POST /v1/collections/{name}/feedback
POST /v1/classify /v1/embeddings /knn-service /metadata /clip/embed_image /clip/embed_text /clip/compare
"""
_WRITE = """
POST /v1/collections /v1/collections/{name}/rows /v1/collections/{name}/arrow /v1/collections/{name}/delete
POST /v1/collections/{name}/import
DELETE /v1/collections/{name}/rows/{id}
"""
_ADMIN = """
POST /v1/collections/{name}/rebuild /v1/collections/{name}/reembed /v1/collections/{name}/reembed/back
GET /v1/collections/{name}/feedback
DELETE /v1/collections/{name} /v1/collections/{name}/feedback /v1/collections/{name}/reembed
"""


def _listed(table: str, scope: Scope) -> dict[tuple[str, str], Scope]:
    lines = (line.split() for line in table.split("\n"))
    return {(words[0], path): scope for words in lines if words for path in words[1:]}


ROUTES = {**_listed(_READ, "read"), **_listed(_WRITE, "write"), **_listed(_ADMIN, "admin")}
"""Scope by method and path of a route. Pages and ``/health`` need no token; ``/openapi.json`` takes any."""


def scope_of(method: str, path: str) -> Scope:
    """Return the scope of a route by its method and the pattern of its path: the strictest if it isn't listed."""
    return ROUTES.get(("GET" if method == "HEAD" else method, path.replace(":path}", "}")), "admin")


async def check_scope(request: Request) -> None:
    """Raise Refused for a token that lacks the scope of the route; anybody may call where no token is asked for."""
    caller: Caller | None = request.scope.get("caller")
    if caller is None:
        return
    needed = scope_of(request.method, request.scope["route"].path)
    if needed not in caller.scopes:
        raise Refused(
            403,
            f"the token {caller.name} has the scope {', '.join(sorted(caller.scopes))}, this needs {needed}: "
            f"send another token, or add {needed} to it in the sidecar's token file",
        )
