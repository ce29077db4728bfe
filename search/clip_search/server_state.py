"""State of the server for callers that may not wait for it: its readiness, and the spec of its checkpoint."""

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait

from clip_client.clip import Clip
from clip_client.spec import ModelSpec

READY_S = 0.2  # a health check waits no longer for Triton
_HEARD_S = 1.5  # a server that answered so shortly ago is ready, if too busy to say so in the time of a health check


class Readiness:
    """Readiness of the server: one thread at a time asks, for all callers that came before it asked.

    A busy server is late with this answer and goes on with its others, so whatever it answered a moment ago counts too.
    """

    def __init__(self, ask: Callable[[], str]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._began, self._answer = 0.0, ""
        self._heard = -math.inf

    def heard(self) -> None:
        """Note that the server has answered."""
        self._heard = time.monotonic()

    def ask(self) -> str:
        """Return the reason why the server isn't ready; empty if it is."""
        came = time.monotonic()
        with self._lock:
            if self._began <= came:
                self._began = time.monotonic()
                self._answer = self._ask()
                if not self._answer:
                    self.heard()
                elif time.monotonic() - self._heard < _HEARD_S:
                    self._answer = ""
            return self._answer


class Served:
    """Spec of the server's checkpoint for callers that mustn't wait: it is asked for in the background, once at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._client: Clip | None = None
        self._answer: Future[ModelSpec] = Future()
        self._deadline = 0.0

    def spec(self, clip: Clip) -> ModelSpec | None:
        """Return the spec that a client's server has told, or tells within the time of a health check; None otherwise."""
        with self._lock:
            if self._client is not clip or (self._answer.done() and self._answer.exception()):
                self._ask(clip)
            answer, left_s = self._answer, max(0.0, self._deadline - time.monotonic())
        wait([answer], left_s)
        return answer.result() if answer.done() and not answer.exception() else None

    def _ask(self, clip: Clip) -> None:
        self._client, self._answer, self._deadline = clip, Future(), time.monotonic() + READY_S
        threading.Thread(target=_tell, args=(clip, self._answer), name="the model", daemon=True).start()


def _tell(clip: Clip, answer: Future[ModelSpec]) -> None:
    try:
        answer.set_result(clip.spec)
    except Exception as problem:  # asked again by the next who wants to know
        answer.set_exception(problem)
