"""Readers of table versions: the files of a version stay while it is read."""

import collections
import contextlib
import threading
import time
from collections.abc import Iterator
from datetime import timedelta

_LEAST_S = 1.0  # a clean-up of a small table takes no longer


class Readers:
    """Running reads of a table, each with the earliest time at which its version was written."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: collections.Counter[float] = collections.Counter()
        self._newest = 0.0  # a version from before the table was opened may be of any age

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Read the newest version, or a newer one."""
        with self._lock:
            since = self._newest
            self._since[since] += 1
        try:
            yield
        finally:
            with self._lock:
                self._since[since] -= 1
                self._since += collections.Counter()  # without those at 0

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Write a version, which is the newest once that has worked."""
        began = time.time()
        yield
        with self._lock:
            self._newest = max(self._newest, began)

    def unread(self, work_s: float) -> timedelta:
        """Return the age above which no version is read, for a clean-up that comes after at most so much other work."""
        with self._lock:
            oldest = min([self._newest, *self._since])
        return timedelta(seconds=max(time.time() - oldest, 0) + max(work_s, _LEAST_S))
