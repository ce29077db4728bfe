"""Load at a pace that the answers don't slow down, with the time, latency and outcome of each request."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clip_client.errors import ClipError
from lib.load import load
from lib.mixed_requests import kind

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Answer:
    """Outcome of a request."""

    number: int
    due_s: float  # time at which it was due, since the start of the load
    latency_s: float  # from then on: what waits for a client waits, too
    problem: str = ""  # reason of a failure


class Stopped(Exception):
    """End of a load before its time."""


class PacedLoad:
    """Load in the background, to its end or to that of a block that fails.

    Args:
        send: sends the request of a number.
        first: number of the first request.
        per_s: requests a second, whatever the answers take.
        clients: most requests at one time.
        seconds: length.

    Raises:
        Exception: at the end of the block or in :meth:`check`; what a request raised, unless it is a ClipError.
    """

    def __init__(self, send: Callable[[int], object], first: int, per_s: float, clients: int, seconds: float) -> None:
        self.answers: list[Answer] = []
        self._send, self._first, self._per_s, self._seconds, self._clients = send, first, per_s, seconds, clients
        self._stop, self._lock, self._began = threading.Event(), threading.Lock(), 0.0
        self._pool = ThreadPoolExecutor(1)
        self._loading: Future[object] | None = None

    def __enter__(self) -> PacedLoad:
        self._loading = self._pool.submit(load, self._request, self._clients, seconds=self._seconds, per_s=self._per_s)
        return self

    def __exit__(self, kind: type[BaseException] | None, *problem: object) -> None:
        if kind:
            self._stop.set()
        self._pool.shutdown(wait=True)
        if not kind:
            self.check()

    def check(self) -> None:
        """Raise what has ended the load early, if anything has."""
        if self._loading and self._loading.done():
            self._loading.result()

    def _request(self, number: int) -> None:
        if self._stop.is_set():
            raise Stopped
        due, problem = self._due(number), ""
        try:
            self._send(self._first + number)
        except ClipError as failure:
            problem = f"{type(failure).__name__}: {failure}"
        self.answers.append(Answer(self._first + number, due - self._began, time.perf_counter() - due, problem))

    def _due(self, number: int) -> float:
        """Return the time at which a request is due; the first one's tells when the load began."""
        with self._lock:
            self._began = self._began or time.perf_counter() - number / self._per_s
        return self._began + number / self._per_s


def percentile_ms(answers: Sequence[Answer], percent: float) -> float:
    """Return a percentile of latencies; of none NaN."""
    return float(1000 * np.percentile([answer.latency_s for answer in answers], percent)) if answers else float("nan")


def by_kind(answers: Sequence[Answer]) -> dict[str, list[Answer]]:
    """Return the answers by the kind of their requests, the most frequent first."""
    kinds = Counter(kind(answer.number) for answer in answers)
    return {name: [answer for answer in answers if kind(answer.number) == name] for name, _ in kinds.most_common()}
