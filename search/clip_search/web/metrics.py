"""Metrics of requests for Prometheus: clip-retrieval's histograms, and those of clipserve; others are read at each scrape."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.registry import Collector

from clip_search.feedback import Feedback
from clip_search.web.feedback_metrics import FeedbackMetrics

STEPS = {
    "full_knn_request_time": "Time spent processing a request to the knn service",
    "download_time": "Time spent downloading a picture by its URL",
    "text_clip_inference_time": "Time spent embedding texts",
    "image_clip_inference_time": "Time spent embedding images",
    "metadata_get_time": "Time spent getting metadata",
    "knn_index_time": "Time spent searching the index",
    "dedup_time": "Time spent dropping duplicates",
    "safety_time": "Time spent on safety filters (none here: requests for them are passed over)",
    "image_prepro_time": "Time spent getting an image ready for Triton, which decodes and resizes it",
    "text_prepro_time": "Time spent getting a text ready for Triton, which tokenises it",
}
"""Histogram → description; the names are those of clip-retrieval's back."""

_CONVENTIONAL = {
    "full_knn_request_time": "knn_request",
    "download_time": "download",
    "text_clip_inference_time": "embed_text",
    "image_clip_inference_time": "embed_image",
    "metadata_get_time": "metadata",
    "knn_index_time": "index",
    "dedup_time": "duplicates",
    "safety_time": "safety",
    "image_prepro_time": "prepare_image",
    "text_prepro_time": "prepare_text",
}
"""Histogram of clip-retrieval's → value of the label ``step`` of ``clipserve_step_seconds``, which has the same times."""

_BUCKETS = (0.0005, 0.001, 0.002, 0.004, 0.006, 0.008, 0.012, 0.016, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """Counters and histograms of one sidecar, and whatever is registered besides."""

    def __init__(self, feedback: Feedback) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._steps = {name: Histogram(name, text, registry=self._registry, buckets=_BUCKETS) for name, text in STEPS.items()}
        self._requests = Counter(
            "clipserve_requests", "Answers by route and status", ["route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "clipserve_request_seconds", "Time to answer", ["route"], registry=self._registry, buckets=_BUCKETS
        )
        self.feedback = FeedbackMetrics(feedback)
        self._registry.register(self.feedback)
        self.in_flight = Gauge("clipserve_requests_in_flight", "Requests being answered", registry=self._registry)
        steps = Histogram(
            "clipserve_step_seconds", "Time of a step of a search", ["step"], registry=self._registry, buckets=_BUCKETS
        )
        self._named = {name: steps.labels(step) for name, step in _CONVENTIONAL.items()}

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Observe the duration of a step, one of STEPS."""
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            self._steps[step].observe(seconds)
            self._named[step].observe(seconds)

    def register(self, *collectors: Collector) -> None:
        """Add metrics that are read at each scrape."""
        for collector in collectors:
            self._registry.register(collector)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def summary(self) -> str:
        """Return the steps of the knn service as a table, in clip-retrieval's words."""
        totals = {name: _totals(histogram) for name, histogram in self._steps.items()}
        count, seconds = totals["full_knn_request_time"]
        if not count:
            return "No request yet, go do some"
        rows = [(name, STEPS[name], calls, total / calls, total / seconds) for name, (calls, total) in totals.items() if calls]
        rows.sort(key=lambda row: -row[3])
        table: list[tuple[str, ...]] = [("name", "description", "calls", "average", "proportion")]
        table += [(name, text, str(int(calls)), f"{mean:.4f}s", f"{share:.1%}") for name, text, calls, mean, share in rows]
        return (
            f"Among {int(count)} calls to the knn end point with an average latency of {seconds / count:.4f}s per request, "
            "the step costs are (in order): \n\n" + _aligned(table)
        )


def _totals(histogram: Histogram) -> tuple[float, float]:
    samples = {sample.name: sample.value for metric in histogram.collect() for sample in metric.samples}
    name = next(iter(histogram.collect())).name
    return samples[f"{name}_count"], samples[f"{name}_sum"]


def _aligned(table: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[n]) for row in table) for n in range(len(table[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table)
