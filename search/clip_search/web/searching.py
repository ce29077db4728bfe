"""A search over HTTP: terms to vectors side by side, then the index, in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from clip_client.errors import ClipError, Timeout
from clip_search.arrays import Floats
from clip_search.collection import Collection
from clip_search.embedder import TIMEOUT_S
from clip_search.query import Hit, Query, Term
from clip_search.sidecar import Sidecar
from clip_search.web.metrics import Metrics
from clip_search.web.state import State

_STEPS = {"text": "text_clip_inference_time", "image": "image_clip_inference_time", "image_url": "download_time"}


async def search(shared: State, collection: Collection, query: Query) -> list[Hit]:
    """Hits of a query, best first; raises as :class:`Sidecar` does."""
    sidecar, metrics = shared.sidecar, shared.metrics
    tower = sidecar.tower(collection, query.tower)
    vectors = await asyncio.gather(*(_vector(shared, collection, tower, term) for term in query.terms))
    return await shared.searching.run(_found, sidecar, metrics, collection, tower, query, vectors)


def _found(
    sidecar: Sidecar, metrics: Metrics, collection: Collection, tower: Any, query: Query, vectors: Sequence[Floats]
) -> list[Hit]:
    with metrics.timed("knn_index_time"):
        return sidecar.search(collection, tower, query, vectors)


async def _vector(shared: State, collection: Collection, tower: Any, term: Term) -> Floats:
    sidecar = shared.sidecar
    if term.kind == "text":
        return await _text(shared, collection, term.value)
    if term.kind == "vector":
        return sidecar.vector(collection, tower, term)  # checked at once: nothing to wait for
    if term.kind == "id":
        return await shared.searching.run(sidecar.vector, collection, tower, term)
    with shared.metrics.timed(_STEPS[term.kind]):
        threads = shared.fetching if term.kind == "image_url" else shared.model
        return await threads.run(sidecar.vector, collection, tower, term)


async def _text(shared: State, collection: Collection, text: str) -> Floats:
    sidecar = shared.sidecar
    with shared.metrics.timed("text_clip_inference_time"):
        try:
            vector = await asyncio.wait_for(asyncio.wrap_future(sidecar.embedder.text(text)), TIMEOUT_S)
        except TimeoutError as problem:
            if isinstance(problem, ClipError):
                raise
            raise Timeout(f"the text wasn't embedded within {TIMEOUT_S:g} s: is Triton busy or stuck?") from problem
    sidecar.check_model(collection)  # after it, since another checkpoint may just have come up
    sidecar.texts.asked(vector)
    return vector
