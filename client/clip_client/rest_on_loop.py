"""HTTP conversation with one Triton on an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from clip_client.connection import Outage, closed
from clip_client.connection_options import Options
from clip_client.errors import Unavailable
from clip_client.rest_connection import Answer, RestConnection
from clip_client.server_addresses import ServerAddress
from clip_client.tls import Tls

try:
    import aiohttp
except ImportError as problem:
    raise Unavailable(f"HTTP on an event loop needs another package ({problem}): pip install 'clipserve[async]'") from problem


class RestOnLoop(RestConnection):
    """Connections to one Triton, opened on the loop that first asks."""

    def __init__(self, address: ServerAddress, options: Options) -> None:
        super().__init__(address, options)
        self._session: aiohttp.ClientSession | None = None
        self._context = (options.tls or Tls()).context() if address.is_secure else False
        self._is_closed = False

    async def close(self) -> None:
        """Close the connections."""
        self._is_closed = True
        if self._session is not None:
            await self._session.close()

    async def _sent(
        self, method: str, path: str, timeout_s: float, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        if self._is_closed:
            raise closed(self.address)
        if self._session is None:
            self._session = aiohttp.ClientSession(headers=self._options.sent_headers)
        timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=self._options.timeouts.connect_s)
        try:
            async with self._session.request(
                method, self._url + path, data=body, headers=headers, timeout=timeout, ssl=self._context, allow_redirects=False
            ) as answer:
                return Answer(answer.status, answer.headers, await answer.read())
        except aiohttp.ConnectionTimeoutError as problem:
            raise Outage(str(problem) or "no connection in time") from problem
        except asyncio.TimeoutError as problem:
            raise self._timeout(path.rpartition("/")[0], problem) from problem
        except (aiohttp.ClientError, RuntimeError) as problem:
            if self._is_closed:  # meanwhile
                raise closed(self.address) from problem
            raise Outage(str(problem)) from problem
