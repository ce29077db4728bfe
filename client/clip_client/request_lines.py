"""Lines about requests in Triton's log, by our models: a step, its time, and the ids of its requests."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

VARIABLE = "CLIPSERVE_REQUEST_LINES"
"""Variable of a server's environment that turns them on."""
MARK = "clipserve requests: "
"""Beginning of a line's message; JSON follows."""


class RequestLines:
    """Writer of one line for each batch of a model, where the environment asks for them.

    Args:
        step: name of what the model does.
        write: writes a line to Triton's log.
    """

    def __init__(self, step: str, write: Callable[[str], object]) -> None:
        self._step, self._write, self._is_on = step, write, VARIABLE in os.environ

    @contextmanager
    def of(self, requests: Sequence[Any]) -> Iterator[None]:
        """Time what is done for these requests, and write a line with their ids."""
        if not self._is_on:
            yield
            return
        start = time.perf_counter()
        try:
            yield
        finally:
            ids = [request.request_id() for request in requests]
            ms = round(1000 * (time.perf_counter() - start), 3)
            self._write(f"{MARK}{json.dumps({'step': self._step, 'ms': ms, 'request_ids': ids})}")
