"""Requests under way beside the reading of a stream on an event loop: tasks; and sources that are waited for there."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

from clip_client.stream_parts import IDLE_S, PAUSE
from clip_client.under_way import Work

_GRACE_S = 2.0


class Tasks:
    """A task for each work, on the event loop of the stream."""

    on_loop = True

    def begin(self, work: Work) -> asyncio.Task[Any]:
        """Begin work in a task."""
        return asyncio.ensure_future(work())

    async def first(self, running: Sequence[asyncio.Task[Any]], timeout_s: float | None = None) -> None:
        """Wait on the loop."""
        await asyncio.wait(running, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)

    async def end(self, running: Sequence[asyncio.Task[Any]]) -> None:
        """Wait for the requests that were sent, and cancel those that take long: it is the server that cancelling disturbs."""
        if running:
            await asyncio.wait(running, timeout=_GRACE_S)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def with_pauses(items: AsyncIterator[Any]) -> AsyncGenerator[Any]:
    """Yield items, and PAUSE while none comes; what ``items`` raises is raised.

    All of ``items`` runs in one task, as time limits and task groups inside it need, and is asked for what is wanted only.
    """
    wanted, here, given = asyncio.Semaphore(0), asyncio.Event(), deque[Any]()

    async def read() -> None:
        try:
            async for item in items:
                given.append(item)
                here.set()
                await wanted.acquire()
        finally:
            here.set()

    reading = asyncio.ensure_future(read())
    try:
        while True:
            await asyncio.sleep(0)  # most sources give at once
            if not here.is_set():
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(here.wait(), IDLE_S)
            if not here.is_set():
                yield PAUSE
                continue
            here.clear()
            if not given:
                break
            yield given.popleft()
            wanted.release()
        await reading
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
