"""Answer that is sent piece by piece from an open file: memory for a piece, time in proportion to its size."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.to_thread
from fastapi.responses import StreamingResponse

from clip_search.errors import Busy
from clip_search.options import Bounds
from clip_search.pictures import Picture

_PIECE_BYTES = 256 * 2**10
_MOST, _READERS = 64, 8  # pictures that are sent at once, each an open file; threads that read them


class Sender:
    """Pictures on their way, all together."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.files = anyio.CapacityLimiter(_MOST)
        self.readers = anyio.CapacityLimiter(_READERS)


class PictureResponse(StreamingResponse):
    """Answer with a picture, whose file is closed at the end, however that comes."""

    def __init__(self, picture: Picture, sender: Sender, headers: dict[str, str]) -> None:
        self._picture, self._sender = picture, sender
        length = {"Content-Length": str(picture.size)}
        super().__init__(self._pieces(), headers={**headers, **length}, media_type=picture.media_type)

    async def __call__(self, *connection: Any) -> None:
        """Send it; raise Busy if too many are sent, TimeoutError if it is read too slowly."""
        bounds, file = self._sender.bounds, self._picture.file
        try:
            self._sender.files.acquire_on_behalf_of_nowait(self)
        except anyio.WouldBlock as problem:
            file.close()
            raise Busy(f"{_MOST} pictures are being sent: try again in a moment") from problem
        try:
            with anyio.fail_after(bounds.body_s + self._picture.size / bounds.body_rate):
                await super().__call__(*connection)
        finally:
            self._sender.files.release_on_behalf_of(self)
            file.close()

    async def _pieces(self) -> AsyncIterator[bytes]:
        left, file = self._picture.size, self._picture.file
        while left and (
            piece := await anyio.to_thread.run_sync(file.read, min(left, _PIECE_BYTES), limiter=self._sender.readers)
        ):
            left -= len(piece)
            yield piece
