"""Reader of request bodies, within a size and a time: in files while they arrive, in memory once they are whole."""

import contextlib
import re
import tempfile
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import IO, Any

import anyio
import anyio.to_thread
import numpy as np
from starlette.requests import ClientDisconnect

from clip_search.budget import Budget
from clip_search.errors import Stalled, TooLarge, storage_problem
from clip_search.options import Options
from clip_search.web.turns import Turns

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_BULK = re.compile(
    r"/(v1/(embeddings|compare|classify|collections/[^/]+/(rows|arrow))|clip/(embed_image|embed_text|compare))/?"
)
_IN_MEMORY = 256 * 2**10  # largest body without a file: a search by vector or text has a few KB
_COUNTED = 2**20
"""Requests that take less memory aren't counted: a search by vector mustn't wait for large bodies that wait for Triton."""
_WRITERS = 8  # threads that write or read bodies' files; a disk isn't faster with more
_ARROW = re.compile(r"/v1/collections/[^/]+/arrow/?")
_ARROW_COPIES = 5  # itself, the vectors of unit length, the table that is written, and the index's
_COPIES, _WIDE_COPIES = 3, 10
"""Copies of a body: itself, its strings, the files in base64; a text with an emoji takes four bytes for each character."""
VALUE_BYTES = 112
"""Most memory of a JSON value beside its characters, while it is parsed: 106 for a number that might be a text."""


class Reader:
    """Budgets of all bodies together: of memory and of files."""

    def __init__(self, options: Options) -> None:
        self.bounds, self._most = options.bounds, options.http.body_bytes
        self.memory = Budget("the body", max(self.bounds.body_memory, 12 * self._most), self.bounds.wait_s)
        self.disk = Budget("the bodies that arrive", max(self.bounds.body_disk, 4 * self._most), self.bounds.wait_s)
        self.turns = Turns(self.bounds, max(self.bounds.body_disk, 4 * self._most))
        self.folder = options.indexes
        self.writers = anyio.CapacityLimiter(_WRITERS)

    def body(self, scope: MutableMapping[str, Any], receive: Receive) -> "Body":
        """Return the body of a request."""
        path = scope["path"]
        return Body(self, receive, self.limit(path), is_text=not _ARROW.fullmatch(path))

    def limit(self, path: str) -> int:
        """Return the largest body of a path, in bytes: of many rows or inputs, or of one search."""
        return self._most if _BULK.fullmatch(path) else min(self._most, self.bounds.search_bytes)


class Body:
    """Body of one request, and the ``size`` of what has arrived."""

    def __init__(self, reader: Reader, receive: Receive, limit: int, *, is_text: bool = True) -> None:
        self._reader, self._receive, self._limit, self._is_text = reader, receive, limit, is_text
        self.size, self._values, self._is_wide, self._waited_s = 0, 0, False, 0.0
        self._pieces: list[bytes] = []
        self._file: IO[bytes] | None = None
        self._on_disk, self._in_memory, self._counted = 0, 0, 0
        self._is_complete = False
        self.client = ""  # whose it is

    async def content(self) -> bytes:
        """Read all of it, then wait until there is memory for it.

        Raises:
            TooLarge: if it is too large, or would take too much memory once parsed.
            Stalled: if it doesn't arrive fast enough.
            Busy: if others have the memory, or the room on the disk.
            StorageFull: if the disk has no room.
            ClientDisconnect: if the client went away.
        """
        await self._complete()
        content = await self._in_thread(self._loaded) if self._file else b"".join(self._pieces)
        self.let_go()
        return content

    async def file(self) -> IO[bytes] | None:
        """As :meth:`content` of a large body, which stays in its file until it is let go; None for a small one."""
        await self._complete()
        if self._file:
            await self._in_thread(self._file.flush)
        return self._file

    def let_go(self) -> None:
        """Drop the pieces and the file."""
        self._pieces = []
        if self._file:
            with contextlib.suppress(OSError):  # what it holds back can't be written
                self._file.close()
        self._file = None
        self._reader.disk.give_back(self._on_disk)
        self._reader.turns.hold(self.client, -self._counted)
        self._on_disk, self._counted = 0, 0

    def close(self) -> None:
        """Return its memory and its file."""
        self.let_go()
        self._reader.memory.give_back(self._in_memory)
        self._in_memory = 0

    async def _complete(self) -> None:
        """Read all of it and wait for memory, unless that was done."""
        if self._is_complete:
            return
        while await self._arrived():
            if sum(map(len, self._pieces)) > _IN_MEMORY:
                await self._spool()
        if self._file:
            await self._spool()
        await self._take()
        self._is_complete = True

    async def _arrived(self) -> bool:
        """Wait for the next piece; tell if there are more."""
        message = await self._next()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece = message.get("body", b"")
        self.size += len(piece)
        check_size(self.size, self._limit)
        if self._is_text:
            self._values += _values(piece)
            self._is_wide |= not piece.isascii() or b"\\" in piece
        self._pieces.append(piece)
        return bool(message.get("more_body", False))

    async def _next(self) -> MutableMapping[str, Any]:
        """Return the next message; only the time that is spent waiting for the client counts."""
        bounds, start = self._reader.bounds, time.monotonic()
        left_s = bounds.body_s + self.size / bounds.body_rate - self._waited_s
        try:
            with anyio.fail_after(min(bounds.body_s, left_s)):
                message = await self._receive()
        except TimeoutError as problem:
            raise Stalled(
                f"the body stopped at {self.size:,} bytes: expected {bounds.body_rate:,} a second, and no pause of more than "
                f"{bounds.body_s:g} s; send less at once"
            ) from problem
        self._waited_s += time.monotonic() - start
        return message

    async def _spool(self) -> None:
        pieces, self._pieces = self._pieces, []
        size = sum(map(len, pieces))
        self._reader.turns.hold(self.client, size)
        self._counted += size
        await self._reader.disk.take_soon(size)
        self._on_disk += size
        await self._in_thread(self._write, pieces)

    def _write(self, pieces: list[bytes]) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._reader.folder)  # noqa: SIM115  (closed with the request)
        self._file.writelines(pieces)

    def _loaded(self) -> bytes:
        assert self._file  # noqa: S101  (it was written)
        self._file.seek(0)
        return self._file.read()

    async def _take(self) -> None:
        copies = _WIDE_COPIES if self._is_wide else _COPIES if self._is_text else _ARROW_COPIES
        size = copies * self.size + VALUE_BYTES * self._values
        if size > _COUNTED:
            async with self._reader.turns.in_memory_line(self.client):
                await self._reader.memory.take_soon(size)
            self._in_memory = size

    async def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return await anyio.to_thread.run_sync(work, *arguments, limiter=self._reader.writers)
        except OSError as problem:
            raise storage_problem(problem) from problem


def _values(piece: bytes) -> int:
    """Return the number of commas, colons and opening brackets and braces: one is in front of each value but the outermost."""
    codes = np.frombuffer(piece, np.uint8)  # bytes.count takes nine times as long, on the event loop
    return sum(int(np.count_nonzero(each)) for each in (codes == ord(","), codes == ord(":"), codes | 0x20 == ord("{")))


def check_size(size: int, limit: int) -> None:
    """Raise TooLarge for a body that is."""
    if size > limit:
        raise TooLarge(f"the body has {size:,} bytes or more, at most {limit:,} are taken: send less at once")
