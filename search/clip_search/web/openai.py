"""Routes of OpenAI's API: ``/v1/embeddings`` for texts and images, with infinity's ``modality``, and ``/v1/models``."""

import base64
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from clip_client.errors import InvalidInput
from clip_search.arrays import Floats
from clip_search.sidecar import Sidecar
from clip_search.web import response_models as answers
from clip_search.web.api_document import post
from clip_search.web.app_state import body, state
from clip_search.web.embedding_inputs import MOST, Picture, embed_images, embed_texts
from clip_search.web.guard import answer
from clip_search.web.request_models import is_data_uri
from clip_search.web.response_models import failures

router = APIRouter(prefix="/v1", tags=["openai"])


def _listed(value: Any) -> Any:
    """Return one text as a list; refuse token numbers with a reason of their own."""
    if isinstance(value, list) and any(isinstance(item, int | list) for item in value):
        raise ValueError("token numbers are another tokenizer's, they aren't taken: send the texts")
    if value in ("", []):  # as OpenAI has it
        raise ValueError("there is nothing in it: expected a text, or a list of at least one")
    return [value] if isinstance(value, str) else value


_LIST = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MOST}
Inputs = Annotated[
    list[str],
    Field(min_length=1, max_length=MOST),
    BeforeValidator(_listed),
    WithJsonSchema({"anyOf": [{"type": "string", "minLength": 1}, _LIST]}),
]


class Embeddings(BaseModel):
    """Request for embeddings.

    ``modality`` says if the inputs are images, each a URL or a data: URI, or texts. Without it, data: URIs are images and all
    else is text.
    """

    model_config = ConfigDict(extra="ignore", strict=True)

    model: str
    input: Inputs
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    modality: Literal["text", "image"] | None = None


@post(router, "/embeddings", Embeddings, answers.EmbeddingList, 413, 503, 504)
async def embeddings(request: Request) -> Response:
    """Embed texts and images."""
    sent = await body(request, Embeddings)
    shared = state(request)
    sidecar = shared.sidecar
    fetches = any(_is_image(item, sent.modality) and not is_data_uri(item) for item in sent.input)
    vectors, tokens = await (shared.fetching if fetches else shared.model).run(_embedded, sidecar, sent)
    data = [
        {"object": "embedding", "index": n, "embedding": _encoded(vector, sent.encoding_format)}
        for n, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return answer({"object": "list", "data": data, "model": sidecar.embedder.spec.name, "usage": usage})


@router.get("/models", response_model=answers.ModelList, responses=failures(503, 504))
async def models(request: Request) -> Response:
    """Return the model that is served."""
    spec = await state(request).model.run(lambda: state(request).sidecar.embedder.spec)
    fixed = {"id": spec.name, "object": "model", "created": 0, "owned_by": spec.checkpoint}
    model = {**fixed, "fingerprint": spec.fingerprint, "notice": spec.notice}
    return answer({"object": "list", "data": [model]})


def _embedded(sidecar: Sidecar, sent: Embeddings) -> tuple[list[Floats], int]:
    """Return a vector [D] for each input, and the number of tokens of the texts."""
    inputs, size = sent.input, sidecar.embedder.spec.embedding_size
    if sent.dimensions not in (None, size):
        raise InvalidInput(f"dimensions is {sent.dimensions}, the model makes {size}: leave it out")
    images = {n: Picture(item, is_url=not is_data_uri(item)) for n, item in enumerate(inputs) if _is_image(item, sent.modality)}
    texts = {n: item for n, item in enumerate(inputs) if n not in images}
    errors: dict[int, str] = {}
    vectors = embed_images(sidecar, images, errors)
    if not errors:
        vectors |= embed_texts(sidecar, texts, errors)
    if errors:
        n, reason = min(errors.items())
        raise InvalidInput(f"input {n} can't be embedded: {reason}", errors=errors)
    return [vectors[n] for n in range(len(inputs))], sidecar.embedder.tokens([*texts.values()]) if texts else 0


def _is_image(item: str, modality: str | None) -> bool:
    return modality == "image" or (modality is None and is_data_uri(item))


def _encoded(vector: Floats, encoding: str) -> Any:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode() if encoding == "base64" else np.asarray(vector)
