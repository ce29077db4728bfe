"""Routes below ``/v1/collections``: create, drop, list, add, delete, get, search, statistics, rebuild."""

import asyncio
import base64
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from clip_client.errors import ClipError, InvalidInput
from clip_client.spec import TOWERS
from clip_search.collection import Collection
from clip_search.errors import NotFound
from clip_search.ingest import Item, add, needs_model
from clip_search.query import Hit, check_most
from clip_search.storage.schema import HEAVY, SOURCE_STATE
from clip_search.web import request_models as bodies
from clip_search.web import response_models as answers
from clip_search.web.api_document import post
from clip_search.web.app_state import State, body, collection, content, off_loop, state
from clip_search.web.guard import answer
from clip_search.web.query_runner import search
from clip_search.web.response_models import failures
from clip_search.web.row_parser import parsed_rows
from clip_search.web.thread_pool import Pool

router = APIRouter(prefix="/v1/collections", tags=["collections"])
_NOT_METADATA = ("id", "row", "source", "fingerprint", "time", "has_image", "has_text", "has_thumbnail")
_STATISTICS: answers.Responses = {200: {"model": answers.Statistics}}


@router.get("", response_model=answers.Collections)
async def list_collections(request: Request) -> Response:
    """Return all collections with their statistics."""
    every = [await run_in_threadpool(_stats, named) for named in state(request).sidecar.collections()]
    return answer({"collections": [stats for stats in every if stats]})


@post(router, "", bodies.NewCollection, answers.Statistics, 409, 413, 503, 507, status=201)
async def create(request: Request) -> Response:
    """Make a collection."""
    new = await body(request, bodies.NewCollection)
    make = state(request).sidecar.create
    made = await state(request).model.run(make, new.name, new.dimension, new.fingerprint, new.columns)
    return answer(await run_in_threadpool(made.stats), 201)


@router.get("/{name}", response_model=answers.Statistics, responses=failures(404, 503))
async def stats(request: Request, name: str) -> Response:
    """Return rows, columns, and how the vectors are searched, with the recall that was reached."""
    return answer(await run_in_threadpool(collection(request).stats))


@router.delete("/{name}", response_model=answers.Dropped, responses=failures(404, 503))
async def drop(request: Request, name: str) -> Response:
    """Remove a collection for good."""
    await run_in_threadpool(state(request).sidecar.drop, name)
    return answer({"dropped": name})


@router.post(
    "/{name}/rebuild", status_code=202, response_model=answers.Statistics, responses=_STATISTICS | failures(404, 503, 507)
)
async def rebuild(request: Request, name: str, wait: bool = False) -> Response:
    """Index everything anew; searches go on and change over in one step."""
    named = collection(request)
    rebuilt = named.rebuild_soon()
    if wait:
        await asyncio.wrap_future(rebuilt)
    return answer(await run_in_threadpool(named.stats), 200 if wait else 202)


@post(router, "/{name}/rows", bodies.NewItems, answers.Added, 404, 409, 413, 503, 504, 507, status=201)
async def add_rows(request: Request, name: str) -> Response:
    """Add rows; answer once they are durable and searchable. ``errors`` names each bad row, the others are added."""
    named, shared = collection(request), state(request)
    items, options = await off_loop(request, parsed_rows, await content(request))
    outcome = await _threads(shared, items).run(add, shared.sidecar, named, items, options)
    added = outcome.counts
    counts = {"added": added.added, "replaced": added.replaced, "skipped": added.skipped, "ids": added.ids}
    return answer({**counts, "errors": [{"index": n, "message": reason} for n, reason in sorted(outcome.errors.items())]}, 201)


@router.get("/{name}/rows", response_model=answers.RowPage, responses=failures(404, 413, 503))
async def list_rows(
    request: Request, name: str, filter: str = "", after: int = -1, limit: int = 100, vectors: bool = False
) -> Response:
    """List rows by number, behind the row ``after``; ``next`` is the ``after`` of the following page."""
    check_most("limit", limit)
    if limit < 1 or not -1 <= after < 2**62:
        raise InvalidInput(f"limit is {limit}, after is {after}: expected at least 1, and -1 or a row's number")
    named = collection(request)
    rows = await run_in_threadpool(named.table.page, filter, after, limit, _columns(named, vectors))
    return answer({"rows": [_shown(row) for row in rows], "next": rows[-1]["row"] if len(rows) == limit else None})


@post(router, "/{name}/get", bodies.Ids, answers.Rows, 404, 413, 503)
async def get_rows(request: Request, name: str) -> Response:
    """Return rows by id; unknown ids are left out."""
    sent = await body(request, bodies.Ids)
    return answer({"rows": await run_in_threadpool(_rows, collection(request), sent.ids, sent.vectors)})


@router.get("/{name}/rows/{id:path}", response_model=answers.Row, responses=failures(404, 503))
async def get_row(request: Request, name: str, id: str, vectors: bool = False) -> Response:
    """Return a row by id."""
    rows = await run_in_threadpool(_rows, collection(request), [id], vectors)
    if not rows:
        raise NotFound(f"no row {id!r} in collection {name}: list its rows to see which there are")
    return answer(rows[0])


@router.delete("/{name}/rows/{id:path}", response_model=answers.Deleted, responses=failures(404, 503, 507))
async def delete_row(request: Request, name: str, id: str) -> Response:
    """Delete a row by id."""
    return await _deleted(collection(request), bodies.Deletion(ids=[id]))


@post(router, "/{name}/delete", bodies.Deletion, answers.Deleted, 404, 413, 503, 507)
async def delete_rows(request: Request, name: str) -> Response:
    """Delete rows by ids or by filter; answer once searches no longer return them."""
    sent = await body(request, bodies.Deletion)
    if bool(sent.ids) == bool(sent.filter):
        raise InvalidInput("send either ids or a filter: what to delete must be said once")
    return await _deleted(collection(request), sent)


@post(router, "/{name}/search", bodies.Search, answers.Hits, 404, 409, 413, 503, 504)
async def search_rows(request: Request, name: str) -> Response:
    """Search by text, image, URL, vector, id, or a weighted mix of them, minus others."""
    start, shared = time.perf_counter(), state(request)
    named, sent = collection(request), await body(request, bodies.Search)
    hits = await search(shared, named, await off_loop(request, sent.query))
    from_files = bool(shared.sidecar.options.fetch.folders)
    took_ms = round(1000 * (time.perf_counter() - start), 3)
    return answer({"hits": [_hit(named, hit, from_files) for hit in hits], "took_ms": took_ms})


def _threads(shared: State, items: Sequence[Item | ClipError]) -> Pool:
    """Return the pool for the slowest step that the rows need."""
    good = [item for item in items if isinstance(item, Item)]
    if any(item.image and item.image.kind == "image_url" for item in good):
        return shared.fetching
    return shared.model if any(map(needs_model, good)) else shared.writing


def _stats(named: Collection) -> dict[str, Any] | None:
    """Return statistics; None for a collection that was dropped this instant."""
    try:
        return named.stats()
    except NotFound:
        return None


async def _deleted(named: Collection, sent: bodies.Deletion) -> Response:
    return answer({"deleted": await asyncio.wrap_future(named.delete(ids=sent.ids, where=sent.filter or ""))})


def _rows(named: Collection, ids: list[str], vectors: bool) -> list[dict[str, Any]]:
    rows = named.table.rows_of(ids)
    values = named.table.get(list(rows.values()), _columns(named, vectors))
    return [_shown({"row": rows[id], **values[rows[id]]}) for id in ids if rows.get(id) in values]


def _columns(named: Collection, vectors: bool) -> list[str]:
    hidden = HEAVY - {SOURCE_STATE, *(f"vector_{tower}" for tower in TOWERS if vectors)}
    return [name for name in named.table.schema.names if name not in hidden and name != "row"]


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as it is sent: the user's columns under ``metadata``, vectors in base64 of float32."""
    fixed = {name: row[name] for name in ("id", "row", "source", "fingerprint", "time")}
    given = {name: value for name, value in row.items() if name.startswith("vector_") and value is not None}
    vectors = {name: base64.b64encode(np.asarray(value, "<f4").tobytes()).decode() for name, value in given.items()}
    own = {name: value for name, value in row.items() if name not in _NOT_METADATA and name not in HEAVY}
    state = {SOURCE_STATE: row[SOURCE_STATE]} if row.get(SOURCE_STATE) is not None else {}
    return {**fixed, **state, **vectors, "metadata": own}


def _hit(named: Collection, hit: Hit, from_files: bool) -> dict[str, Any]:
    """Return a hit as it is sent; without a stored thumbnail there may be one of the file, where files may be read."""
    card = hit.card
    has_picture = card["has_thumbnail"] or (from_files and (card["source"] or card.get("image_path")))
    return {
        "id": card["id"],
        "row": hit.row,
        "score": hit.score,
        "source": card["source"],
        "thumbnail": f"/v1/collections/{named.name}/thumbnails/{hit.row}" if has_picture else None,
        "metadata": {name: value for name, value in card.items() if name not in _NOT_METADATA},
    }
