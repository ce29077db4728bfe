"""Requests under way beside the reading of a stream on an event loop: tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from clip_client.under_way import Work

_GRACE_S = 2.0


class Tasks:
    """A task for each work, on the event loop of the stream."""

    on_loop = True

    def begin(self, work: Work) -> asyncio.Task[Any]:
        """Begin work in a task."""
        return asyncio.ensure_future(work())

    async def first(self, running: Sequence[asyncio.Task[Any]]) -> None:
        """Wait on the loop."""
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)

    async def end(self, running: Sequence[asyncio.Task[Any]]) -> None:
        """Wait for the requests that were sent, and cancel those that take long: it is the server that cancelling disturbs."""
        if running:
            await asyncio.wait(running, timeout=_GRACE_S)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
