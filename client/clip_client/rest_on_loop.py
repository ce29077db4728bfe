"""HTTP conversation with one Triton on an event loop."""

from __future__ import annotations

from collections.abc import Mapping

from clip_client.connection_options import Options
from clip_client.errors import Timeout
from clip_client.loop_session import LoopSession
from clip_client.request_ids import sent
from clip_client.rest_connection import Answer, RestConnection
from clip_client.server_addresses import ServerAddress


class RestOnLoop(RestConnection):
    """Connections to one Triton, opened on the loop that first asks."""

    def __init__(self, address: ServerAddress, options: Options) -> None:
        super().__init__(address, options)
        self._session = LoopSession(address, options, options.sent_headers)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def _sent(
        self, method: str, path: str, timeout_s: float, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        def timed_out(problem: BaseException) -> Timeout:
            return self._timeout(path.rpartition("/")[0], problem)

        every = {**sent(self._options.sent_headers), **(headers or {})}
        async with self._session.answer((method, self._url + path, body), timeout_s, timed_out, every) as answer:
            return Answer(answer.status, answer.headers, await answer.read())
