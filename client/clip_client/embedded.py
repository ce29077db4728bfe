"""Result of one item of a stream."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from clip_client.comparison import Floats

_SHOWN = 200  # characters of a text that names itself


@dataclass(frozen=True, eq=False)
class Embedded:
    """An item of a stream with its embedding, or the reason why it has none.

    Attributes:
        position: of the item in what was passed, from 0.
        source: the item's path, URL or file name, or the beginning of the text; empty for bytes, arrays and pictures without
            one.
        embedding: float32 [D], of unit length; None where the item failed.
        reason: of the failure; empty where there is an embedding.
    """

    position: int
    source: str
    embedding: Floats | None
    reason: str = ""

    def __repr__(self) -> str:
        outcome = f"reason={self.reason!r}" if self.embedding is None else f"embedding=float32 [{len(self.embedding)}]"
        return f"Embedded(position={self.position}, source={self.source!r}, {outcome})"


def source_of(item: Any) -> str:
    """Return the name of an item: a path or URL, the name of an open file, or the beginning of a text."""
    if isinstance(item, os.PathLike):
        try:
            item = os.fspath(item)
        except Exception:  # a path of somebody else's; the item's own error will say so
            return ""
    if isinstance(item, str):
        return item[:_SHOWN]
    name = getattr(item, "filename", None) or getattr(item, "name", None)  # of a PIL image; of a file object
    return str(name)[:_SHOWN] if isinstance(name, str | os.PathLike) else ""


def named(noun: str, position: int, source: str, reason: str) -> str:
    """Return a failure in words: ``image 7 (cat.jpg): no image file …``, without a name that the reason has already."""
    name = f" ({source})" if source and source not in reason else ""
    return f"{noun} {position}{name}: {reason}"
