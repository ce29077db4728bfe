"""Metrics of the sidecar for Prometheus: clip-retrieval's histograms, and counters and gauges of clipserve."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from clip_client.errors import ClipError
from clip_search.sidecar import Sidecar
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

_BUCKETS = (0.0005, 0.001, 0.002, 0.004, 0.006, 0.008, 0.012, 0.016, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """Counters, histograms and gauges of one sidecar."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._registry = CollectorRegistry()
        self._steps = {name: Histogram(name, text, registry=self._registry, buckets=_BUCKETS) for name, text in STEPS.items()}
        self._requests = Counter(
            "clipserve_requests", "Answers by route and status", ["route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "clipserve_request_seconds", "Time to answer", ["route"], registry=self._registry, buckets=_BUCKETS
        )
        self._registry.register(_Collections(sidecar))
        self.feedback = FeedbackMetrics(sidecar.feedback)
        self._registry.register(self.feedback)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Observe the duration of a step, one of STEPS."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._steps[step].observe(time.perf_counter() - start)

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


class _Collections(Collector):
    """Gauges of the rows and the recall of each collection, read at each scrape."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar

    def describe(self) -> Iterable[Metric]:
        return []  # or it would be collected once while it is registered

    def collect(self) -> Iterable[Metric]:
        rows = GaugeMetricFamily("clipserve_collection_rows", "Rows with a vector", labels=["collection", "tower"])
        recall = GaugeMetricFamily(
            "clipserve_collection_recall", "Recall at 10 reached on text queries", labels=["collection", "tower"]
        )
        behind = GaugeMetricFamily(
            "clipserve_collection_behind_seconds",
            "Time for which changes may have gone unseen, with --read-only",
            labels=["collection"],
        )
        for collection in self._sidecar.collections():
            if collection.behind_s is not None:
                behind.add_metric([collection.name], collection.behind_s)
            for tower, engine in collection.engines.items():
                try:
                    stats = engine.stats()
                except ClipError:  # dropped this instant, or its disk is away; the others are shown
                    continue
                rows.add_metric([collection.name, tower], stats["rows"])
                if stats.get("recall") is not None:
                    recall.add_metric([collection.name, tower], stats["recall"])
        return [rows, recall, behind]


def _totals(histogram: Histogram) -> tuple[float, float]:
    samples = {sample.name: sample.value for metric in histogram.collect() for sample in metric.samples}
    name = next(iter(histogram.collect())).name
    return samples[f"{name}_count"], samples[f"{name}_sum"]


def _aligned(table: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[n]) for row in table) for n in range(len(table[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table)
