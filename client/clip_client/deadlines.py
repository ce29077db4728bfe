"""Deadline of a whole HTTP exchange: no connection outlives it, however slowly a server sends.

urllib3's timeouts are for one wait each; a server that sends a byte a second never meets them.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection


class Deadline:
    """Number of seconds, counted from the constructor; then every connection that was made under it is shut."""

    def __init__(self, timeout_s: float) -> None:
        self._end = time.monotonic() + timeout_s
        self._timer = threading.Timer(timeout_s, self._shut)
        self._timer.daemon = True
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []

    @property
    def expired(self) -> bool:
        """True once the time is over; the last read may then be cut short."""
        return time.monotonic() >= self._end

    @property
    def remaining_s(self) -> float:
        """Seconds that are left, at least 0.01."""
        return max(self._end - time.monotonic(), 0.01)

    def watch(self, connection: socket.socket) -> None:
        """Shut a connection when the time is over, also after TLS has taken its descriptor."""
        with self._lock:
            self._sockets.append(connection.dup())
        if self.expired:
            self._shut()

    def pools(self) -> dict[str, type[urllib3.HTTPConnectionPool]]:
        """Return classes of connection pools, by scheme, whose connections are watched."""
        watch = self.watch

        class Plain(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                made = super()._new_conn()
                watch(made)
                return made

        class Secure(HTTPSConnection):
            def _new_conn(self) -> socket.socket:
                made = super()._new_conn()
                watch(made)
                return made

        class PlainPool(urllib3.HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(urllib3.HTTPSConnectionPool):
            ConnectionCls = Secure

        return {"http": PlainPool, "https": SecurePool}

    def __enter__(self) -> Deadline:
        self._timer.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._timer.cancel()
        with self._lock:
            for connection in self._sockets:
                connection.close()
            self._sockets.clear()

    def _shut(self) -> None:
        with self._lock:
            for connection in self._sockets:
                with contextlib.suppress(OSError):  # closed by the other side
                    connection.shutdown(socket.SHUT_RDWR)
