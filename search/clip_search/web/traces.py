"""Spans of requests and their steps for OpenTelemetry, whose libraries are loaded only where traces are recorded."""

import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from clip_client.request_ids import RequestContext, fresh, parent, traceparent_of
from clip_search.steps import Steps


@dataclass(frozen=True)
class Span:
    """Span of a request, and the clock of its steps: nanoseconds since 1970 where ``time.perf_counter`` is 0."""

    recorded: Any
    zero_ns: int

    def ns(self, counter_s: float) -> int:
        """Return a time of ``time.perf_counter`` in nanoseconds since 1970."""
        return self.zero_ns + int(counter_s * 1e9)


class Traces:
    """Recorder of spans; without a tracer none are recorded."""

    def __init__(self, tracer: Any = None) -> None:
        self._tracer = tracer

    @contextmanager
    def request(self, scope: MutableMapping[str, Any], sent: RequestContext) -> Iterator[tuple[RequestContext, Span | None]]:
        """Begin the span of a request, if spans are recorded; give the ids that it goes on with."""
        if self._tracer is None:
            yield fresh(sent), None
            return
        from opentelemetry import trace

        zero_ns = time.time_ns() - time.perf_counter_ns()
        span = self._tracer.start_span(scope["method"], parent(trace, sent), kind=trace.SpanKind.SERVER)
        yield fresh(RequestContext(sent.id, traceparent_of(span), self._tracer)), Span(span, zero_ns)

    def end(self, span: Span | None, answer: "Answer") -> None:
        """End the span of a request, with one for each of its steps."""
        if span is None or self._tracer is None:
            return
        from opentelemetry import trace

        recorded, steps = span.recorded, answer.steps
        if recorded.is_recording():
            inside = trace.set_span_in_context(recorded)
            for name, start, end in steps.taken:
                self._tracer.start_span(name, inside, start_time=span.ns(start)).end(span.ns(end))
        recorded.update_name(f"{answer.method} {answer.route}")
        recorded.set_attributes(
            {
                "http.request.method": answer.method,
                "http.route": answer.route,
                "http.response.status_code": answer.status,
                "clipserve.request_id": answer.request_id,
            }
        )
        if answer.status >= 500 or not answer.status:
            recorded.set_status(trace.Status(trace.StatusCode.ERROR))
        recorded.end()


@dataclass(frozen=True)
class Answer:
    """Answer to a request, as its span tells it."""

    method: str
    route: str
    status: int
    request_id: str
    steps: Steps
