"""TCP relay between a sidecar and a server, which fails on command: a network that is lost, a store that is down or slow."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Literal

Mood = Literal["good", "refuses", "silent", "slow", "answers 503", "loses answers"]

_CHUNK = 256 * 1024
_SLOW_S = (0.05, 0.4)
_SHARE = 0.6  # of the requests that fail, so that some things are done by half
_LOOK_S = 0.05
_UNAVAILABLE = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Relay:
    """Relay on a loopback port to another one; ``mood`` may be set at any time, by any thread."""

    def __init__(self, target: int, seed: int) -> None:
        self.mood: Mood = "good"
        self._target, self._draw = target, random.Random(seed)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def failing(self, mood: Mood) -> Iterator[None]:
        """Let it fail for a while; connections that are there are lost where it refuses."""
        self.mood = mood
        if mood == "refuses":
            self._loop.call_soon_threadsafe(self._reset)
        try:
            yield
        finally:
            self.mood = "good"

    def close(self) -> None:
        """End it."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._listening.close()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(asyncio.start_server(self._connect, sock=self._listening))
        self._loop.run_forever()

    def _reset(self) -> None:
        for writer in list(self._writers):
            _abort(writer)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mood == "refuses":
            return _abort(writer)
        try:
            there, onwards = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            return _abort(writer)
        self._writers.add(writer)
        with contextlib.suppress(OSError):  # one side is gone
            await asyncio.gather(self._requests(reader, writer, onwards), self._answers(there, writer))
        self._writers.discard(writer)
        _abort(writer)
        _abort(onwards)

    async def _requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, onwards: asyncio.StreamWriter
    ) -> None:
        while chunk := await reader.read(_CHUNK):
            while self.mood == "silent":
                await asyncio.sleep(_LOOK_S)
            if self.mood == "slow":
                await asyncio.sleep(self._draw.uniform(*_SLOW_S))
            if self.mood == "answers 503" and self._draw.random() < _SHARE:
                writer.write(_UNAVAILABLE)
                await writer.drain()
                break
            onwards.write(chunk)
            await onwards.drain()
        _close(writer)
        _close(onwards)

    async def _answers(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await there.read(_CHUNK):
            while self.mood == "silent":
                await asyncio.sleep(_LOOK_S)
            if self.mood == "loses answers" and self._draw.random() < _SHARE:
                return _abort(writer)
            writer.write(chunk)
            await writer.drain()
        _close(writer)


def _close(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, RuntimeError):
        writer.close()


def _abort(writer: asyncio.StreamWriter) -> None:
    """Reset a connection."""
    with contextlib.suppress(OSError, RuntimeError):
        sock = writer.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
