"""A collector of OpenTelemetry: takes spans over HTTP as protobuf or JSON, and keeps them."""

from __future__ import annotations

import base64
import contextlib
import gzip
import http.server
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_IDS = re.compile(rb'"(traceId|spanId|parentSpanId)":"([0-9a-f]*)"')
"""Ids in OTLP's JSON are hexadecimal (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding), protobuf's base64."""


@dataclass(frozen=True)
class Span:
    """A span as it was sent."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    attributes: dict[str, Any]
    start_ns: int
    end_ns: int


class Collector:
    """Spans that came in."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.url = ""

    def wait_for(self, is_there: Callable[[list[Span]], bool], timeout_s: float = 60) -> list[Span]:
        """The spans, once they are as expected."""
        deadline = time.monotonic() + timeout_s
        while not is_there(self.spans):
            assert time.monotonic() < deadline, [(span.service, span.name) for span in self.spans]
            time.sleep(0.05)
        return self.spans

    def take(self, body: bytes, kind: str) -> None:
        """Keep the spans of a request."""
        message = ExportTraceServiceRequest()
        if "json" in kind:
            json_format.Parse(
                _IDS.sub(lambda id: b'"%b":"%b"' % (id[1], base64.b64encode(bytes.fromhex(id[2].decode()))), body), message
            )
        else:
            message.ParseFromString(body)
        for resource in message.resource_spans:
            service = {each.key: each.value.string_value for each in resource.resource.attributes}["service.name"]
            self.spans += [_span(service, span) for scope in resource.scope_spans for span in scope.spans]


def _span(service: str, span: Any) -> Span:
    attributes = {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}
    ids = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
    return Span(service, span.name, *ids, attributes, span.start_time_unix_nano, span.end_time_unix_nano)


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens."""
    collector = Collector()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            body = self.rfile.read(int(self.headers["content-length"]))
            is_zipped = self.headers.get("content-encoding") == "gzip"
            collector.take(gzip.decompress(body) if is_zipped else body, self.headers["content-type"])
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    collector.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
