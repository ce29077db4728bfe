"""Routes of Roboflow's inference for CLIP: ``/clip/embed_image``, ``/clip/embed_text``, ``/clip/compare``.

https://inference.roboflow.com/foundation/clip/ describes them, and its package inference-sdk calls them.
"""

import time
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from fastapi import APIRouter, Request, Response

from clip_client.errors import InvalidInput
from clip_client.spec import Tower
from clip_search.arrays import Floats
from clip_search.sidecar import Sidecar
from clip_search.web import comparing_models as models
from clip_search.web.api_document import post
from clip_search.web.app_state import body, state
from clip_search.web.comparing import Side, embedded, one_model, threads
from clip_search.web.embedding_inputs import Picture, picture
from clip_search.web.guard import answer

router = APIRouter(prefix="/clip", tags=["roboflow"])
_NOWHERE: dict[str, Any] = {"inference_id": None, "frame_id": None}  # Roboflow's clients look for them


@post(router, "/embed_image", models.InferenceImages, models.InferenceEmbeddings, 413, 503, 504)
async def embed_image(request: Request) -> Response:
    """Embed images, as Roboflow's inference does, but to unit length; one that can't be embedded fails the request."""
    sent = await body(request, models.InferenceImages)
    return await _embeddings(request, _side("image", "image", sent.image))


@post(router, "/embed_text", models.InferenceTexts, models.InferenceEmbeddings, 413, 503, 504)
async def embed_text(request: Request) -> Response:
    """Embed texts, as Roboflow's inference does, but to unit length."""
    sent = await body(request, models.InferenceTexts)
    return await _embeddings(request, _side("text", "text", sent.text))


@post(router, "/compare", models.InferenceComparison, models.InferenceSimilarity, 413, 503, 504)
async def compare(request: Request) -> Response:
    """Return the cosine of a subject to each prompt, as Roboflow's inference does."""
    start, shared = time.perf_counter(), state(request)
    sent = await body(request, models.InferenceComparison)
    named = sent.prompt if isinstance(sent.prompt, Mapping) else None
    prompts = [*named.values()] if named is not None else sent.prompt
    sides = (_side("subject", sent.subject_type, sent.subject), _side("prompt", sent.prompt_type, prompts))
    cosines = (await threads(shared, *sides).run(_cosines, shared.sidecar, *sides)).tolist()
    similarity = cosines if named is None else dict(zip(named, cosines, strict=True))
    return answer({**_NOWHERE, "parent_id": None, "time": time.perf_counter() - start, "similarity": similarity})


async def _embeddings(request: Request, side: Side) -> Response:
    start, shared = time.perf_counter(), state(request)
    rows = await threads(shared, side).run(_all, shared.sidecar, side)
    return answer({**_NOWHERE, "time": time.perf_counter() - start, "embeddings": rows})


def _side(name: Literal["subject", "prompt", "image", "text"], tower: Tower, sent: Any) -> Side:
    items = sent if isinstance(sent, list) else [sent]
    return Side(name, tower, {n: _item(name, tower, n, item) for n, item in enumerate(items)})


def _item(name: str, tower: Tower, n: int, item: models.InferenceImage | str) -> Picture | str:
    """Return an item of a side; raise InvalidInput for an image among texts."""
    if isinstance(item, models.InferenceImage):
        if tower == "text":
            raise InvalidInput(f"{name} {n} is an image, the type of that side is 'text': send a text, or the type 'image'")
        return Picture(item.value, item.type == "url")
    return picture(item) if tower == "image" else item


def _all(sidecar: Sidecar, side: Side) -> Floats:
    """Return the embeddings of a side, float32 [n, D]; raise InvalidInput if one is bad: answers have no place for that."""
    outcome = embedded(sidecar, side)
    if outcome.errors:
        n, reason = min(outcome.errors.items())
        raise InvalidInput(f"{side.name} {n} can't be embedded: {reason}", errors=outcome.errors)
    return outcome.embeddings


def _cosines(sidecar: Sidecar, subject: Side, prompt: Side) -> Floats:
    """Return the cosines of one subject to the prompts, float32 [m]."""
    spec = sidecar.embedder.spec
    subjects, prompts = _all(sidecar, subject), _all(sidecar, prompt)
    one_model(sidecar, spec)
    return np.asarray(prompts @ subjects[0], np.float32)
