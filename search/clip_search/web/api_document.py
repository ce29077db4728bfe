"""OpenAPI document: the bodies that are parsed here and not by FastAPI, and the bearer token."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.types import DecoratedCallable
from pydantic import BaseModel

from clip_search.web.guard import is_open
from clip_search.web.response_models import failures
from clip_search.web.scopes import scope_of

_BEARER = {"bearer": {"type": "http", "scheme": "bearer", "description": "the token that the sidecar was started with"}}


def body_of(kind: type[BaseModel]) -> dict[str, Any]:
    """Return the description of a route's body, whose JSON is read whatever its content type says."""
    schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def post(
    router: APIRouter, path: str, body: type[BaseModel], model: Any, *errors: int, status: int = 200
) -> Callable[[DecoratedCallable], DecoratedCallable]:
    """Return the decorator of a route that parses its body itself: its answer's model, the statuses of its own errors."""
    responses = failures(*errors)
    return router.post(path, status_code=status, response_model=model, responses=responses, openapi_extra=body_of(body))


class Application(FastAPI):
    """FastAPI with a complete OpenAPI document."""

    asks_token = False  # True if requests need a token

    def openapi(self) -> dict[str, Any]:
        """Return the document."""
        is_new = not self.openapi_schema
        document = super().openapi()
        if is_new:
            components = document.setdefault("components", {})
            components["securitySchemes"] = _BEARER
            document["security"] = self._security([])
            for path, operations in document["paths"].items():
                for verb, operation in operations.items():
                    components.setdefault("schemas", {}).update(_definitions(operation))
                    operation["security"] = [] if is_open(path) else self._security([scope_of(verb.upper(), path)])
        return document

    def _security(self, scopes: list[str]) -> list[dict[str, list[str]]]:
        return [{"bearer": scopes}] if self.asks_token else [{}, {"bearer": scopes}]


def _definitions(operation: dict[str, Any]) -> dict[str, Any]:
    """Take the definitions out of an operation's body: its references lead to the document's components."""
    definitions: dict[str, Any] = {}
    for content in operation.get("requestBody", {}).get("content", {}).values():
        content["schema"] = dict(content["schema"])
        definitions.update(content["schema"].pop("$defs", {}))
    return definitions
