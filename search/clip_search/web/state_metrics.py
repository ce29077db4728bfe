"""Metrics of the process, read at each scrape: readiness, threads, budgets, caches, memory, disks, versions."""

import dataclasses
import platform
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from clip_client.help_texts import version
from clip_search.lru import Lru
from clip_search.web.app_state import State
from clip_search.web.health import missing
from clip_search.web.thread_pool import Pool

_SHOWN_FINGERPRINT = 12  # digits, as in messages


class StateMetrics(Collector):
    """Gauges and counters of one application's state."""

    def __init__(self, shared: State) -> None:
        self._shared = shared
        pools = {field.name: getattr(shared, field.name) for field in dataclasses.fields(shared)}
        self._pools: Mapping[str, Pool] = {name: pool for name, pool in pools.items() if isinstance(pool, Pool)}

    def describe(self) -> Iterable[Metric]:
        """Return no names."""
        return []  # or it would be collected once while it is registered

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        yield from self._versions()
        yield from self._readiness()
        yield from self._threads()
        yield from self._turns()
        yield from self._budgets()
        yield from self._texts()
        yield from self._memory()
        yield from self._disks()

    def _versions(self) -> Iterator[Metric]:
        options, spec = self._shared.sidecar.options, self._shared.sidecar.embedder.known()
        about = {"component": "search", "version": _number(version()), "python": platform.python_version()}
        engine = {"engine": options.index.engine, "read_only": str(options.read_only).lower()}
        yield InfoMetricFamily("clipserve_build", "Version of the sidecar", value={**about, **engine})
        model = InfoMetricFamily("clipserve_model", "Model that Triton serves, while it is known", labels=[])
        if spec:
            model.add_metric([], {"model": spec.name, "fingerprint": spec.fingerprint[:_SHOWN_FINGERPRINT]})
        yield model

    def _readiness(self) -> Iterator[Metric]:
        not_ready = missing(self._shared)
        yield GaugeMetricFamily("clipserve_ready", "1 while /health/ready answers 200, else 0", value=not not_ready)
        parts = GaugeMetricFamily("clipserve_part_ready", "1 while a part is ready, else 0", labels=["part"])
        for part in ("triton", "database"):
            parts.add_metric([part], part not in not_ready)
        parts.add_metric(["collections"], not any(name.startswith("collection") for name in not_ready))
        yield parts

    def _threads(self) -> Iterator[Metric]:
        gauges = {
            "threads": "Calls that a pool runs at once",
            "running": "Calls that it runs now",
            "waiting": "Calls that wait for a thread",
            "line": "Calls that may wait; more are refused",
        }
        for name, text in gauges.items():
            gauge = GaugeMetricFamily(f"clipserve_pool_{name}", text, labels=["pool"])
            for pool, threads in self._pools.items():
                gauge.add_metric([pool], getattr(threads, name))
            yield gauge
        refused = CounterMetricFamily(
            "clipserve_pool_refused", "Calls that found no place, or no thread in time", labels=["pool"]
        )
        for pool, threads in self._pools.items():
            refused.add_metric([pool], threads.refused)
        yield refused

    def _turns(self) -> Iterator[Metric]:
        turns = self._shared.reader.turns
        yield GaugeMetricFamily("clipserve_clients", "Clients that asked in the last seconds", value=turns.clients)
        yield GaugeMetricFamily("clipserve_turns_waiting", "Requests that wait for their client's turn", value=turns.waiting)

    def _budgets(self) -> Iterator[Metric]:
        reader, sidecar = self._shared.reader, self._shared.sidecar
        budgets = {
            "body_memory": reader.memory,
            "body_disk": reader.disk,
            "fetched_pictures": sidecar.fetched,
            "decoding": sidecar.decoding,
        }
        gauges = {"taken_bytes": "taken", "limit_bytes": "total", "waiting": "waiting"}
        texts = ("Bytes that requests have now", "Bytes there are", "Requests that wait for some")
        for (name, attribute), text in zip(gauges.items(), texts, strict=True):
            gauge = GaugeMetricFamily(f"clipserve_budget_{name}", text, labels=["budget"])
            for which, budget in budgets.items():
                gauge.add_metric([which], getattr(budget, attribute))
            yield gauge
        refused = CounterMetricFamily("clipserve_budget_refused", "Requests that got none in time", labels=["budget"])
        for which, budget in budgets.items():
            refused.add_metric([which], budget.refused)
        yield refused

    def _texts(self) -> Iterator[Metric]:
        embedder, labels = self._shared.sidecar.embedder, self._shared.labels
        caches: dict[str, Lru[Any, Any]] = {"texts": embedder.cache, "labels": labels}
        hits = CounterMetricFamily("clipserve_cache_hits", "Questions that a cache answered", labels=["cache"])
        misses = CounterMetricFamily("clipserve_cache_misses", "Questions that it didn't", labels=["cache"])
        entries = GaugeMetricFamily("clipserve_cache_entries", "Entries of a cache", labels=["cache"])
        for name, cache in caches.items():
            hits.add_metric([name], cache.hits)
            misses.add_metric([name], cache.misses)
            entries.add_metric([name], len(cache))
        yield from (hits, misses, entries)
        yield GaugeMetricFamily("clipserve_texts_waiting", "Texts of searches that wait to be embedded", value=embedder.waiting)
        yield CounterMetricFamily(
            "clipserve_text_batches", "Batches of texts of searches sent to Triton", value=embedder.batches
        )
        yield CounterMetricFamily("clipserve_batched_texts", "Texts in these batches", value=embedder.batched)

    def _memory(self) -> Iterator[Metric]:
        limit = self._shared.sidecar.options.index.memory_bytes
        yield GaugeMetricFamily("clipserve_memory_limit_bytes", "--memory: what the process may take", value=limit)
        if (anonymous := anonymous_bytes()) is not None:
            text = "Memory that the system can't take back, which --memory bounds"
            yield GaugeMetricFamily("clipserve_memory_anonymous_bytes", text, value=anonymous)

    def _disks(self) -> Iterator[Metric]:
        free = GaugeMetricFamily("clipserve_disk_free_bytes", "Room on a disk", labels=["folder"])
        size = GaugeMetricFamily("clipserve_disk_size_bytes", "Size of that disk", labels=["folder"])
        options = self._shared.sidecar.options
        folders = (
            {"indexes": options.indexes} if "://" in options.data else {"data": Path(options.data), "indexes": options.indexes}
        )
        for name, folder in folders.items():
            try:
                usage = shutil.disk_usage(folder)
            except OSError:  # it is away: readiness tells the reason
                continue
            free.add_metric([name], usage.free)
            size.add_metric([name], usage.total)
        yield from (free, size)


def anonymous_bytes() -> int | None:
    """Return the anonymous memory of this process, of Linux' /proc (proc(5)); None elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    kilobytes = {name: value.split()[0] for name, _, value in (line.partition(":") for line in lines) if value.endswith("kB")}
    return int(kilobytes["RssAnon"]) * 1024 if "RssAnon" in kilobytes else None


def _number(text: str) -> str:
    """Return the version of ``clipserve X``; "unknown" if it isn't installed."""
    return text.removeprefix("clipserve ") if text.startswith("clipserve ") else "unknown"
