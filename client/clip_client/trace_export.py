"""Export of spans to a collector of OpenTelemetry, over HTTP; needs the extra ``traces``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from clip_client.errors import InvalidInput

_PATH = "/v1/traces"  # of OTLP over HTTP
_EXPORT_S = 3.0  # for a batch of spans to arrive, and so for the last ones at the end


def collector(text: str) -> str:
    """Parse the URL of a collector: ``http://localhost:4318``."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        raise argparse.ArgumentTypeError("the collector of traces isn't a URL of http or https: expected http://localhost:4318")
    return text.rstrip("/")


def endpoint(url: str) -> str:
    """Return the URL that spans are posted to."""
    return url if urlsplit(url).path not in ("", "/") else f"{url}{_PATH}"


def share(text: str) -> float:
    """Parse a share of requests, from 0 to 1."""
    if not 0 <= float(text) <= 1:
        raise argparse.ArgumentTypeError(f"{text} isn't a share from 0 to 1")
    return float(text)


def add_trace_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of traces."""
    add = parser.add_argument
    add("--traces", type=collector, metavar="URL", help="OpenTelemetry collector that spans are sent to (OTLP over HTTP)")
    add("--traces-share", type=share, default=1.0, metavar="SHARE", help="of the requests that are traced")


@contextmanager
def exported(url: str | None, traced: float, service: str) -> Iterator[Any]:
    """Give a tracer whose spans are sent to a collector until the end; None where there is no URL.

    A caller who records decides for the sidecar, too; of the others a share is recorded.

    Raises:
        InvalidInput: OpenTelemetry isn't installed.
    """
    if url is None:
        yield None
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    except ImportError as problem:
        raise InvalidInput(f"--traces needs another package ({problem}): pip install 'clipserve[traces]'") from problem
    ratio = TraceIdRatioBased(traced)
    sampler = ParentBased(ratio, remote_parent_not_sampled=ratio)
    provider = TracerProvider(sampler, Resource.create({"service.name": service}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint(url), timeout=_EXPORT_S)))
    try:
        yield provider.get_tracer(service)
    finally:
        provider.shutdown()
