"""Queries over HTTP from processes of their own, so that neither Python's lock nor the measuring process holds them up."""

from __future__ import annotations

import http.client
import itertools
import json
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from statistics import median
from types import TracebackType
from urllib.parse import urlsplit

from tqdm import tqdm

from measuring import Timings
from work import texts

_AHEAD_S = 0.5
"""Between handing out the work and its start: all have it by then, and have asked once, unmeasured."""
_MOST_PER_S = 2_000


@dataclass(frozen=True)
class Target:
    """Where to ask, and the body as JSON; TEXT in it stands for a text, NUMBER for a number, other ones in each query."""

    url: str
    body: str


@dataclass(frozen=True)
class Asked:
    """Some rounds of queries: the time of each, and how many were answered a second in the middle round."""

    times: Timings
    per_s: float

    @classmethod
    def together(cls, rounds: Sequence[Asked]) -> Asked:
        """Several rounds as one."""
        return cls(Timings(tuple(itertools.chain(*(one.times.seconds for one in rounds)))), median(one.per_s for one in rounds))

    @property
    def p50_ms(self) -> float:
        """Median."""
        return self.times.percentile_ms(50)

    @property
    def p95_ms(self) -> float:
        """95th percentile."""
        return self.times.percentile_ms(95)


class Clients:
    """Up to ``most`` clients, a process each."""

    def __init__(self, most: int) -> None:
        context = multiprocessing.get_context("spawn")
        arrived = context.Barrier(most + 1)
        self._pool = context.Pool(most, _arrive, (arrived,))
        self._seeds = itertools.count()
        arrived.wait()

    def ask(self, target: Target, clients: int, seconds: float) -> Asked:
        """Let so many clients ask for some seconds, each one query after the other; no text comes twice."""
        words = [texts(int(seconds * _MOST_PER_S), next(self._seeds)) for _ in range(clients)]
        start = time.perf_counter() + _AHEAD_S
        answers = self._pool.starmap(_ask, [(target, own, start, seconds) for own in words], chunksize=1)
        return Asked(Timings(tuple(itertools.chain(*answers))), sum(map(len, answers)) / seconds)

    def in_turns(self, targets: Mapping[str, Target], clients: int, rounds: int, seconds: float) -> dict[str, Asked]:
        """Ask all targets by turns."""
        found: dict[str, list[Asked]] = {name: [] for name in targets}
        for turn in tqdm(range(rounds), desc=f"{clients} clients", unit=" rounds"):
            for name in list(targets)[:: -1 if turn % 2 else 1]:
                found[name].append(self.ask(targets[name], clients, seconds))
        return {name: Asked.together(asked) for name, asked in found.items()}

    def __enter__(self) -> Clients:
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.terminate()
        self._pool.join()


def _arrive(arrived: Barrier) -> None:
    arrived.wait()


def _ask(target: Target, words: Sequence[str], start: float, seconds: float) -> list[float]:
    """Seconds of each query that was sent between ``start`` and ``start + seconds``; the clock is the machine's."""
    parts, times = urlsplit(target.url), list[float]()
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    _send(connection, parts.path, target, "before the start", 0)
    time.sleep(max(0.0, start - time.perf_counter()))
    for number, text in enumerate(words, int(1e6 * start)):
        begun = time.perf_counter()
        if begun > start + seconds:
            return times
        _send(connection, parts.path, target, text, number)
        times.append(time.perf_counter() - begun)
    raise RuntimeError(f"{target.url} answers more than {_MOST_PER_S} queries a second: there weren't texts enough")


def _send(connection: http.client.HTTPConnection, path: str, target: Target, text: str, number: int) -> None:
    body = target.body.replace('"TEXT"', json.dumps(text)).replace("NUMBER", str(number))
    connection.request("POST", path, body)
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{target.url} answers {answer.status}: {content[:300]!r}")
