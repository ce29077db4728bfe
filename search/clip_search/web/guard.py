"""Guard around every route: it checks host, site, token and size, and gives errors their form."""

import logging
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

import orjson
from starlette.datastructures import Headers
from starlette.responses import Response

from clip_client.errors import ClipError, InvalidInput, Unavailable
from clip_client.host_names import is_address
from clip_client.request_ids import current
from clip_search.errors import TooMany, status
from clip_search.storage.kinds import for_json
from clip_search.web.app_state import State
from clip_search.web.body_reader import Receive, check_size
from clip_search.web.client_address import client_of
from clip_search.web.refusal import Refused
from clip_search.web.tokens import Caller

_LOG = logging.getLogger(__name__)
_RETRY_AFTER_S, _TURN_AFTER_S = 5, 1
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::(\d{1,5}))?")
_OPEN = ("/health/live", "/health/ready", "/", "/docs")
"""Reachable without the token, beside the pages' files: probes, and the pages, which ask for it."""

_WATCHED = ("/metrics", "/metrics-summary")
_PAGES = ("/", "/docs")  # paths that links of other sites may lead to, beside the page's files
_OWN_SITES = {"", "same-origin", "none"}
"""Sec-Fetch-Site of programs, of the page itself, of what a user types; ``same-site`` is another port or host name."""

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Guard:
    """ASGI middleware: checks host, site, origin, token and size, bounds bodies, counts answers, makes errors JSON."""

    def __init__(self, app: App, shared: State) -> None:
        self._app, self._options = app, shared.sidecar.options.http
        self._metrics, self._reader, self._tokens = shared.metrics, shared.reader, shared.tokens
        self._turns = shared.reader.turns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it here."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        start, seen = time.perf_counter(), [0]
        self._metrics.in_flight.inc()
        scope["body"] = body = self._reader.body(scope, receive)

        async def counted(message: MutableMapping[str, Any]) -> None:
            seen[0] = message.get("status", seen[0])
            await send(message)

        try:
            headers = Headers(scope=scope)
            self._check(scope, headers)
            async with self._turn(scope, headers):
                await self._app(scope, receive, counted)
        except Exception as problem:
            if seen[0]:  # too late for another answer: the server closes the connection
                _LOG.exception("an answer broke off")
            else:
                await failure(problem)(scope, receive, counted)
        finally:
            body.close()
            self._metrics.in_flight.dec()
        self._metrics.answered(_route(scope), seen[0], time.perf_counter() - start)

    def _turn(self, scope: Scope, headers: Headers) -> AbstractAsyncContextManager[None]:
        """Return the turn of a request; probes and pages, and what watches the sidecar, need none."""
        caller: Caller | None = scope.get("caller")
        peer = scope.get("peer", scope["client"])  # uvicorn lets any program of this machine change the latter
        name = f"token {caller.name}" if caller else client_of(peer, headers.getlist("x-forwarded-for"), self._options.proxies)
        scope["body"].client = name
        return nullcontext() if is_open(scope["path"]) or scope["path"] in _WATCHED else self._turns.turn(name)

    def _check(self, scope: Scope, headers: Headers) -> None:
        hosts = headers.getlist("host")
        if len(hosts) != 1:
            raise Refused(400, f"there are {len(hosts)} Host headers: expected one")
        self._check_host(hosts[0])
        if not _is_page(scope["path"]):
            self._check_site(headers)
        for origin in headers.getlist("origin"):
            self._check_origin(origin, hosts[0])
        length = headers.get("content-length", "0")
        if length.isdecimal():
            check_size(int(length), self._reader.limit(scope["path"]))
        if self._tokens.are_asked_for and not is_open(scope["path"]) and scope["method"] != "OPTIONS":
            scope["caller"] = self._caller(headers.get("authorization", ""))

    def _check_host(self, host: str) -> None:
        """Refuse names that aren't the sidecar's: a page elsewhere may point its own name at this machine."""
        match = _HOST.fullmatch(host)
        name = (match[1] or match[2]).lower() if match else ""
        if not match or int(match[3] or 0) > 65_535 or (match[1] and not is_address(name)):
            raise Refused(400, f"the Host header is {host[:100]!r}: expected a name or an address, and perhaps a port")
        if name not in ("localhost", self._options.host, *self._options.names) and not is_address(name):
            raise Refused(403, f"the Host header names {name[:100]!r}: start the sidecar with --name {name[:100]}")

    def _check_origin(self, origin: str, host: str) -> None:
        """Refuse pages of other sites, unless allowed: a browser says which page asks."""
        if not origin or "*" in self._options.origins or origin in self._options.origins:
            return
        if origin.partition("://")[2] != host:
            raise Refused(403, f"pages of {origin[:100]} may not call this sidecar: start it with --cors {origin[:100]}")

    def _check_site(self, headers: Headers) -> None:
        """Refuse what other sites' pages load without reading it, images say: a browser says which site is behind a request."""
        sites = {site.strip().lower() for site in ",".join(headers.getlist("sec-fetch-site")).split(",")}
        pages = {*headers.getlist("origin"), *map(_origin, headers.getlist("referer"))}
        if sites <= _OWN_SITES or "*" in self._options.origins or (pages and pages <= set(self._options.origins)):
            return
        raise Refused(403, "pages of other sites may not call this sidecar: start it with --cors and the page's origin")

    def _caller(self, header: str) -> Caller:
        """Return who sent the token; its scopes are checked once the route is known."""
        if caller := self._tokens.caller(header):
            return caller
        raise Refused(401, "the token is missing or wrong: send 'Authorization: Bearer TOKEN'")


def failure(problem: Exception) -> Response:
    """Return an error as JSON: ``error`` as OpenAI's clients read it, ``message`` as clip-retrieval's do."""
    if isinstance(problem, Refused):
        code = problem.code
    elif isinstance(problem, ClipError):
        code = status(problem)
    else:
        _LOG.error("a request failed", exc_info=problem)
        code, problem = 500, ClipError("the sidecar failed: its log says more")
    message = str(problem)
    details: dict[str, Any] = {"message": message, "type": type(problem).__name__, "param": None, "code": code}
    if current().id:
        details["request_id"] = current().id
    if isinstance(problem, InvalidInput) and problem.errors:
        details["errors"] = {str(n): reason for n, reason in problem.errors.items()}
    pause_s = _TURN_AFTER_S if isinstance(problem, TooMany) else _RETRY_AFTER_S
    headers = {"Retry-After": str(pause_s)} if isinstance(problem, Unavailable) else {}
    if code == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if code == 408:
        headers["Connection"] = "close"
    return answer({"message": message, "error": details}, code, headers)


def answer(content: Any, code: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a JSON response."""
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY, default=for_json)
    return Response(body, code, headers, "application/json")


def _route(scope: Scope) -> str:
    """Return the route's pattern, not the path: each id would be a series of its own."""
    return getattr(scope.get("route"), "path", "other")


def is_open(path: str) -> bool:
    """Tell if a path is reachable without the token."""
    return path in _OPEN or path.startswith("/page/")


def _is_page(path: str) -> bool:
    return path in _PAGES or path.startswith("/page/")


def _origin(url: str) -> str:
    """Return scheme, host and port of a page."""
    return "/".join(url.split("/", 3)[:3])
