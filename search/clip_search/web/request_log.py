"""Log of requests: ids in and out, and a line for each answer; spans where traces are recorded."""

import logging
import re
import time
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders

from clip_client import logs
from clip_client.request_ids import REQUEST_ID, TRACEPARENT, RequestContext, entered, is_id, is_traceparent
from clip_search import steps as request_steps
from clip_search.steps import Steps
from clip_search.web.body_reader import Receive
from clip_search.web.guard import App, Scope, Send
from clip_search.web.traces import Answer, Traces

_LOG = logging.getLogger("clip_search.requests")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")  # of collections and callers; others may be texts
_QUIET = ("/health/live", "/health/ready", "/metrics")
"""Routes that machines ask every few seconds: their lines are of the level debug."""


class RequestLog:
    """ASGI middleware around all others: gives each request its ids, and logs its answer.

    Args:
        app: application below.
        addresses: the client's address is logged, too.
        traces: spans are recorded there.
    """

    def __init__(self, app: App, *, addresses: bool, traces: Traces) -> None:
        self._app, self._addresses, self._traces = app, addresses, traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and note what comes in and goes out."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        noted = _Noted(receive, send, request_steps.begin())
        with self._traces.request(scope, _ids(Headers(scope=scope))) as (context, span), entered(context):
            noted.request_id = context.id
            try:
                await self._app(scope, noted.received, noted.sent)
            finally:
                self._log(scope, noted)
                self._traces.end(span, Answer(scope["method"], route_of(scope), noted.status, context.id, noted.steps))

    def _log(self, scope: Scope, noted: "_Noted") -> None:
        route = route_of(scope)
        level = logging.DEBUG if route in _QUIET and noted.status < 400 else logging.INFO
        if not _LOG.isEnabledFor(level):
            return
        line: dict[str, Any] = {"method": scope["method"], "route": route, **_names(scope), "status": noted.status}
        line["ms"] = _ms(time.perf_counter() - noted.start)
        line["steps_ms"] = {name: _ms(seconds) for name, seconds in noted.steps.seconds().items()}
        line |= {"bytes_in": noted.bytes_in, "bytes_out": noted.bytes_out}
        if self._addresses and scope.get("client"):
            line["client"] = scope["client"][0]
        logs.log(_LOG, level, "request", line)


class _Noted:
    """Messages of one request on their way, counted."""

    def __init__(self, receive: Receive, send: Send, steps: Steps) -> None:
        self._receive, self._send, self.steps = receive, send, steps
        self.start = time.perf_counter()
        self.status = self.bytes_in = self.bytes_out = 0
        self.request_id = ""

    async def received(self) -> MutableMapping[str, Any]:
        """Receive a message."""
        message = await self._receive()
        self.bytes_in += len(message.get("body", b""))
        return message

    async def sent(self, message: MutableMapping[str, Any]) -> None:
        """Send a message; the head of an answer gets the request's id."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)[REQUEST_ID] = self.request_id
        self.bytes_out += len(message.get("body", b""))
        with self.steps.timed("send"):
            await self._send(message)


def route_of(scope: Scope) -> str:
    """Return the route's pattern, not the path, whose parts may be ids of rows."""
    return getattr(scope.get("route"), "path", "other")


def _ids(headers: Headers) -> RequestContext:
    """Return the ids that a client sent, as far as they can be logged and sent on."""
    sent, place = headers.get(REQUEST_ID, ""), headers.get(TRACEPARENT, "")
    return RequestContext(sent if is_id(sent) else "", place if is_traceparent(place) else "")


def _names(scope: Scope) -> dict[str, str]:
    """Return the collection that a path names, and the name of the caller's token."""
    caller = getattr(scope.get("caller"), "name", None)
    names = {"collection": scope.get("path_params", {}).get("name"), "caller": caller}
    return {key: name for key, name in names.items() if name and _NAME.fullmatch(name)}


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)
