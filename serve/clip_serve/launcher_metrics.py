"""Metrics of the launcher, behind Triton's own: versions, readiness, crashes, Triton's processes, shared memory."""

import contextlib
import platform
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

import psutil
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from clip_client.help_texts import version
from clip_inside_triton import TRITON_RELEASE
from clip_serve.leftovers import SHARED_MEMORY


class LauncherMetrics(Collector):
    """Figures that are read at each scrape.

    Args:
        trouble: tells the reason why the server isn't ready; empty if it is.
    """

    def __init__(self, trouble: Callable[[], str]) -> None:
        self._trouble = trouble
        self._crashes, self._crashed_at = 0, 0.0
        self.processes: Callable[[], Mapping[psutil.Process, str]] = dict  # Triton's, with their names
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._registry.register(self)

    def note_crash(self) -> None:
        """Count a crash."""
        self._crashes, self._crashed_at = self._crashes + 1, time.time()

    def text(self) -> bytes:
        """Return all of them in Prometheus' text format."""
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """Return no names."""
        return []  # or it would be collected once while it is registered

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        about = {"component": "launcher", "version": version().removeprefix("clipserve "), "python": platform.python_version()}
        yield InfoMetricFamily("clipserve_build", "Version of the launcher", value={**about, "triton": TRITON_RELEASE})
        yield GaugeMetricFamily("clipserve_triton_ready", "1 while Triton is ready, else 0", value=not self._trouble())
        yield CounterMetricFamily(
            "clipserve_triton_crashes", "Crashes after which Triton was started again", value=self._crashes
        )
        text = "Last crash, since 1970; 0 for none since the start"
        yield GaugeMetricFamily("clipserve_triton_crash_timestamp_seconds", text, value=self._crashed_at)
        yield from self._processes()
        with contextlib.suppress(OSError):
            usage = shutil.disk_usage(SHARED_MEMORY)
            yield GaugeMetricFamily("clipserve_shared_memory_free_bytes", f"Room in {SHARED_MEMORY}", value=usage.free)
            yield GaugeMetricFamily("clipserve_shared_memory_size_bytes", f"Size of {SHARED_MEMORY}", value=usage.total)

    def _processes(self) -> Iterator[Metric]:
        """Yield memory and time of Triton's processes, those of a model's instances as one."""
        memory: Counter[str] = Counter()
        seconds: defaultdict[str, float] = defaultdict(float)
        for process, name in self.processes().items():
            with contextlib.suppress(psutil.Error):  # it has just ended
                times = process.cpu_times()
                memory[name] += process.memory_info().rss
                seconds[name] += times.user + times.system
        resident = GaugeMetricFamily(
            "clipserve_triton_memory_bytes", "Resident memory of Triton's processes", labels=["process"]
        )
        spent = CounterMetricFamily("clipserve_triton_cpu_seconds", "Processor time of Triton's processes", labels=["process"])
        for name in memory:
            resident.add_metric([name], memory[name])
            spent.add_metric([name], seconds[name])
        yield from (resident, spent)
