"""Parts of a stream: as many items as one request takes, cut by number, bytes and time."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from clip_client.embedded import source_of

PART_BYTES = 32 * 2**20
"""A part is closed once its items are known to have this many bytes, so that camera files stay far from filling the memory."""

PART_S = 0.25
"""A part is closed when its first item is this old, so that items of a slow source don't wait for a full request."""

IDLE_S = 0.05
"""A source that can tell yields PAUSE once nothing has come for this time."""

PAUSE: Any = object()
"""Stands among the items of a source for a while without any: what came is sent, and results come out."""


@dataclass
class Part:
    """Items of one request.

    Attributes:
        first: position of the first.
        items: as they were passed.
        sources: names of the items.
        size_bytes: of the items, as far as it is known.
        are_texts: the items; else they are images, and a ``str`` names a file.
    """

    first: int
    items: list[Any] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    size_bytes: int = 0
    are_texts: bool = False
    begun: float = field(default_factory=time.monotonic)

    def add(self, item: Any) -> None:
        """Add an item."""
        self.items.append(item)
        self.sources.append(source_of(item))
        self.size_bytes += len(item) if self.are_texts and hasattr(item, "__len__") else size_of(item)

    def is_full(self, most: int) -> bool:
        """Tell if the part is to be sent: it holds ``most`` items, enough bytes, or an item that has waited."""
        return len(self.items) >= most or self.size_bytes >= PART_BYTES or time.monotonic() - self.begun > PART_S


def size_of(item: Any) -> int:
    """Return the bytes that an item will take in memory, as far as that is known without reading it."""
    if isinstance(item, bytes | bytearray | str):
        return _file_size(item) if isinstance(item, str) else len(item)
    if isinstance(item, memoryview | np.ndarray):
        return int(item.nbytes)
    if isinstance(item, Image.Image):
        return item.width * item.height * len(item.getbands())
    return _file_size(item) if isinstance(item, os.PathLike) else 0


def _file_size(path: str | os.PathLike[str]) -> int:
    try:
        return os.stat(path).st_size
    except Exception:  # no file: a text, a URL, or an error that the request will name, of a path of somebody else's, say
        return len(path) if isinstance(path, str) else 0
