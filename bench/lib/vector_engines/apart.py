"""Object in a process of its own: its memory can be told, its threads are its own, and if it dies, the bench doesn't."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

import psutil

_KEPT: dict[str, Any] = {}  # in the other process: the object


class Apart:
    """The other side of an object in another process."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool
        self.process = psutil.Process(pool.submit(os.getpid).result())

    def ask(self, method: str, *arguments: Any) -> Any:
        """Call a method of the object there; what it raises is raised here."""
        return self._pool.submit(_call, method, arguments).result()


@contextmanager
def apart(make: Callable[..., object], *arguments: Any) -> Iterator[Apart]:
    """Make an object in a new process, which ends with the block."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        other = Apart(pool)
        pool.submit(_make, make, arguments).result()
        yield other


def _make(make: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    _KEPT["object"] = make(*arguments)


def _call(method: str, arguments: tuple[Any, ...]) -> Any:
    return getattr(_KEPT["object"], method)(*arguments)
