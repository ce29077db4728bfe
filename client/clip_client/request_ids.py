"""Ids of requests: made once a call, sent along over gRPC and HTTP, named by errors, and spans where OpenTelemetry is used.

``traceparent`` is that of W3C Trace Context, https://www.w3.org/TR/trace-context/.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from clip_client.errors import ClipError, InvalidInput

REQUEST_ID, TRACEPARENT = "x-request-id", "traceparent"
"""Headers of HTTP, and keys of gRPC's metadata."""

_ID = re.compile(r"[A-Za-z0-9._:/+=@~-]{1,128}")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_Problem = TypeVar("_Problem", bound=ClipError)
_OPENTELEMETRY = "opentelemetry.trace"  # loaded by an application that traces, never by this package


@dataclass(frozen=True)
class RequestContext:
    """Ids of one request: its own, and its place in a trace; empty where there is none yet.

    Attributes:
        tracer: OpenTelemetry's, that records the spans of calls; None for the one of the application, if it has one.
    """

    id: str = ""
    traceparent: str = ""
    tracer: Any = field(default=None, repr=False, compare=False)

    @property
    def headers(self) -> dict[str, str]:
        """Headers to send along."""
        return {name: value for name, value in ((REQUEST_ID, self.id), (TRACEPARENT, self.traceparent)) if value}

    @property
    def trace_id(self) -> str:
        """Trace id, 32 hexadecimal digits; empty where there is none."""
        return self.traceparent[3:35]

    def named(self, problem: _Problem) -> _Problem:
        """Return an error that has the id, unless it has one already."""
        problem.request_id = problem.request_id or self.id
        return problem


_NONE = RequestContext()
_CURRENT: ContextVar[RequestContext] = ContextVar("clip_client_request", default=_NONE)


def current() -> RequestContext:
    """Return the ids of the request that this code runs for."""
    return _CURRENT.get()


@contextlib.contextmanager
def request_context(request_id: str = "", *, traceparent: str = "") -> Iterator[RequestContext]:
    """Give the calls within these ids, in this thread or task and those that the calls begin.

    >>> with clip_client.request_context("order-17"):
    ...     clip.embed_text("a cat")

    Args:
        request_id: 1 to 128 letters, digits and ``._:/+=@~-``; empty for a new one a call.
        traceparent: of W3C Trace Context; empty for a new trace, or the current span of OpenTelemetry.

    Raises:
        InvalidInput: an id can't be sent.
    """
    if request_id and not is_id(request_id):
        raise InvalidInput(f"request_id is {request_id[:200]!r}: expected 1 to 128 letters, digits and ._:/+=@~-")
    if traceparent and not is_traceparent(traceparent):
        raise InvalidInput(f"traceparent is {traceparent[:200]!r}: expected 00-(32 hex digits)-(16 hex digits)-(2 hex digits)")
    with entered(RequestContext(request_id, traceparent)) as context:
        yield context


def is_id(text: str) -> bool:
    """Tell if a request may have this id: it breaks no header and no line of a log."""
    return _ID.fullmatch(text) is not None


def is_traceparent(text: str) -> bool:
    """Tell if a text is a W3C ``traceparent``."""
    return _TRACEPARENT.fullmatch(text) is not None


@contextlib.contextmanager
def entered(context: RequestContext) -> Iterator[RequestContext]:
    """Have code run for a request with these ids."""
    before = _CURRENT.set(context)
    try:
        yield context
    finally:
        _CURRENT.reset(before)


def fresh(context: RequestContext = _NONE) -> RequestContext:
    """Return ids with what a context lacks: of a new trace that nobody records, and the trace's as the request's."""
    trace = context.trace_id or os.urandom(16).hex()
    return RequestContext(context.id or trace, context.traceparent or f"00-{trace}-{os.urandom(8).hex()}-00", context.tracer)


@contextlib.contextmanager
def call(name: str) -> Iterator[RequestContext]:
    """Run a call to a server: with the ids of its caller, or new ones, in a span of its own where spans are recorded.

    An error that leaves it has the id as ``request_id``.
    """
    given = _CURRENT.get()
    span = _span(name, given)
    context = fresh(replace(given, traceparent=traceparent_of(span) or given.traceparent))
    if span is not None:
        span.set_attribute("clipserve.request_id", context.id)
    before = _CURRENT.set(context)
    try:
        yield context
    except ClipError as problem:
        _note(span, context.named(problem))
        raise
    finally:
        _CURRENT.reset(before)
        if span is not None:
            span.end()


def _span(name: str, given: RequestContext) -> Any:
    """Begin a span below the given place in a trace, or below OpenTelemetry's current span; None where nobody records."""
    api: Any = sys.modules.get(_OPENTELEMETRY)
    if api is None:
        return None
    tracer = given.tracer or api.get_tracer("clip_client")
    span = tracer.start_span(name, parent(api, given), kind=api.SpanKind.CLIENT)
    return span if span.get_span_context().is_valid and span.is_recording() else None


def parent(api: Any, given: RequestContext) -> Any:
    """Return OpenTelemetry's context of a ``traceparent``; None for its own current one."""
    match = _TRACEPARENT.fullmatch(given.traceparent)
    if match is None:
        return None
    flags = api.TraceFlags(int(match[3], 16))
    place = api.SpanContext(int(match[1], 16), int(match[2], 16), is_remote=True, trace_flags=flags)
    return api.set_span_in_context(api.NonRecordingSpan(place))


def traceparent_of(span: Any) -> str:
    """Return the ``traceparent`` of a span of OpenTelemetry's; empty for None."""
    if span is None:
        return ""
    place = span.get_span_context()
    return f"00-{place.trace_id:032x}-{place.span_id:016x}-{int(place.trace_flags):02x}"


def _note(span: Any, problem: ClipError) -> None:
    if span is not None:
        api: Any = sys.modules[_OPENTELEMETRY]
        span.set_status(api.Status(api.StatusCode.ERROR, type(problem).__name__))


def sent(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the current ids as headers, with those of a client, which go before them."""
    return {**_CURRENT.get().headers, **headers}
