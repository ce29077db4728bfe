"""Search over HTTP: terms become vectors side by side, then a thread searches the index."""

import asyncio
from typing import Any

from clip_client.errors import ClipError, Timeout
from clip_search.arrays import Floats
from clip_search.collection import Collection
from clip_search.embedder import TIMEOUT_S
from clip_search.query import Hit, Query, Term
from clip_search.web.app_state import State


async def search(shared: State, collection: Collection, query: Query) -> list[Hit]:
    """Return the hits of a query, best first; raises as :class:`Sidecar` does."""
    sidecar = shared.sidecar
    tower = sidecar.tower(collection, query.tower)
    vectors = await asyncio.gather(*(_vector(shared, collection, tower, term) for term in query.terms))
    return await shared.searching.run(sidecar.search, collection, tower, query, vectors, shared.metrics.timed)


async def _vector(shared: State, collection: Collection, tower: Any, term: Term) -> Floats:
    sidecar, timed = shared.sidecar, shared.metrics.timed
    if term.kind == "text":
        return await _text(shared, collection, term.value)
    if term.kind == "vector":
        return sidecar.vector(collection, tower, term, timed)  # checked at once: nothing to wait for
    threads = {"id": shared.searching, "image_url": shared.fetching}.get(term.kind, shared.model)
    return await threads.run(sidecar.vector, collection, tower, term, timed)


async def _text(shared: State, collection: Collection, text: str) -> Floats:
    sidecar, timed = shared.sidecar, shared.metrics.timed
    with timed("text_prepro_time"):
        waiting = sidecar.embedder.text(text)
    with timed("text_clip_inference_time"):
        try:
            vector = await asyncio.wait_for(asyncio.wrap_future(waiting), TIMEOUT_S)
        except TimeoutError as problem:
            if isinstance(problem, ClipError):
                raise
            raise Timeout(f"the text wasn't embedded within {TIMEOUT_S:g} s: is Triton busy or stuck?") from problem
    sidecar.check_model(collection)  # afterwards: another checkpoint may have come up meanwhile
    sidecar.texts.asked(vector)
    return vector
