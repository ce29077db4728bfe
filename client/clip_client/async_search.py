"""The SDK of the search sidecar for event loops."""

from __future__ import annotations

from collections.abc import Mapping

from clip_client import connection_options
from clip_client.client_variables import SEARCH_TOKEN
from clip_client.connect import sidecar_at
from clip_client.connection_options import Retries, Timeouts, sent_token
from clip_client.search_calls import SearchCalls
from clip_client.tasks import Tasks
from clip_client.tls import Tls


class AsyncSearch(SearchCalls):
    """A client of one sidecar, for one event loop: :class:`Search` with methods to await; ``async for`` iterates over its rows.

    Any number of tasks may share it. Files are read in at most 16 threads of its own.

    >>> async with AsyncSearch("http://localhost:1234") as search:
    ...     (await search.query("photos", "a cat", k=5))[0].score

    Args: as :class:`Search`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        timeout_s: float = 60.0,
        headers: Mapping[str, str] | None = None,
        tls: Tls | None = None,
        timeouts: Timeouts | None = None,
        retries: Retries | None = None,
    ) -> None:
        options = connection_options.options(timeout_s, sent_token(token, SEARCH_TOKEN), headers, tls, timeouts, retries)
        from clip_client.sidecar_on_loop import SidecarOnLoop  # aiohttp is loaded for those that use it

        url, address = sidecar_at(url, options)
        tasks = Tasks(f"the AsyncSearch of {address}")
        super().__init__(SidecarOnLoop(url, address, options, tasks), tasks)

    async def __aenter__(self) -> AsyncSearch:
        return self

    async def __aexit__(self, *problem: object) -> None:
        await self.close()
