"""A sidecar whose requests block, for callers that await."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from clip_client.concurrency import Concurrency
from clip_client.sidecar_http import SidecarHttp

_T = TypeVar("_T")


class AwaitedSidecar:
    """Requests that are awaited: in place, or wherever a client's concurrency calls what blocks."""

    def __init__(self, http: SidecarHttp, concurrency: Concurrency) -> None:
        self.url = http.url
        self._http = http
        self._concurrency = concurrency

    async def ask(self, method: str, path: str, content: Any = None) -> dict[str, Any]:
        """Send a request, as :meth:`SidecarHttp.ask` does."""
        return await self._awaited(lambda: self._http.ask(method, path, content))

    async def not_ready(self) -> str:
        """Return the parts that aren't ready, with reasons; empty when all are."""
        return await self._awaited(self._http.not_ready)

    async def close(self) -> None:
        """Close the connections."""
        self._http.close()

    async def _awaited(self, call: Callable[[], _T]) -> _T:
        [answer] = await self._concurrency.apply(_called, [call], 1)
        return answer


def _called(call: Callable[[], _T]) -> _T:
    return call()
