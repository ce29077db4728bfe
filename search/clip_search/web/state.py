"""What the routes share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from clip_search.collection import Collection
from clip_search.embedder import TIMEOUT_S
from clip_search.sidecar import Sidecar
from clip_search.web.bodies import parsed
from clip_search.web.metrics import Metrics
from clip_search.web.pool import Pool
from clip_search.web.reading import Body, Reader

_Kind = TypeVar("_Kind", bound=BaseModel)
_Out = TypeVar("_Out")
_SMALL = 64 * 2**10
"""Bodies up to so much are read in a fraction of a millisecond: a thread would cost more."""


def _pool(purpose: str, threads: int = 40) -> Callable[[], Pool]:
    return partial(Pool, purpose, threads=threads, waiting=400, wait_s=TIMEOUT_S)


@dataclass(frozen=True)
class State:
    """Parts that the routes share; a pool of threads for each thing that may stand still, so that nothing else waits for it.

    Attributes:
        opened: set once all collections are.
        searching: for the index alone.
        model: waits for Triton.
        fetching: waits for other hosts, then for Triton.
        writing: waits for the disk.
        pictures: waits for memory to decode pictures.
        health: asks Triton, for a moment.
    """

    sidecar: Sidecar
    metrics: Metrics
    reader: Reader
    opened: threading.Event = field(default_factory=threading.Event)
    searching: Pool = field(default_factory=_pool("the index"))
    model: Pool = field(default_factory=_pool("the model"))
    fetching: Pool = field(default_factory=_pool("pictures that are fetched"))
    writing: Pool = field(default_factory=_pool("the table"))
    pictures: Pool = field(default_factory=_pool("small pictures", threads=8))
    health: Pool = field(default_factory=_pool("the model's health", threads=8))


def state(request: Request) -> State:
    """What was put into the application."""
    return request.app.state.shared  # type: ignore[no-any-return]


def collection(request: Request) -> Collection:
    """The collection that the path names."""
    return state(request).sidecar.collection(request.path_params["name"])


async def body(request: Request, kind: type[_Kind]) -> _Kind:
    """The request's JSON."""
    return await apart(request, parsed, await content(request), kind)


async def content(request: Request) -> bytes:
    """The request's body."""
    sent: Body = request.scope["body"]
    return await sent.content()


async def apart(request: Request, work: Callable[..., _Out], *arguments: Any) -> _Out:
    """Call what takes the longer the larger the body is: beside the event loop if it is large."""
    sent: Body = request.scope["body"]
    return work(*arguments) if sent.size <= _SMALL else await run_in_threadpool(work, *arguments)


def described(kind: type[BaseModel]) -> dict[str, Any]:
    """OpenAPI's description of a body that is parsed here and not by FastAPI, whatever its content type."""
    schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


class Described(FastAPI):
    """An application whose OpenAPI document has the parts of described bodies where its references look for them."""

    def openapi(self) -> dict[str, Any]:
        """Return the document."""
        if not self.openapi_schema:
            document = super().openapi()
            parts = document.setdefault("components", {}).setdefault("schemas", {})
            operations = [one for path in document["paths"].values() for one in path.values()]
            for operation in operations:
                for content in operation.get("requestBody", {}).get("content", {}).values():
                    content["schema"] = dict(content["schema"])
                    parts.update(content["schema"].pop("$defs", {}))
        return super().openapi()
