"""Search over HTTP: terms become vectors side by side, then a thread searches the index."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clip_client.errors import ClipError, Timeout, Unavailable
from clip_client.spec import ModelSpec
from clip_search import results
from clip_search.arrays import Floats
from clip_search.collection import Collection
from clip_search.embedder import TIMEOUT_S, Embedder
from clip_search.query import IMAGES, Hit, Passing, Query, Term
from clip_search.steps import step
from clip_search.web.app_state import State


@dataclass(frozen=True)
class Searched:
    """Hits of a search, best first unless they are sorted, and the time that its steps took."""

    hits: list[Hit]
    spec: ModelSpec | None  # of the checkpoint that embedded a term; None if all were here
    passing: Passing | None  # if it was asked for
    embed_s: float
    search_s: float


async def search(shared: State, collection: Collection, query: Query, *, count: bool = False) -> Searched:
    """Return the hits of a query; raises as :class:`Sidecar` does."""
    sidecar, start = shared.sidecar, time.perf_counter()
    tower = sidecar.tower(collection, query.tower)
    with step("embed"):
        answers = await asyncio.gather(*(_vector(shared, collection, tower, term, query.client) for term in query.terms))
    vectors, specs = [vector for vector, _ in answers], [spec for _, spec in answers if spec]
    if len({spec.space for spec in specs}) > 1:
        raise Unavailable("a model of another space came up meanwhile: send the request again")
    embedded = time.perf_counter()

    def ask(vectors: Sequence[Floats]) -> tuple[list[Hit], Passing | None]:
        hits = results.search(collection, tower, query, vectors, shared.metrics.timed)
        return hits, results.passing(collection, tower, query, vectors) if count else None

    with step("search"):
        hits, passing = await (shared.ranking if query.is_long else shared.searching).run(ask, vectors)
    return Searched(hits, specs[0] if specs else None, passing, embedded - start, time.perf_counter() - embedded)


async def _vector(
    shared: State, collection: Collection, tower: Any, term: Term, client: str
) -> tuple[Floats, ModelSpec | None]:
    """Return a term's vector, and the spec of the checkpoint that embedded it, if one did."""
    sidecar, timed = shared.sidecar, shared.metrics.timed
    if term.kind == "text":
        if trial := shared.sidecar.trial.chosen(client):
            with contextlib.suppress(ClipError):  # it is gone, or of another space: the version that serves answers
                return await _text(shared, collection, trial, term.value)
        return await _text(shared, collection, shared.sidecar.embedder_of(collection), term.value)
    if term.kind == "vector":
        return sidecar.vector(collection, tower, term, timed), None  # checked at once: nothing to wait for
    threads = {"id": shared.searching, "image_url": shared.fetching}.get(term.kind, shared.model)
    vector = await threads.run(sidecar.vector, collection, tower, term, timed)
    return vector, sidecar.embedder_of(collection).known() if term.kind in IMAGES else None


async def _text(shared: State, collection: Collection, embedder: Embedder, text: str) -> tuple[Floats, ModelSpec]:
    sidecar, timed = shared.sidecar, shared.metrics.timed
    with timed("text_prepro_time"):
        waiting = embedder.text(text)
    with timed("text_clip_inference_time"):
        try:
            embedded = await asyncio.wait_for(asyncio.wrap_future(waiting), TIMEOUT_S)
        except TimeoutError as problem:
            if isinstance(problem, ClipError):
                raise
            raise Timeout(f"the text wasn't embedded within {TIMEOUT_S:g} s: is Triton busy or stuck?") from problem
    sidecar.check_spec(collection, embedded.spec)
    sidecar.models.texts(embedder).asked(embedded.vector)
    return embedded.vector, embedded.spec
