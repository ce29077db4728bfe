"""Requests to a sidecar, with all that is judged about an answer: status, headers, time."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import urllib3

PATIENCE_S = 120.0  # longer than any answer may take: who waits longer has found a hang
NO_ANSWER, HANGS = "no connection", "no answer in time"


@dataclass(frozen=True)
class Answer:
    """Answer to a request, or its lack; times are of the monotonic clock.

    Attributes:
        outcome: the status, :data:`NO_ANSWER` for a connection that was refused or lost, or :data:`HANGS`.
        body: JSON of the answer; of an error, too.
        was_sent: the sidecar may have seen the request; not so where its port refused the connection.
    """

    outcome: int | str
    body: Any
    began: float
    ended: float
    retry_after: str = ""
    was_sent: bool = True

    @property
    def is_good(self) -> bool:
        """Tell if the sidecar did what it was asked for."""
        return isinstance(self.outcome, int) and self.outcome < 300

    @property
    def message(self) -> str:
        """Text of an error, as the sidecar words it."""
        return str(self.body.get("message", ""))[:300] if isinstance(self.body, dict) else ""


class Door:
    """HTTP API of one sidecar's collection; safe to use from several threads."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.url = f"http://127.0.0.1:{port}"
        # A connection for each request: one that is kept may be closed by the sidecar at the moment in which it is used again.
        self._pool = urllib3.PoolManager(retries=False, headers={"Connection": "close"})

    def ask(self, method: str, path: str, body: Any = None, timeout_s: float = PATIENCE_S) -> Answer:
        """Send a request once; never raises for what becomes of it."""
        content = None if body is None else json.dumps(body).encode()
        began = time.monotonic()
        try:
            answer = self._pool.request(method, self.url + path, body=content, timeout=timeout_s)
            told = json.loads(answer.data)
        except urllib3.exceptions.ReadTimeoutError:
            return Answer(HANGS, None, began, time.monotonic())
        except urllib3.exceptions.HTTPError as problem:
            was_sent = not isinstance(problem, urllib3.exceptions.NewConnectionError)
            return Answer(NO_ANSWER, {"message": str(problem)}, began, time.monotonic(), was_sent=was_sent)
        except ValueError:
            told = None
        return Answer(answer.status, told, began, time.monotonic(), answer.headers.get("Retry-After", ""))

    def is_ready(self) -> bool:
        """Tell if the sidecar says that it is."""
        answer = self.ask("GET", "/health/ready", timeout_s=10)
        return answer.outcome == 200
