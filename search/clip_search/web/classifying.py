"""Route that classifies images by labels, without training."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response

from clip_client.classification import Classification, classified
from clip_client.errors import InvalidInput
from clip_client.zero_shot import checked_labels, checked_templates, label_embeddings, prompts
from clip_search.arrays import Floats
from clip_search.errors import TooLarge
from clip_search.web import comparing_models as models
from clip_search.web.api_document import post
from clip_search.web.app_state import State, body, state
from clip_search.web.comparing import Side, check_pairs, embedded, one_model, side_of, threads
from clip_search.web.embedding_inputs import MOST, embed_texts
from clip_search.web.guard import answer

router = APIRouter(prefix="/v1", tags=["comparing"])


@post(router, "/classify", models.Classification, models.Classified, 413, 503, 504)
async def classify(request: Request) -> Response:
    """Return the likeliest labels of images; one that can't be embedded has an error of its own."""
    sent, shared = await body(request, models.Classification), state(request)
    labels, templates = checked_labels(sent.labels), checked_templates(sent.templates)
    if (texts := len(labels) * len(templates)) > MOST:
        raise TooLarge(f"{len(labels)} labels in {len(templates)} templates are {texts:,} texts: expected at most {MOST:,}")
    images = side_of("image", "image", sent.images)
    check_pairs(len(images.items), min(sent.top, len(labels)))
    return answer(await threads(shared, images).run(_classified, shared, images, (labels, templates), sent.top))


def _classified(shared: State, images: Side, words: tuple[tuple[str, ...], tuple[str, ...]], top: int) -> dict[str, Any]:
    sidecar, labels = shared.sidecar, words[0]
    spec = sidecar.embedder.spec
    key = (spec.fingerprint, *labels, "", *words[1])  # no label is empty
    columns = shared.labels.get(key)
    if columns is None:
        columns = _label_embeddings(shared, *words)
    outcome = embedded(sidecar, images)
    one_model(sidecar, spec)
    shared.labels.put(key, columns)
    result = classified(outcome.embeddings, columns, labels, spec)
    return {
        "results": [{"index": n, "labels": _best(result, at, top)} for at, n in enumerate(outcome.numbers)],
        "errors": [{"index": n, "message": reason} for n, reason in sorted(outcome.errors.items())],
        "model": spec.name,
        "fingerprint": spec.fingerprint,
    }


def _label_embeddings(shared: State, labels: Sequence[str], templates: Sequence[str]) -> Floats:
    """Return the embeddings of labels, float32 [L, D]; raise InvalidInput for one that can't be embedded."""
    errors: dict[int, str] = {}
    vectors = embed_texts(shared.sidecar, dict(enumerate(prompts(labels, templates))), errors)
    if errors:
        n, reason = min(errors.items())
        raise InvalidInput(f"label {n // len(templates)} can't be embedded: {reason}")
    return label_embeddings(np.asarray([vectors[n] for n in sorted(vectors)], np.float32), labels)


def _best(result: Classification, at: int, top: int) -> list[dict[str, Any]]:
    probabilities, cosines = result.probabilities[at], result.cosines[at]
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [
        {"label": result.labels[n], "probability": float(probabilities[n]), "cosine": float(cosines[n])} for n in order.tolist()
    ]
