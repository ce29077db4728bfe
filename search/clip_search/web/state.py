"""What the routes share."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi import FastAPI, Request
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
