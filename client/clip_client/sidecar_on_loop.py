"""Requests to a search sidecar on an event loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from clip_client.concurrency import Concurrency
from clip_client.connection_options import Options
from clip_client.loop_session import LoopSession
from clip_client.retry_pauses import unpressed
from clip_client.server_addresses import ServerAddress
from clip_client.sidecar_http import Sidecar

if TYPE_CHECKING:
    from aiohttp import ClientResponse

_LONGEST_S = 7 * 24 * 3600.0  # of an answer that comes line by line


class SidecarOnLoop(Sidecar):
    """Connections to one sidecar, opened on the loop that first asks."""

    def __init__(self, url: str, address: ServerAddress, options: Options, concurrency: Concurrency) -> None:
        super().__init__(url, address, options, concurrency)
        self._session = LoopSession(address, options, self._headers)

    async def close(self) -> None:
        """Close the connections; requests that are under way raise Unavailable."""
        await self._session.close()

    async def _sent(
        self, method: str, path: str, body: bytes, timeout_s: float, most_bytes: int | None = None
    ) -> tuple[int, bytes]:
        request = method, self.url + path, body or None
        async with self._session.answer(request, timeout_s, lambda _: self._timeout(), self._sent_headers(path)) as answer:
            content = await (answer.read() if most_bytes is None else _first(answer, most_bytes + 1))
            return unpressed(answer.status, answer.headers, content)

    async def _streamed(self, path: str, body: bytes) -> AsyncGenerator[bytes]:
        request = "POST", self.url + path, body
        async with self._session.answer(request, _LONGEST_S, lambda _: self._timeout()) as answer:
            if answer.status >= 300:
                raise self._error(answer.status, await answer.read())
            async for line in answer.content:
                yield line


async def _first(answer: ClientResponse, most_bytes: int) -> bytes:
    """Return the first bytes of an answer."""
    content = bytearray()
    async for part in answer.content.iter_chunked(65_536):
        content += part
        if len(content) >= most_bytes:
            break
    return bytes(content[:most_bytes])
