"""The SDK of the search sidecar for event loops."""

from __future__ import annotations

from clip_client.awaited_sidecar import AwaitedSidecar
from clip_client.ports import SEARCH_URL
from clip_client.search_calls import SearchCalls
from clip_client.sidecar_http import SidecarHttp
from clip_client.tasks import Tasks


class AsyncSearch(SearchCalls):
    """A client of one sidecar, for one event loop: :class:`Search` with methods to await; ``async for`` iterates over its rows.

    Any number of tasks may share it. Files are read in at most 16 threads of its own.

    >>> async with AsyncSearch("http://localhost:1234") as search:
    ...     (await search.query("photos", "a cat", k=5))[0].score

    Args: as :class:`Search`.
    """

    def __init__(self, url: str = SEARCH_URL, *, token: str = "", timeout_s: float = 60.0) -> None:
        tasks = Tasks(f"the AsyncSearch of {url}")
        super().__init__(AwaitedSidecar(SidecarHttp(url, token=token, timeout_s=timeout_s), tasks), tasks)

    async def __aenter__(self) -> AsyncSearch:
        return self

    async def __aexit__(self, *problem: object) -> None:
        await self.close()
