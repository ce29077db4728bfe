"""The contract of clipserve, and the SDK that speaks it.

``import clip_client`` is light: numpy and Pillow are loaded when :class:`Clip` is first looked up, tritonclient when it
connects to a server, engines when it opens models in this process.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from clip_client import former_names
from clip_client.errors import (
    ClipError,
    Conflict,
    ContractMismatch,
    InvalidInput,
    NotFound,
    SpaceChanged,
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
    from clip_client.async_search import AsyncSearch
    from clip_client.classification import Classification
    from clip_client.clip import Clip, Embeddings
    from clip_client.comparison import Comparison
    from clip_client.connection_options import Retries, Timeouts
    from clip_client.embedded import Embedded
    from clip_client.hits import Hits
    from clip_client.request_ids import request_context
    from clip_client.search import Search
    from clip_client.server_health import Health, ServerMetadata
    from clip_client.tls import Tls
    from clip_client.zero_shot_classifiers import ZeroShot

__all__ = [
    "AsyncClip",
    "AsyncSearch",
    "Classification",
    "Clip",
    "ClipError",
    "Comparison",
    "Conflict",
    "ContractMismatch",
    "Embedded",
    "Embeddings",
    "Health",
    "Hits",
    "InvalidInput",
    "ModelSpec",
    "NotFound",
    "Retries",
    "Search",
    "ServerMetadata",
    "SpaceChanged",
    "Stalled",
    "Timeout",
    "Timeouts",
    "Tls",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
    "ZeroShot",
    "request_context",
]

former_names.add(__name__, NOW)


_MODULES = {
    "AsyncClip": "async_clip",
    "AsyncSearch": "async_search",
    "Classification": "classification",
    "Clip": "clip",
    "Comparison": "comparison",
    "Embedded": "embedded",
    "Embeddings": "clip_calls",
    "Retries": "connection_options",
    "Timeouts": "connection_options",
    "Tls": "tls",
    "Health": "server_health",
    "Hits": "hits",
    "Search": "search",
    "ServerMetadata": "server_health",
    "ZeroShot": "zero_shot_classifiers",
    "request_context": "request_ids",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"clip_client.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
