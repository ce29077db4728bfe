"""Search over HTTP: terms become vectors side by side, then a thread searches the index."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clip_client.errors import ClipError, Timeout
from clip_search import results
from clip_search.arrays import Floats
from clip_search.collection import Collection
from clip_search.embedder import TIMEOUT_S
from clip_search.query import Hit, Passing, Query, Term
from clip_search.steps import step
from clip_search.web.app_state import State


@dataclass(frozen=True)
class Searched:
    """Hits of a search, best first unless they are sorted, and the time that its steps took."""

    hits: list[Hit]
    passing: Passing | None  # if it was asked for
    embed_s: float
    search_s: float


async def search(shared: State, collection: Collection, query: Query, *, count: bool = False) -> Searched:
    """Return the hits of a query; raises as :class:`Sidecar` does."""
    sidecar, start = shared.sidecar, time.perf_counter()
    tower = sidecar.tower(collection, query.tower)
    with step("embed"):
        vectors = await asyncio.gather(*(_vector(shared, collection, tower, term) for term in query.terms))
    embedded = time.perf_counter()

    def ask(vectors: Sequence[Floats]) -> tuple[list[Hit], Passing | None]:
        hits = results.search(collection, tower, query, vectors, shared.metrics.timed)
        return hits, results.passing(collection, tower, query, vectors) if count else None

    with step("search"):
        hits, passing = await (shared.ranking if query.is_long else shared.searching).run(ask, vectors)
    return Searched(hits, passing, embedded - start, time.perf_counter() - embedded)


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
