"""What the routes share."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel

from clip_search.collection import Collection
from clip_search.embedder import TIMEOUT_S
from clip_search.sidecar import Sidecar
from clip_search.web.bodies import parsed
from clip_search.web.metrics import Metrics
from clip_search.web.pool import Pool

_Body = TypeVar("_Body", bound=BaseModel)


@dataclass(frozen=True)
class State:
    """The sidecar, its metrics, whether its collections have been opened, and pools for what may have to wait for Triton."""

    sidecar: Sidecar
    metrics: Metrics
    opened: threading.Event = field(default_factory=threading.Event)
    model: Pool = field(default_factory=lambda: Pool(threads=40, waiting=400, wait_s=TIMEOUT_S))
    health: Pool = field(default_factory=lambda: Pool(threads=8, waiting=400, wait_s=TIMEOUT_S))


def state(request: Request) -> State:
    """What was put into the application."""
    return request.app.state.shared  # type: ignore[no-any-return]


def collection(request: Request) -> Collection:
    """The collection that the path names."""
    return state(request).sidecar.collection(request.path_params["name"])


async def body(request: Request, kind: type[_Body]) -> _Body:
    """The request's JSON."""
    return parsed(await request.body(), kind)


def described(kind: type[BaseModel]) -> dict[str, Any]:
    """OpenAPI's description of a body that is parsed here and not by FastAPI, whatever its content type."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": kind.model_json_schema()}}}}
