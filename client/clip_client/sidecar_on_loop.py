"""Requests to a search sidecar on an event loop."""

from __future__ import annotations

import asyncio

from clip_client.concurrency import Concurrency
from clip_client.connection import Outage, closed
from clip_client.connection_options import Options
from clip_client.errors import Unavailable
from clip_client.server_addresses import ServerAddress
from clip_client.sidecar_http import Lost, Sidecar
from clip_client.tls import Tls

try:
    import aiohttp
except ImportError as problem:
    raise Unavailable(f"AsyncSearch needs another package ({problem}): pip install 'clipserve[async]'") from problem

_CONNECTIONS = 64  # at once; more tasks wait


class SidecarOnLoop(Sidecar):
    """Connections to one sidecar, opened on the loop that first asks."""

    def __init__(self, url: str, address: ServerAddress, options: Options, concurrency: Concurrency) -> None:
        super().__init__(url, address, options, concurrency)
        self._context = (options.tls or Tls()).context() if address.is_secure else False
        self._session: aiohttp.ClientSession | None = None
        self._is_closed = False

    async def close(self) -> None:
        """Close the connections; requests that are under way raise Unavailable."""
        self._is_closed = True
        if self._session is not None:
            await self._session.close()

    async def _sent(
        self, method: str, path: str, body: bytes, timeout_s: float, most_bytes: int | None = None
    ) -> tuple[int, bytes]:
        if self._is_closed:
            raise closed(self.url)
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=_CONNECTIONS, ssl=self._context)
            self._session = aiohttp.ClientSession(connector=connector, headers=self._headers)
        connect_s = min(self._options.timeouts.connect_s, timeout_s)
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=connect_s)
        try:
            async with self._session.request(
                method, self.url + path, data=body or None, timeout=timeout, allow_redirects=False
            ) as answer:
                content = await (answer.read() if most_bytes is None else _first(answer, most_bytes + 1))
                return answer.status, content
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as problem:
            raise Outage(str(problem) or "no connection in time") from problem
        except asyncio.TimeoutError as problem:
            raise self._timeout() from problem
        except (aiohttp.ClientError, RuntimeError) as problem:
            if self._is_closed:  # meanwhile
                raise closed(self.url) from problem
            raise Lost(str(problem)) from problem


async def _first(answer: aiohttp.ClientResponse, most_bytes: int) -> bytes:
    """Return the first bytes of an answer."""
    content = bytearray()
    async for part in answer.content.iter_chunked(65_536):
        content += part
        if len(content) >= most_bytes:
            break
    return bytes(content[:most_bytes])
