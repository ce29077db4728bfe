"""Routes below ``/v1/collections``: create, drop, list, add, delete, get, search, statistics, rebuild."""

import asyncio
import time
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from clip_client.errors import ClipError, InvalidInput
from clip_search.collection import Collection
from clip_search.errors import Moved, NotFound
from clip_search.ingest import add, needs_model
from clip_search.items import Item
from clip_search.row_order import drawn, latest
from clip_search.sidecar import Sidecar
from clip_search.steps import step
from clip_search.web import request_models as bodies
from clip_search.web import response_models as answers
from clip_search.web.api_document import post
from clip_search.web.app_state import State, body, collection, off_loop, rows, state
from clip_search.web.guard import answer
from clip_search.web.query_runner import search
from clip_search.web.response_models import failures
from clip_search.web.row_json import Rendering
from clip_search.web.thread_pool import Pool

router = APIRouter(prefix="/v1/collections", tags=["collections"])
_LOOKS = 5  # for rows that are replaced while they are read
_STATISTICS: answers.Responses = {200: {"model": answers.Statistics}}


@router.get("", response_model=answers.Collections)
async def list_collections(request: Request) -> Response:
    """Return all collections with their statistics."""
    sidecar = state(request).sidecar
    every = [await run_in_threadpool(_stats, sidecar, named) for named in sidecar.collections()]
    options = sidecar.options
    takes = options.feedback and not options.read_only
    return answer({"collections": [stats for stats in every if stats], "read_only": options.read_only, "feedback": takes})


@post(router, "", bodies.NewCollection, answers.Statistics, 409, 413, 503, 507, status=201)
async def create(request: Request) -> Response:
    """Make a collection."""
    new = await body(request, bodies.NewCollection)
    sidecar = state(request).sidecar
    made = await state(request).model.run(sidecar.create, new.name, new.dimension, new.fingerprint, new.columns)
    return answer(await run_in_threadpool(sidecar.stats, made), 201)


@router.get("/{name}", response_model=answers.Statistics, responses=failures(404, 503))
async def stats(request: Request, name: str) -> Response:
    """Return rows, columns, and how the vectors are searched, with the recall that was reached."""
    return answer(await run_in_threadpool(state(request).sidecar.stats, collection(request)))


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
    return answer(await run_in_threadpool(state(request).sidecar.stats, named), 200 if wait else 202)


@post(router, "/{name}/rows", bodies.NewItems, answers.Added, 404, 409, 413, 503, 504, 507, status=201)
async def add_rows(request: Request, name: str) -> Response:
    """Add rows; answer once they are durable and searchable. ``errors`` names each bad row, the others are added."""
    named, shared = collection(request), state(request)
    with named.writer.coming():
        items, options = await rows(request)
        outcome = await _threads(shared, items).run(add, shared.sidecar, named, items, options)
    added = outcome.counts
    counts = {"added": added.added, "replaced": added.replaced, "skipped": added.skipped, "ids": added.ids}
    return answer({**counts, "errors": [{"index": n, "message": reason} for n, reason in sorted(outcome.errors.items())]}, 201)


@router.get("/{name}/rows", response_model=answers.RowPage, responses=failures(404, 413, 503))
async def list_rows(request: Request, name: str, choice: Annotated[bodies.RowChoice, Query()]) -> Response:
    """List rows by number, behind the row ``after`` (``next`` is that of the following page), or the newest, or random ones."""
    named, choice = collection(request), choice.checked()
    rendering = Rendering(state(request).sidecar, named)
    rows = await run_in_threadpool(_listed, named, choice, rendering.columns(vectors=choice.vectors))
    following = rows[-1]["row"] if choice.order == "number" and len(rows) == choice.limit else None
    return answer({"rows": [rendering.row(row) for row in rows], "next": following})


@post(router, "/{name}/get", bodies.Ids, answers.Rows, 404, 413, 503)
async def get_rows(request: Request, name: str) -> Response:
    """Return rows by id; unknown ids are left out."""
    sent = await body(request, bodies.Ids)
    rendering = Rendering(state(request).sidecar, collection(request))
    return answer({"rows": await run_in_threadpool(_rows, collection(request), rendering, sent.ids, sent.vectors)})


@router.get("/{name}/rows/{id:path}", response_model=answers.Row, responses=failures(404, 503))
async def get_row(request: Request, name: str, id: str, vectors: bool = False) -> Response:
    """Return a row by id."""
    rendering = Rendering(state(request).sidecar, collection(request))
    rows = await run_in_threadpool(_rows, collection(request), rendering, [id], vectors)
    if not rows:
        raise NotFound(f"no row {id!r} in collection {name}: list its rows to see which there are")
    return answer(rows[0])


@router.delete("/{name}/rows/{id:path}", response_model=answers.Deleted, responses=failures(404, 503, 507))
async def delete_row(request: Request, name: str, id: str) -> Response:
    """Delete a row by id."""
    return await _deleted(request, bodies.Deletion(ids=[id]))


@post(router, "/{name}/delete", bodies.Deletion, answers.Deleted, 404, 413, 503, 507)
async def delete_rows(request: Request, name: str) -> Response:
    """Delete rows by ids or by filter; answer once searches no longer return them."""
    sent = await body(request, bodies.Deletion)
    if bool(sent.ids) == bool(sent.filter):
        raise InvalidInput("send either ids or a filter: what to delete must be said once")
    return await _deleted(request, sent)


@post(router, "/{name}/search", bodies.Search, answers.Hits, 404, 409, 413, 503, 504)
async def search_rows(request: Request, name: str) -> Response:
    """Search by text, image, URL, vector, id, or a weighted mix of them, minus others."""
    start, shared = time.perf_counter(), state(request)
    named, sent = collection(request), await body(request, bodies.Search)
    query = await off_loop(request, sent.query)
    searched = await search(shared, named, query, count=sent.count)
    total_ms = _ms(time.perf_counter() - start)
    times = {"embed": _ms(searched.embed_s), "search": _ms(searched.search_s), "total": total_ms}
    rendering, passing = Rendering(shared.sidecar, named), searched.passing
    spec, about = searched.spec, named.about
    model = {"model": spec.fingerprint if spec else about.fingerprint, "space": about.space}
    counted = {"passing": {"rows": passing.rows, "more": passing.more}} if passing else {}

    @step("rows")
    def rendered() -> Response:
        hits = [rendering.hit(hit) for hit in searched.hits]
        return answer({"hits": hits, **counted, **model, "took_ms": total_ms, "milliseconds": times})

    return await shared.ranking.run(rendered) if query.is_long else rendered()


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)


def _threads(shared: State, items: Sequence[Item | ClipError]) -> Pool:
    """Return the pool for the slowest step that the rows need."""
    good = [item for item in items if isinstance(item, Item)]
    if any(item.image and item.image.kind == "image_url" for item in good):
        return shared.fetching
    return shared.model if any(map(needs_model, good)) else shared.writing


def _stats(sidecar: Sidecar, named: Collection) -> dict[str, Any] | None:
    """Return statistics; None for a collection that was dropped this instant."""
    try:
        return sidecar.stats(named)
    except NotFound:
        return None


async def _deleted(request: Request, sent: bodies.Deletion) -> Response:
    try:
        deletion = collection(request).delete(ids=sent.ids, where=sent.filter or "")
        return answer({"deleted": await asyncio.wrap_future(deletion)})
    except Moved:  # another set of vectors serves since this instant
        deletion = collection(request).delete(ids=sent.ids, where=sent.filter or "")
        return answer({"deleted": await asyncio.wrap_future(deletion)})


@step("rows")
def _listed(named: Collection, choice: bodies.RowChoice, columns: list[str]) -> list[dict[str, Any]]:
    """Return rows in the order that was chosen."""
    if choice.order == "number":
        return named.table.page(choice.filter, choice.after, choice.limit, columns)
    if choice.order == "newest":
        rows = latest(named, choice.filter, choice.limit)
    else:
        rows = drawn(named, choice.filter, choice.seed, choice.limit)
    values = named.table.get(rows, columns)
    return [{"row": row, **values[row]} for row in rows if row in values]


@step("rows")
def _rows(named: Collection, rendering: Rendering, ids: list[str], vectors: bool) -> list[dict[str, Any]]:
    """Return rows by id; one that is replaced between the look for its number and for its values is looked for again."""
    values: dict[str, dict[str, Any]] = {}
    for _ in range(_LOOKS):
        rows = named.table.rows_of([id for id in ids if id not in values])
        by_row = named.table.get(list(rows.values()), rendering.columns(vectors=vectors))
        values |= {id: {"row": row, **by_row[row]} for id, row in rows.items() if row in by_row}
        if len(by_row) == len(rows):
            break
    return [rendering.row(values[id]) for id in ids if id in values]
