"""Hits of a search as a list that notebooks show with thumbnails."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Iterable
from typing import Any, SupportsIndex, overload

from clip_client.errors import ClipError, InvalidInput
from clip_client.html_tables import Picture, table
from clip_client.rows_and_hits import Hit
from clip_client.type_names import a_type

Thumbnails = Callable[[Hit], "bytes | None"]

PICTURE_BYTES = 2**18
"""Largest thumbnail that is taken; the sidecar's own have some 20 KB."""

_SHOWN = 24  # hits of a table, and most thumbnails that are fetched for it
_ALL_BYTES = 2**22  # of all thumbnails of a table: a notebook keeps them in its file
_ALL_S = 10.0  # time for fetching them; those that are left stay without
_JPEG = b"\xff\xd8\xff"
_PATH = re.compile(r"/v1/collections/[\w.~%-]+/thumbnails/\d+")


class Hits(list[Hit]):
    """List of hits, best first; as the last line of a notebook's cell it is a table with thumbnails.

    Thumbnails are fetched when the table is shown. A pickle, or a copy on another machine, has none.

    Attributes:
        model, space: fingerprints of what answered the search; empty where the sidecar doesn't say.
    """

    def __init__(
        self, hits: Iterable[Hit] = (), thumbnails: Thumbnails | None = None, model: str = "", space: str = ""
    ) -> None:
        super().__init__(hits)
        self._thumbnails = thumbnails
        self.model, self.space = model, space

    @overload
    def __getitem__(self, index: SupportsIndex, /) -> Hit: ...
    @overload
    def __getitem__(self, index: slice, /) -> Hits: ...
    def __getitem__(self, index: SupportsIndex | slice, /) -> Hit | Hits:
        """Return a hit, or those of a slice as :class:`Hits`."""
        chosen: Any = super().__getitem__(index)
        return Hits(chosen, self._thumbnails, self.model, self.space) if isinstance(index, slice) else chosen

    def __reduce__(self) -> tuple[type[Hits], tuple[list[Hit], None, str, str]]:
        return Hits, ([*self], None, self.model, self.space)

    def __repr__(self) -> str:
        lines = [f"  {n}. {hit.score:.4f} {hit.id!r}{f' {hit.source}' if hit.source else ''}" for n, hit in _numbered(self)]
        more = [f"  … and {len(self) - _SHOWN} more"] if len(self) > _SHOWN else []
        return "\n".join([f"Hits({len(self)})", *lines, *more])

    def _repr_html_(self) -> str:
        """Return a table for notebooks: thumbnails of the first hits, scores, ids, sources and columns."""
        columns = list(dict.fromkeys(name for hit in self[:_SHOWN] for name in hit.metadata))[:6]
        pictures = self._pictures()
        rows = [
            [n, _cell(pictures.get(n), hit), f"{hit.score:.4f}", hit.id, hit.source or "", *map(hit.metadata.get, columns)]
            for n, hit in _numbered(self)
        ]
        return table(rows, head=["", "", "score", "id", "source", *columns], more=len(self) - len(rows))

    def _pictures(self) -> dict[int, bytes]:
        """Return the first hits' thumbnails by number, within bounds of bytes and time."""
        pictures: dict[int, bytes] = {}
        end, left = time.monotonic() + _ALL_S, _ALL_BYTES
        for n, hit in _numbered(self):
            if self._thumbnails is None or time.monotonic() > end:
                break
            try:
                picture = self._thumbnails(hit)
            except (ClipError, ValueError, RuntimeError):  # deleted since, the sidecar is down, the client was closed
                continue
            if picture and picture.startswith(_JPEG) and len(picture) <= left:
                pictures[n], left = picture, left - len(picture)
        return pictures


def thumbnail_path(hit: Hit) -> str | None:
    """Return the path of a hit's thumbnail on the sidecar; None where it has none.

    Raises:
        InvalidInput: ``hit`` isn't one, or its path isn't that of a thumbnail.
    """
    if not isinstance(hit, Hit):
        raise InvalidInput(f"a hit can't be {a_type(hit)}: pass one that a search returned")
    if hit.thumbnail is None:
        return None
    if not isinstance(hit.thumbnail, str) or not _PATH.fullmatch(hit.thumbnail):  # it is appended to the sidecar's URL
        raise InvalidInput(f"the hit's thumbnail is {hit.thumbnail!r}: expected /v1/collections/NAME/thumbnails/ROW")
    return hit.thumbnail


def _numbered(hits: Iterable[Hit]) -> list[tuple[int, Hit]]:
    return list(zip(range(1, _SHOWN + 1), hits, strict=False))


def _cell(picture: bytes | None, hit: Hit) -> Picture | str:
    return Picture(f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}", hit.id) if picture else ""
