"""Trial of the version that is loaded beside the one that serves: it answers a share of the text queries."""

from __future__ import annotations

import contextlib
import hashlib
import threading

from clip_client.clip import Clip
from clip_client.errors import ClipError
from clip_client.model_versions import versioned
from clip_search.embedder import Embedder

_LOOK_S = 5.0  # between looks at what is loaded
_READY_S = 0.2  # for an answer to one
_NEAR = 5  # numbers below and above the version that serves that are tried


class Trial:
    """Second embedder for a share of the clients, while there is a version beside the one that serves.

    Args:
        address: host:port of Triton's gRPC endpoint.
        name: of the checkpoint that serves.
        cached: size of its cache of text embeddings.
        share: of the clients, 0 to 1; at 0 nothing is asked for.
    """

    def __init__(self, address: str, name: str, cached: int, share: float) -> None:
        self._address, self._name, self._cached, self._share = address, name, cached, share
        self._ended = threading.Event()
        self._embedder: tuple[str, Embedder] | None = None
        if share:
            threading.Thread(target=self._look_on, name="version beside", daemon=True).start()

    def chosen(self, client: str) -> Embedder | None:
        """Return the second embedder for a client whose queries it answers; None for the others, and while there is none.

        Whoever doesn't say who they are is answered by the version that serves.
        """
        beside = self._embedder
        return beside[1] if beside and client and _position(client) < self._share else None

    def close(self) -> None:
        """Stop."""
        self._ended.set()
        self._take(None)

    def _look_on(self) -> None:
        with Clip(self._address, name=self._name, timeout_s=_LOOK_S) as clip:
            while not self._ended.is_set():
                with contextlib.suppress(ClipError):  # the server is down: asked again
                    self._look(clip.server_metadata().serving)
                self._ended.wait(_LOOK_S)

    def _look(self, serving: int) -> None:
        """Take the newest version near the one that serves that answers."""
        numbers = [number for number in range(serving + _NEAR, max(serving - _NEAR, 1) - 1, -1) if number != serving]
        name = next((own for number in numbers if self._answers(own := versioned(self._name, number))), "")
        if name != (self._embedder[0] if self._embedder else ""):
            self._take((name, Embedder(self._address, name, self._cached)) if name else None)

    def _answers(self, name: str) -> bool:
        with Clip(self._address, name=name, timeout_s=_LOOK_S) as clip, contextlib.suppress(ClipError):
            clip.wait_ready(timeout_s=_READY_S)
            return True
        return False

    def _take(self, embedder: tuple[str, Embedder] | None) -> None:
        before, self._embedder = self._embedder, embedder
        if before:
            before[1].close()


def _position(client: str) -> float:
    """Return the place of a client between 0 and 1, the same on every sidecar."""
    return int.from_bytes(hashlib.sha256(client.encode()).digest()[:8], "big") / 2**64
