"""The SDK for event loops."""

from __future__ import annotations

from clip_client.clip_calls import IN_FLIGHT, ClipCalls, ClipOptions, Place
from clip_client.ports import TRITON_ADDRESS
from clip_client.tasks import Tasks


class AsyncClip(ClipCalls):
    """A client of the two ensembles of one checkpoint on a Triton, for one event loop: :class:`Clip` with methods to await.

    Any number of tasks may share it. Images are read in at most 16 threads of its own. A task that is cancelled cancels
    its requests.

    >>> async with AsyncClip("localhost:8001") as clip:
    ...     (await clip.compare("cat.jpg", ["a cat", "a dog"])).probabilities

    Args: as :class:`Clip`.
    """

    def __init__(
        self,
        address: str = TRITON_ADDRESS,
        *,
        name: str = "clip",
        timeout_s: float = 30.0,
        requests_in_flight: int = IN_FLIGHT,
        preprocess: Place = "server",
    ) -> None:
        options = ClipOptions(name, timeout_s, requests_in_flight, preprocess)
        from clip_client.async_triton import AsyncTriton  # gRPC is loaded for a server alone

        tasks = Tasks(f"the AsyncClip of {address}")
        super().__init__(AsyncTriton(address, timeout_s=timeout_s, tasks=tasks), options, tasks)

    async def __aenter__(self) -> AsyncClip:
        return self

    async def __aexit__(self, *problem: object) -> None:
        await self.close()
