"""Pauses between the attempts of a request."""

import itertools
import random
from collections.abc import Iterator, Mapping

from clip_client.connection_options import Retries
from clip_client.errors import Unavailable

_LONGEST_S = 2.0
_USUAL_S, _LONGEST_TOLD_S = 1.0, 60.0  # after an answer that says nothing of it; of those that do
_TOO_MANY = 429


class Pressed(Unavailable):
    """Answer of a server that didn't do what was asked, since this client asks for too much at once."""

    def __init__(self, status: int, answer: bytes, pause_s: float) -> None:
        super().__init__(f"asked to wait {pause_s:g} s")
        self.status, self.answer, self.pause_s = status, answer, pause_s


def unpressed(status: int, headers: Mapping[str, str], answer: bytes) -> tuple[int, bytes]:
    """Return status and body of an answer; raise Pressed for a 429, with the pause that ``Retry-After`` asks for."""
    if status != _TOO_MANY:
        return status, answer
    told = headers.get("Retry-After", "")
    pause_s = min(float(told), _LONGEST_TOLD_S) if told.isdecimal() else _USUAL_S
    raise Pressed(status, answer, pause_s * random.uniform(1.0, 1.5))  # noqa: S311  (jitter, not a secret)


def pauses_s(retries: Retries) -> Iterator[float]:
    """Yield the pause before each attempt, none before the first."""
    doubled = (min(retries.pause_s * 2.0**n, _LONGEST_S) for n in itertools.count())
    jittered = (pause_s * random.uniform(0.5, 1.5) for pause_s in doubled)  # noqa: S311  (jitter, not a secret)
    yield from itertools.islice(itertools.chain([0.0], jittered), retries.attempts)
