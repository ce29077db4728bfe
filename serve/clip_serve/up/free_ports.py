"""Free TCP ports on loopback."""

import contextlib
import socket
from collections.abc import Sequence

HOST = "127.0.0.1"
_TRIED = 200  # ports after the preferred one


def choose(preferred: Sequence[int]) -> list[int]:
    """Return a free port for each preferred one: itself, or the next that is free; all differ."""
    chosen = list[int]()
    for first in preferred:
        last = min(first + _TRIED, 65535)
        free = (port for port in range(first, last + 1) if port not in chosen and is_free(port))
        chosen.append(next(free, 0) or _any())
    return chosen


def is_free(port: int) -> bool:
    """Tell if a server can listen on a port of this machine."""
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))
        return True
    return False


def _any() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
