"""Metrics of feedback for Prometheus: what came and went, by kind, and what is kept, by collection."""

import threading
from collections import Counter
from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from clip_search.feedback import Feedback

_MOST_COLLECTIONS = 50  # series of their own; the others are one


class FeedbackMetrics(Collector):
    """Counters and gauges of all collections' feedback, read at each scrape."""

    def __init__(self, feedback: Feedback) -> None:
        self._feedback = feedback
        self._lock = threading.Lock()
        self._refused = 0

    def refused(self) -> None:
        """Count feedback that wasn't taken."""
        with self._lock:
            self._refused += 1

    def describe(self) -> Iterable[Metric]:
        """Return nothing, or it would be collected while it is registered."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Return the metrics as they are now."""
        total = CounterMetricFamily(
            "clipserve_feedback", "Feedback that came, by kind; was refused; or went: made_room, deleted", labels=["kind"]
        )
        kept = GaugeMetricFamily("clipserve_feedback_events", "Feedback that is kept", labels=["collection"])
        for kind, number in {**self._feedback.counts(), "refused": self._refused}.items():
            total.add_metric([kind], number)
        events: Counter[str] = Counter()
        for n, (name, table) in enumerate(self._feedback.known().items()):
            events[name if n < _MOST_COLLECTIONS else "other"] += table.last_known
        for name, number in events.items():
            kept.add_metric([name], number)
        return [total, kept]
