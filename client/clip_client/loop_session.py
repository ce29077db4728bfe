"""HTTP session on an event loop, opened there with the first request; errors of ours instead of aiohttp's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from clip_client.connection import IDLE_S, Lost, Outage, closed
from clip_client.connection_options import Options
from clip_client.errors import ClipError, Unavailable
from clip_client.server_addresses import ServerAddress
from clip_client.tls import Tls

try:
    import aiohttp
except ImportError as problem:
    raise Unavailable(f"HTTP on an event loop needs another package ({problem}): pip install 'clipserve[async]'") from problem

_CONNECTIONS = 64  # at once; more tasks wait


class LoopSession:
    """Connections to one server with the headers that every request has."""

    def __init__(self, address: ServerAddress, options: Options, headers: Mapping[str, str]) -> None:
        self._address = address
        self._connect_s = options.timeouts.connect_s
        self._headers = headers
        self._context = (options.tls or Tls()).context() if address.is_secure else False
        self._opened: aiohttp.ClientSession | None = None
        self._is_closed = False

    @asynccontextmanager
    async def answer(
        self,
        request: tuple[str, str, bytes | None],
        timeout_s: float,
        timed_out: Callable[[BaseException], ClipError],
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send method, URL and body; give the answer, whose body isn't read yet. Redirects aren't followed.

        Raises:
            Outage: the request wasn't sent.
            Lost: no answer came, or not all of it.
            ClipError: that of ``timed_out``, nor in time.
            Unavailable: the session is closed.
        """
        method, url, body = request
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(self._connect_s, timeout_s))
        try:
            async with self._session().request(
                method, url, data=body, headers=headers, timeout=timeout, allow_redirects=False
            ) as answer:
                yield answer
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as problem:
            raise Outage(str(problem) or "no connection in time") from problem
        except asyncio.TimeoutError as problem:
            raise timed_out(problem) from problem
        except (aiohttp.ClientError, RuntimeError) as problem:
            raise (closed(self._address) if self._is_closed else Lost(str(problem))) from problem

    async def close(self) -> None:
        """Close the connections; requests that are under way raise Unavailable."""
        self._is_closed = True
        if self._opened is not None:
            await self._opened.close()

    def _session(self) -> aiohttp.ClientSession:
        if self._is_closed:
            raise closed(self._address)
        if self._opened is None:
            connector = aiohttp.TCPConnector(limit=_CONNECTIONS, ssl=self._context, keepalive_timeout=IDLE_S)
            self._opened = aiohttp.ClientSession(connector=connector, headers=self._headers)
        return self._opened
