"""Requests of several clients at once, each sending its next one as soon as the last is answered."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import fmean, median

from measuring import Timings

Request = Callable[[int], object]


@dataclass(frozen=True)
class Load:
    """One run.

    Attributes:
        times: of each request, as its client saw it.
        wall_s: from the first request to the last answer.
        client_cpu_s: CPU seconds that the clients' threads used.
    """

    times: Timings
    wall_s: float
    client_cpu_s: float

    @property
    def per_s(self) -> float:
        """Requests answered a second."""
        return len(self.times.seconds) / self.wall_s

    @property
    def mean_ms(self) -> float:
        """Of a request."""
        return 1000 * fmean(self.times.seconds)

    @property
    def client_ms(self) -> float:
        """CPU time of its client, of a mean request."""
        return 1000 * self.client_cpu_s / len(self.times.seconds)


def load(request: Request, clients: int, requests: int) -> Load:
    """Send requests 0, 1, 2, … from so many threads; each takes the next number."""
    numbers, start_line = itertools.count(), threading.Barrier(clients)

    def client(_: int) -> tuple[list[float], float, float, float]:
        start_line.wait()
        began, seconds = time.perf_counter(), []
        while (number := next(numbers)) < requests:
            start = time.perf_counter()
            request(number)
            seconds.append(time.perf_counter() - start)
        return seconds, began, time.perf_counter(), time.thread_time()

    with ThreadPoolExecutor(clients) as pool:  # new threads, whose CPU time begins at nought
        seconds, began, ended, cpu_s = zip(*pool.map(client, range(clients)), strict=True)
    return Load(Timings(tuple(itertools.chain(*seconds))), max(ended) - min(began), sum(cpu_s))


def median_per_s(loads: Sequence[Load]) -> float:
    """Of several runs, the middle throughput."""
    return median(one.per_s for one in loads)


def median_ms(loads: Sequence[Load], percent: float) -> float:
    """Of several runs, the middle one of their percentiles."""
    return median(one.times.percentile_ms(percent) for one in loads)
