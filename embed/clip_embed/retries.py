"""Patience with hosts: tries after a failure, hosts that are down, downloads that are slow."""

from __future__ import annotations

import contextlib
import email.utils
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from datetime import datetime, timezone

from clip_client.downloads import BadStatus
from clip_client.errors import Timeout, Unavailable

_BUSY = frozenset((408, 425, 429, 500, 502, 503, 504))
"""Statuses that another time may be 200."""
_LONGEST_PAUSE_S = 30.0  # that a host may ask for; a picture isn't worth more
_SLOW_S = 0.5  # of a download that is slow
_DOWN = 3  # failures of a host in a row, after which each of its pictures is tried once
_HOSTS = 10_000  # that are remembered


def retried(first: Callable[[], bytes], again: Callable[[], bytes], retries: int) -> bytes:
    """Read; try again where that may help, after the pause that the host asks for, or one that grows.

    Raises:
        ClipError: of the last try.
    """
    for attempt in range(retries):
        try:
            return again() if attempt else first()
        except BadStatus as problem:
            if problem.status not in _BUSY:
                raise
            asked = _asked_pause_s(problem.retry_after)
            if asked > _LONGEST_PAUSE_S:
                raise
            time.sleep(max(asked, 2.0**attempt / 2))
        except (Unavailable, Timeout):
            time.sleep(2.0**attempt / 2)
    return again() if retries else first()


class Hosts:
    """Memory of hosts that failed."""

    def __init__(self) -> None:
        self._failures: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def is_up(self, host: str) -> bool:
        """Tell if a host is worth several tries."""
        return self._failures.get(host, 0) < _DOWN

    def failed(self, host: str) -> None:
        """Note a failure."""
        with self._lock:
            self._failures[host] = self._failures.pop(host, 0) + 1
            while len(self._failures) > _HOSTS:
                self._failures.popitem(last=False)

    def answered(self, host: str) -> None:
        """Forget a host's failures."""
        with self._lock:
            self._failures.pop(host, None)


class Lanes:
    """Bound on downloads at once, in which slow ones don't count: hosts that hang take no room from the others.

    Args:
        count: downloads that aren't slow yet.
    """

    def __init__(self, count: int) -> None:
        self._count, self._changed = count, threading.Condition()
        self._starts: dict[object, float] = {}

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for a lane, and hold it."""
        key = object()
        with self._changed:
            while (wait_s := self._wait_s()) > 0:
                self._changed.wait(wait_s)
            self._starts[key] = time.monotonic()
        try:
            yield
        finally:
            with self._changed:
                del self._starts[key]
                self._changed.notify()

    def _wait_s(self) -> float:
        """Return the time until the oldest download that counts is slow; 0 where there is room."""
        now = time.monotonic()
        counted = [start for start in self._starts.values() if now - start < _SLOW_S]
        return 0.0 if len(counted) < self._count else _SLOW_S - (now - min(counted)) + 0.001


def _asked_pause_s(retry_after: str) -> float:
    """Return the seconds of a Retry-After header, which has seconds or a date; 0 for none."""
    text = retry_after.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return 0.0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    return max(0.0, (moment - datetime.now(timezone.utc)).total_seconds())
