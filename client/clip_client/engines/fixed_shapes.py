"""Models compiled for one shape each, beside one for every shape: a lone text takes three quarters of the time in them."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

_LOG = logging.getLogger(__name__)

Shape = tuple[int, ...]

_OFTEN = 16  # texts of a shape, before it is worth a second of all cores
_MEMORY = 4096  # texts after which all counts are halved, so that what was common long ago gives way
_MARGIN = 2  # times as common as the rarest that is there, or two shapes would drive each other out again and again


class FixedShapes:
    """The commonest shapes of lone texts, each compiled in the background; the caller's other shapes aren't its business.

    Args:
        compiled: makes the request of a shape, in a second or so.
        most: shapes that are kept.
    """

    def __init__(self, compiled: Callable[[Shape], Any], most: int) -> None:
        self._compiled, self._most = compiled, most
        self._asked = Counter[Shape]()
        self._requests: dict[Shape, Any] = {}
        self._worker: threading.Thread | None = None

    def request(self, shape: Shape) -> Any | None:
        """Return the request compiled for a shape, None while there is none; for one caller at a time."""
        if not self._most or len(shape) != 2 or shape[0] != 1:
            return None
        self._asked[shape] += 1
        if self._asked.total() > _MEMORY:
            self._asked = Counter({each: count // 2 for each, count in self._asked.items()})
        found = self._requests.get(shape)
        if found is None and self._is_due(shape):
            # No daemon: an interpreter that ends while OpenVINO compiles would crash.
            self._worker = threading.Thread(target=self._add, args=(shape, self._given_up()), name="fixed-shapes")
            self._worker.start()
        return found

    def _is_due(self, shape: Shape) -> bool:
        asked = self._asked[shape]
        if asked < _OFTEN or (self._worker and self._worker.is_alive()):
            return False
        rarest = self._given_up()
        return rarest is None or asked > _MARGIN * self._asked[rarest]

    def _given_up(self) -> Shape | None:
        """Return the shape that a new one takes the place of; None where there is room."""
        return min(self._requests, key=self._asked.__getitem__) if len(self._requests) >= self._most else None

    def _add(self, shape: Shape, given_up: Shape | None) -> None:
        """Replace a shape by a new one, in a thread of its own; the old one goes first, so that memory keeps its bound."""
        if given_up:
            del self._requests[given_up]
        try:
            self._requests[shape] = self._compiled(shape)
        except Exception as problem:  # of OpenVINO: memory that ends, say; texts go on as before
            self._most = len(self._requests)
            _LOG.warning("texts of shape %s are slower than they could be: OpenVINO can't compile for it (%s)", shape, problem)
