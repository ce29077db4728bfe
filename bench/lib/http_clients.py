"""HTTP clients in processes of their own, so that neither Python's lock nor the measuring process holds them up."""

import http.client
import itertools
import json
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.pool import Pool
from multiprocessing.synchronize import Barrier
from urllib.parse import urlsplit

from lib.load import Load, load
from lib.samples import texts
from lib.turns import turns

_AHEAD_S = 0.5  # between handing out the work and its start: all processes have it by then, and have sent a request
_MAX_PER_S = 2_000  # a client's queries; texts are prepared for so many


@dataclass(frozen=True)
class Target:
    """URL and JSON body of a query; in each query ``"TEXT"`` becomes a new text, ``NUMBER`` a new number."""

    url: str
    body: str


class HttpClients:
    """Clients in the processes of a pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool, self._seeds = pool, itertools.count()

    def load(self, target: Target, clients: int, seconds: float) -> Load:
        """Let some clients send queries for some seconds; no text comes twice."""
        words = [texts(int(seconds * _MAX_PER_S), next(self._seeds)) for _ in range(clients)]
        start = time.perf_counter() + _AHEAD_S
        return Load.merged(self._pool.starmap(_load, [(target, own, start, seconds) for own in words], chunksize=1))

    def in_turns(self, targets: Mapping[str, Target], clients: int, rounds: int, seconds: float) -> dict[str, list[Load]]:
        """Load the targets in turns; return the loads of each."""
        loads: dict[str, list[Load]] = {name: [] for name in targets}
        for name in turns(targets, rounds, f"{clients} clients"):
            loads[name].append(self.load(targets[name], clients, seconds))
        return loads


@contextmanager
def http_clients(most: int) -> Iterator[HttpClients]:
    """Start the processes of up to ``most`` clients; end them at the end."""
    context = multiprocessing.get_context("spawn")
    started = context.Barrier(most + 1)
    with context.Pool(most, _wait, (started,)) as pool:
        started.wait()
        yield HttpClients(pool)


def _wait(started: Barrier) -> None:
    started.wait()


def _load(target: Target, words: Sequence[str], start: float, seconds: float) -> Load:
    """Run one client from ``start`` on the machine's clock, after an unmeasured query."""
    connection, offset = _connection(target), int(1e6 * start)  # numbers differ from those of earlier loads

    def request(number: int) -> None:
        if number >= len(words):
            raise RuntimeError(f"{target.url} answers more than {_MAX_PER_S} queries a second: too few texts were prepared")
        _send(connection, target, words[number], offset + number)

    _send(connection, target, "before the start", 0)
    time.sleep(max(0.0, start - time.perf_counter()))
    return load(request, 1, seconds=seconds)


def _connection(target: Target) -> http.client.HTTPConnection:
    parts = urlsplit(target.url)
    return http.client.HTTPConnection(parts.hostname or "", parts.port)


def _send(connection: http.client.HTTPConnection, target: Target, text: str, number: int) -> None:
    body = target.body.replace('"TEXT"', json.dumps(text)).replace("NUMBER", str(number))
    connection.request("POST", urlsplit(target.url).path, body)
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{target.url} answers {answer.status}: {content[:300]!r}")
