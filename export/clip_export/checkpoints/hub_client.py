"""HTTP client of the hub: bounded waits, tries again, says so."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2 as httpx  # the client that huggingface_hub is made of
from huggingface_hub import constants, set_client_factory
from huggingface_hub.utils import logging, parse_ratelimit_headers  # type: ignore[attr-defined]  # exported when it is asked for
from huggingface_hub.utils._http import default_client_factory

from clip_client.errors import Unavailable

Say = Callable[[str], None]
"""Gets a line for the user."""

TIMEOUTS_S = {"connect": 10.0, "read": 30.0, "write": 30.0, "pool": 30.0}
"""For requests that huggingface_hub gives no limit: it would wait forever."""

PAUSES_S = (1.0, 2.0, 4.0)
"""Before a request is sent again."""

LONGEST_WAIT_S = 300.0
"""Most that a request waits in all: the hub counts requests in windows of five minutes."""

_TOO_MANY = 429
_AGAIN = frozenset({408, _TOO_MANY, 500, 502, 503, 504})
_UNREACHABLE = (httpx.ConnectError, httpx.ProxyError, httpx.UnsupportedProtocol)


@dataclass(frozen=True)
class _Refusal:
    """Outcome of a request that may pass later.

    Attributes:
        problem: the end of a sentence that begins with "the hub".
        status: of the answer; 0 where there was none.
        asked_s: wait that the answer asks for.
    """

    problem: str
    status: int = 0
    asked_s: float | None = None

    def error(self) -> Unavailable:
        """Return the error where there is no other try."""
        if self.status == _TOO_MANY:
            when = "later" if self.asked_s is None else f"in {self.asked_s:g} s"
            return Unavailable(f"the hub allows no more requests for now (429): try again {when}; with HF_TOKEN it allows more")
        return Unavailable(f"the hub at {endpoint()} {self.problem}: try again later")


class PatientClient(httpx.Client):
    """Client that sends a request again where the hub or the network may only be busy.

    Errors that remain are Unavailable, which nothing inside huggingface_hub takes for a reason to try again itself.
    """

    def __init__(self, say: Say, **settings: Any) -> None:
        super().__init__(**settings)
        self._say = say
        self._answered = False

    def send(self, request: httpx.Request, **settings: Any) -> httpx.Response:
        """Send a request, up to four times; wait as long as a rate limit asks.

        Raises:
            Unavailable: if there is no answer, or the hub is out of order, or asks to wait for too long.
        """
        given = request.extensions.get("timeout") or {}
        limits = {kind: given.get(kind) or seconds for kind, seconds in TIMEOUTS_S.items()}
        request.extensions = {**request.extensions, "timeout": limits}
        waited_s, outcome = 0.0, self._sent(request, settings)
        for pause_s in PAUSES_S:
            if isinstance(outcome, httpx.Response):
                return outcome
            pause_s = pause_s if outcome.asked_s is None else outcome.asked_s
            if waited_s + pause_s > LONGEST_WAIT_S:
                break
            self._say(f"the hub {outcome.problem}: trying again in {pause_s:g} s")
            time.sleep(pause_s)
            waited_s, outcome = waited_s + pause_s, self._sent(request, settings)
        if isinstance(outcome, httpx.Response):
            return outcome
        raise outcome.error()

    def _sent(self, request: httpx.Request, settings: dict[str, Any]) -> httpx.Response | _Refusal:
        """Send a request once.

        Raises:
            Unavailable: if nothing has answered yet, and nobody is there.
        """
        try:
            response = super().send(request, **settings)
        except httpx.TransportError as problem:
            kind = type(problem).__name__
            if not self._answered and isinstance(problem, _UNREACHABLE):
                raise Unavailable(f"the hub can't be reached at {endpoint()} ({kind})") from problem
            return _Refusal(f"doesn't answer ({kind})")
        self._answered = True
        if response.status_code not in _AGAIN:
            return response
        response.close()
        return _Refusal(f"answers {response.status_code}", response.status_code, _asked_s(response))


@contextmanager
def patient(say: Say) -> Iterator[None]:
    """Make huggingface_hub talk through this client, and be silent itself, until the block ends.

    Other libraries' own calls keep the usual client, whose errors tell them to look into the cache.
    """
    verbosity, usual = logging.get_verbosity(), default_client_factory()
    usual.close()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    hooks = usual.event_hooks  # those that obey HF_HUB_OFFLINE
    set_client_factory(lambda: PatientClient(say, event_hooks=hooks, follow_redirects=True))
    try:
        yield
    finally:
        set_client_factory(default_client_factory)
        logging.set_verbosity(verbosity)


def endpoint() -> str:
    """Return the hub's address as it may be shown: without a password."""
    scheme, separator, rest = str(constants.ENDPOINT).rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


def _asked_s(response: httpx.Response) -> float | None:
    """Return the seconds that a refusal asks to wait."""
    limit = parse_ratelimit_headers(response.headers)
    if response.status_code == _TOO_MANY and limit and limit.remaining == 0:
        return float(limit.reset_in_seconds)
    asked = response.headers.get("Retry-After", "").strip()
    return float(asked) if asked.isdigit() else None
