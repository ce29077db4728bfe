"""OpenAPI document: the bodies that are parsed here and not by FastAPI, and the bearer token."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from clip_search.web.guard import is_open

_BEARER = {"bearer": {"type": "http", "scheme": "bearer", "description": "the token that the sidecar was started with"}}


def body_of(kind: type[BaseModel]) -> dict[str, Any]:
    """Return the description of a route's body, whose JSON is read whatever its content type says."""
    schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


class Application(FastAPI):
    """FastAPI with a complete OpenAPI document.

    Attributes:
        asks_token: tells if requests need a token.
    """

    asks_token = False

    def openapi(self) -> dict[str, Any]:
        """Return the document."""
        is_new = not self.openapi_schema
        document = super().openapi()
        if is_new:
            components = document.setdefault("components", {})
            components["securitySchemes"] = _BEARER
            document["security"] = [{"bearer": []}] if self.asks_token else [{}, {"bearer": []}]
            for path, operations in document["paths"].items():
                for operation in operations.values():
                    components.setdefault("schemas", {}).update(_definitions(operation))
                    operation.update({"security": []} if is_open(path) else {})
        return document


def _definitions(operation: dict[str, Any]) -> dict[str, Any]:
    """Take the definitions out of an operation's body: its references lead to the document's components."""
    definitions: dict[str, Any] = {}
    for content in operation.get("requestBody", {}).get("content", {}).values():
        content["schema"] = dict(content["schema"])
        definitions.update(content["schema"].pop("$defs", {}))
    return definitions
