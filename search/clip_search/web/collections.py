"""``/v1/collections``: create, drop, list, add, delete, get, search, stats, rebuild."""

from __future__ import annotations

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
from clip_search.web import bodies
from clip_search.web.guard import answer
from clip_search.web.intake import intake
from clip_search.web.pool import Pool
from clip_search.web.searching import search
from clip_search.web.state import State, apart, body, collection, content, described, state

router = APIRouter(prefix="/v1/collections", tags=["collections"])
_NOT_METADATA = ("id", "row", "source", "fingerprint", "time", "has_image", "has_text", "has_thumbnail")


@router.get("")
async def list_collections(request: Request) -> Response:
    """All collections with their statistics."""
    sidecar = state(request).sidecar
    found = [await run_in_threadpool(_stats, one) for one in sidecar.collections()]
    return answer({"collections": [stats for stats in found if stats]})


@router.post("", status_code=201, openapi_extra=described(bodies.NewCollection))
async def create(request: Request) -> Response:
    """Make a collection."""
    new = await body(request, bodies.NewCollection)
    make = state(request).sidecar.create
    made = await state(request).model.run(make, new.name, new.dimension, new.fingerprint, new.columns)
    return answer(await run_in_threadpool(made.stats), 201)


@router.get("/{name}")
async def stats(request: Request, name: str) -> Response:
    """Rows, columns, and how its vectors are searched, the recall that was reached among it."""
    return answer(await run_in_threadpool(collection(request).stats))


@router.delete("/{name}")
async def drop(request: Request, name: str) -> Response:
    """Remove a collection for good."""
    await run_in_threadpool(state(request).sidecar.drop, name)
    return answer({"dropped": name})


@router.post("/{name}/rebuild", status_code=202)
async def rebuild(request: Request, name: str, wait: bool = False) -> Response:
    """Index everything anew; searches go on and change over in one step."""
    found = collection(request)
    done = found.rebuild_soon()
    if wait:
        await asyncio.wrap_future(done)
    return answer(await run_in_threadpool(found.stats), 200 if wait else 202)


@router.post("/{name}/rows", status_code=201, openapi_extra=described(bodies.NewItems))
async def add_rows(request: Request, name: str) -> Response:
    """Add rows; answered once they are durable and found. A row that is bad is named in ``errors``, the others are added."""
    found, shared = collection(request), state(request)
    items, options = await apart(request, intake, await content(request))
    outcome = await _threads(shared, items).run(add, shared.sidecar, found, items, options)
    done = outcome.done
    counts = {"added": done.added, "replaced": done.replaced, "skipped": done.skipped, "ids": done.ids}
    return answer({**counts, "errors": [{"index": n, "message": reason} for n, reason in sorted(outcome.errors.items())]}, 201)


@router.get("/{name}/rows")
async def list_rows(
    request: Request, name: str, filter: str = "", after: int = -1, limit: int = 100, vectors: bool = False
) -> Response:
    """Rows by their number, after one of them; ``next`` is what to send as ``after`` for more."""
    check_most("limit", limit)
    if limit < 1 or not -1 <= after < 2**62:
        raise InvalidInput(f"limit is {limit}, after is {after}: expected at least 1, and -1 or a row's number")
    found = collection(request)
    rows = await run_in_threadpool(found.table.page, filter, after, limit, _columns(found, vectors))
    return answer({"rows": [_shown(row) for row in rows], "next": rows[-1]["row"] if len(rows) == limit else None})


@router.post("/{name}/get", openapi_extra=described(bodies.Ids))
async def get_rows(request: Request, name: str) -> Response:
    """Rows by id; those that aren't there are left out."""
    sent = await body(request, bodies.Ids)
    return answer({"rows": await run_in_threadpool(_rows, collection(request), sent.ids, sent.vectors)})


@router.get("/{name}/rows/{id:path}")
async def get_row(request: Request, name: str, id: str, vectors: bool = False) -> Response:
    """One row by id."""
    rows = await run_in_threadpool(_rows, collection(request), [id], vectors)
    if not rows:
        raise NotFound(f"no row {id!r} in collection {name}: list its rows to see which there are")
    return answer(rows[0])


@router.delete("/{name}/rows/{id:path}")
async def delete_row(request: Request, name: str, id: str) -> Response:
    """Delete one row by id."""
    return await _deleted(collection(request), bodies.Deletion(ids=[id]))


@router.post("/{name}/delete", openapi_extra=described(bodies.Deletion))
async def delete_rows(request: Request, name: str) -> Response:
    """Delete rows by ids or by filter; answered once they are gone and no longer found."""
    sent = await body(request, bodies.Deletion)
    if bool(sent.ids) == bool(sent.filter):
        raise InvalidInput("send either ids or a filter: what to delete must be said once")
    return await _deleted(collection(request), sent)


@router.post("/{name}/search", openapi_extra=described(bodies.Search))
async def search_rows(request: Request, name: str) -> Response:
    """Search by text, image, URL, vector, id, or a weighted mix of any, minus others."""
    start, shared = time.perf_counter(), state(request)
    found, sent = collection(request), await body(request, bodies.Search)
    hits = await search(shared, found, await apart(request, sent.query))
    shown = bool(shared.sidecar.options.fetch.folders)
    took_ms = round(1000 * (time.perf_counter() - start), 3)
    return answer({"hits": [_hit(found, hit, shown) for hit in hits], "took_ms": took_ms})


def _threads(shared: State, items: Sequence[Item | ClipError]) -> Pool:
    """The pool for the slowest thing that rows need."""
    good = [item for item in items if isinstance(item, Item)]
    if any(item.image and item.image.kind == "image_url" for item in good):
        return shared.fetching
    return shared.model if any(map(needs_model, good)) else shared.writing


def _stats(found: Collection) -> dict[str, Any] | None:
    """Statistics; None of a collection that was dropped this instant."""
    try:
        return found.stats()
    except NotFound:
        return None


async def _deleted(found: Collection, sent: bodies.Deletion) -> Response:
    done = found.delete(ids=sent.ids, where=sent.filter or "")
    return answer({"deleted": await asyncio.wrap_future(done)})


def _rows(found: Collection, ids: list[str], vectors: bool) -> list[dict[str, Any]]:
    rows = found.table.rows_of(ids)
    values = found.table.get(list(rows.values()), _columns(found, vectors))
    return [_shown({"row": rows[id], **values[rows[id]]}) for id in ids if rows.get(id) in values]


def _columns(found: Collection, vectors: bool) -> list[str]:
    wanted = {SOURCE_STATE, *(f"vector_{tower}" for tower in TOWERS if vectors)}
    return [name for name in found.table.schema.names if name not in HEAVY - wanted and name != "row"]


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row as it is sent: the user's columns under ``metadata``, vectors in base64 of float32."""
    fixed = {name: row[name] for name in ("id", "row", "source", "fingerprint", "time")}
    vectors = {name: _encoded(value) for name, value in row.items() if name.startswith("vector_") and value is not None}
    own = {name: value for name, value in row.items() if name not in _NOT_METADATA and name not in HEAVY}
    state = {SOURCE_STATE: row[SOURCE_STATE]} if row.get(SOURCE_STATE) is not None else {}
    return {**fixed, **state, **vectors, "metadata": own}


def _hit(found: Collection, hit: Hit, from_files: bool) -> dict[str, Any]:
    """A hit as it is sent; a picture that wasn't kept may still be had where files may be read."""
    card = hit.card
    pictured = card["has_thumbnail"] or (from_files and (card["source"] or card.get("image_path")))
    return {
        "id": card["id"],
        "row": hit.row,
        "score": hit.score,
        "source": card["source"],
        "thumbnail": f"/v1/collections/{found.name}/thumbnails/{hit.row}" if pictured else None,
        "metadata": {name: value for name, value in card.items() if name not in _NOT_METADATA},
    }


def _encoded(vector: list[float]) -> str:
    return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()
