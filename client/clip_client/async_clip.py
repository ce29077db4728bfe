"""The SDK for event loops."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from clip_client import connection_options
from clip_client.clip_calls import IN_FLIGHT, ClipCalls, ClipOptions, Place
from clip_client.connect import clip_host, servers_at
from clip_client.connection_options import Retries, Timeouts
from clip_client.tasks import Tasks
from clip_client.tls import Tls


class AsyncClip(ClipCalls):
    """A client of the two ensembles of one checkpoint on a Triton, for one event loop: :class:`Clip` with methods to await.

    Any number of tasks may share it. Images are read in at most 16 threads of its own. A task that is cancelled stops
    waiting; its request goes on to its end, since Triton may die of cancelled ones, and :meth:`close` waits for it.

    >>> async with AsyncClip("localhost:8001") as clip:
    ...     (await clip.compare("cat.jpg", ["a cat", "a dog"])).probabilities

    Args: as :class:`Clip`.
    """

    def __init__(
        self,
        address: str | Iterable[str] | None = None,
        *,
        name: str = "clip",
        timeout_s: float = 30.0,
        requests_in_flight: int = IN_FLIGHT,
        preprocess: Place = "server",
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        tls: Tls | None = None,
        timeouts: Timeouts | None = None,
        retries: Retries | None = None,
    ) -> None:
        options = ClipOptions(name, timeout_s, requests_in_flight, preprocess)
        connection = connection_options.options(timeout_s, token, headers, tls, timeouts, retries)
        servers = servers_at(address, connection)
        tasks = Tasks(f"the AsyncClip of {', '.join(map(str, servers))}")
        super().__init__(clip_host(servers, connection, tasks, name=name, on_loop=True), options, tasks)

    async def __aenter__(self) -> AsyncClip:
        return self

    async def __aexit__(self, *problem: object) -> None:
        await self.close()
