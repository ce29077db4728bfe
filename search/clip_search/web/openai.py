"""OpenAI's ``/v1/embeddings`` for texts and for images as data: URIs, mixed."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from clip_client.errors import InvalidInput
from clip_search.embedder import Embedder
from clip_search.faiss_index import Floats
from clip_search.web.bodies import file_bytes
from clip_search.web.guard import answer
from clip_search.web.state import body, described, state

router = APIRouter(prefix="/v1", tags=["openai"])
_MOST = 2048  # as OpenAI has it


class Embeddings(BaseModel):
    """A request for embeddings; token numbers aren't taken, since they are another tokenizer's."""

    model_config = ConfigDict(extra="ignore", strict=True)

    model: str
    input: Annotated[str, Field(min_length=1)] | Annotated[list[str], Field(min_length=1, max_length=_MOST)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None


@router.post("/embeddings", openapi_extra=described(Embeddings))
async def embeddings(request: Request) -> Response:
    """Embed texts and images."""
    sent = await body(request, Embeddings)
    inputs = [sent.input] if isinstance(sent.input, str) else sent.input
    embedder = state(request).sidecar.embedder
    vectors = await state(request).model.run(_embedded, embedder, inputs, sent.dimensions)
    data = [
        {"object": "embedding", "index": n, "embedding": _encoded(vector, sent.encoding_format)}
        for n, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": 0, "total_tokens": 0}
    return answer({"object": "list", "data": data, "model": embedder.spec.name, "usage": usage})


@router.get("/models")
async def models(request: Request) -> Response:
    """The one model that is served."""
    spec = await state(request).model.run(lambda: state(request).sidecar.embedder.spec)
    model = {"id": spec.name, "object": "model", "created": 0, "owned_by": spec.checkpoint, "fingerprint": spec.fingerprint}
    return answer({"object": "list", "data": [model]})


def _embedded(embedder: Embedder, inputs: list[str], dimensions: int | None) -> list[Floats]:
    if dimensions not in (None, embedder.spec.embedding_size):
        raise InvalidInput(f"dimensions is {dimensions}, the model makes {embedder.spec.embedding_size}: leave it out")
    images = {n: file_bytes(one) for n, one in enumerate(inputs) if one.startswith("data:")}
    texts = {n: one for n, one in enumerate(inputs) if n not in images}
    found: dict[int, Floats | None] = {}
    errors: dict[int, str] = {}
    for parts, embed in ((images, embedder.images), (texts, embedder.texts)):
        if parts:
            rows = embed([*parts.values()])
            found |= zip(parts, rows, strict=True)
            errors |= {n: rows.errors[at] for at, n in enumerate(parts) if rows[at] is None}
    if errors:
        n, reason = next(iter(sorted(errors.items())))
        raise InvalidInput(f"input {n} can't be embedded: {reason}", errors=errors)
    return [vector for n in range(len(inputs)) if (vector := found[n]) is not None]


def _encoded(vector: Floats, encoding: str) -> Any:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode() if encoding == "base64" else np.asarray(vector)
