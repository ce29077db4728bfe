"""The contract of clipserve, and the SDK that speaks it.

``import clip_client`` is light: numpy and Pillow are loaded when :class:`Clip` is first looked up, tritonclient when it
connects to a server, engines when it opens models in this process.
"""

from typing import TYPE_CHECKING, Any

from clip_client import former_names
from clip_client.errors import (
    ClipError,
    Conflict,
    ContractMismatch,
    InvalidInput,
    NotFound,
    Stalled,
    Timeout,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from clip_client.moved import NOW
from clip_client.spec import ModelSpec

if TYPE_CHECKING:
    from clip_client.async_clip import AsyncClip
    from clip_client.clip import Clip, Embeddings
    from clip_client.comparison import Comparison
    from clip_client.search import Search

__all__ = [
    "AsyncClip",
    "Clip",
    "ClipError",
    "Comparison",
    "Conflict",
    "ContractMismatch",
    "Embeddings",
    "InvalidInput",
    "ModelSpec",
    "NotFound",
    "Search",
    "Stalled",
    "Timeout",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
]

former_names.add(__name__, NOW)


def __getattr__(name: str) -> Any:
    if name in ("Clip", "Comparison", "Embeddings"):
        from clip_client import clip

        return getattr(clip, name)
    if name == "AsyncClip":
        from clip_client import async_clip

        return async_clip.AsyncClip
    if name == "Search":
        from clip_client import search

        return search.Search
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
