"""Pauses between the attempts of a request."""

import itertools
import random
from collections.abc import Iterator

from clip_client.connection_options import Retries

_LONGEST_S = 2.0


def pauses_s(retries: Retries) -> Iterator[float]:
    """Yield the pause before each attempt, none before the first."""
    doubled = (min(retries.pause_s * 2.0**n, _LONGEST_S) for n in itertools.count())
    jittered = (pause_s * random.uniform(0.5, 1.5) for pause_s in doubled)  # noqa: S311  (jitter, not a secret)
    yield from itertools.islice(itertools.chain([0.0], jittered), retries.attempts)
