"""Load generator: several clients at once, each of which sends its next request as soon as its last one is answered."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import fmean, median

from lib.turns import Timings

Request = Callable[[int], object]  # sends the request of a number, and returns when it is answered


@dataclass(frozen=True)
class Load:
    """Result of one load."""

    times: Timings  # latency of each request, as its client saw it
    wall_s: float  # from the first request to the last answer
    client_cpu_s: float  # CPU seconds of the clients' threads

    @classmethod
    def merged(cls, loads: Iterable[Load]) -> Load:
        """Combine loads that ran at the same time."""
        parts = list(loads)
        seconds = itertools.chain.from_iterable(part.times.seconds for part in parts)
        return cls(Timings(tuple(seconds)), max(part.wall_s for part in parts), sum(part.client_cpu_s for part in parts))

    @property
    def per_s(self) -> float:
        """Requests answered a second."""
        return len(self.times.seconds) / self.wall_s

    @property
    def mean_ms(self) -> float:
        """Mean latency."""
        return 1000 * fmean(self.times.seconds)

    @property
    def client_ms(self) -> float:
        """Mean CPU time of a client for one request."""
        return 1000 * self.client_cpu_s / len(self.times.seconds)


def load(
    request: Request, clients: int, requests: float = math.inf, *, seconds: float = math.inf, per_s: float = math.inf
) -> Load:
    """Send requests 0, 1, 2, … from a number of threads, each of which takes the next number.

    Args:
        request: called with each number.
        clients: threads.
        requests, seconds: bounds of the load; whichever is reached first ends it.
        per_s: pace; a request ahead of it waits.
    """
    numbers, start_line = itertools.count(), threading.Barrier(clients)

    def client(_: int) -> tuple[list[float], float, float, float]:
        start_line.wait()
        began, times = time.perf_counter(), list[float]()
        while (number := next(numbers)) < requests and max(number / per_s, time.perf_counter() - began) < seconds:
            if (early_s := began + number / per_s - time.perf_counter()) > 0:
                time.sleep(early_s)
            start = time.perf_counter()
            request(number)
            times.append(time.perf_counter() - start)
        return times, began, time.perf_counter(), time.thread_time()

    with ThreadPoolExecutor(clients) as pool:  # new threads, whose CPU time begins at zero
        times, began, ended, cpu_s = zip(*pool.map(client, range(clients)), strict=True)
    return Load(Timings(tuple(itertools.chain(*times))), max(ended) - min(began), sum(cpu_s))


def median_per_s(loads: Sequence[Load]) -> float:
    """Return the median throughput of several loads."""
    return median(each.per_s for each in loads)


def median_ms(loads: Sequence[Load], percent: float) -> float:
    """Return the median of a latency percentile over several loads."""
    return median(each.times.percentile_ms(percent) for each in loads)
