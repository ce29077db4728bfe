"""Routes of rows in Arrow's form: added and listed by the ten thousand."""

from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from clip_client.errors import InvalidInput
from clip_client.spec import TOWERS
from clip_search.collection import Collection
from clip_search.imports.values import kind_for
from clip_search.items import AddOptions
from clip_search.query import check_most
from clip_search.ready_rows import Ready, add_ready, check_schema
from clip_search.storage.rows import OnConflict
from clip_search.storage.schema import HEAVY, SOURCE_STATE, tower_column
from clip_search.web import response_models as answers
from clip_search.web.app_state import State, collection, content, state
from clip_search.web.arrow_stream import MEDIA_TYPE, read, written
from clip_search.web.body_reader import VALUE_BYTES
from clip_search.web.guard import answer
from clip_search.web.response_models import failures

router = APIRouter(prefix="/v1/collections", tags=["collections"])
_VECTORS = {tower_column(tower) for tower in TOWERS}
_PAGE_COPIES = 3  # the batches, the table in order, the stream
_FLAGS = {"has_image", "has_text", "has_thumbnail"}
_STREAM: dict[str, Any] = {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}
_BODY = {"requestBody": {"required": True, "content": _STREAM}}
_ROWS: answers.Responses = {200: {"content": _STREAM}}


class AddChoice(BaseModel):
    """Options of an addition."""

    on_conflict: OnConflict = "error"
    fingerprint: Annotated[str, Field(max_length=64, description="of the model that made the vectors")] = ""
    compare: Annotated[bool, Field(description="name in others the rows that are skipped though their vectors differ")] = False


class PageChoice(BaseModel):
    """Choice of rows to list."""

    filter: str = ""
    after: Annotated[int, Field(ge=-1, lt=2**62, description="row behind which to begin, by number")] = -1
    limit: Annotated[int, Field(ge=1)] = 1000
    vectors: bool = False


@router.post(
    "/{name}/arrow",
    status_code=201,
    response_model=answers.ArrowAdded,
    responses=failures(404, 409, 413, 503, 507),
    openapi_extra=_BODY,
)
async def add_arrow(request: Request, name: str, choice: Annotated[AddChoice, Query()]) -> Response:
    """Add rows of an Arrow IPC stream whose vectors are ready; answer once they are durable and searchable.

    Columns: ``vector_image``, ``vector_text`` (lists of floats), ``id``, ``source``, ``source_state``, ``thumbnail`` (an
    encoded picture); all others are metadata.
    """
    named, shared = collection(request), state(request)
    with named.writer.coming():
        ready = await shared.writing.run(_add, shared, named, await content(request), choice)
    added, errors = ready.outcome.counts, ready.outcome.errors
    counts = {"added": added.added, "replaced": added.replaced, "skipped": added.skipped, "ids": added.ids}
    told = [{"index": n, "message": reason} for n, reason in sorted(errors.items())]
    return answer({**counts, "errors": told, "others": ready.others}, 201)


@router.get("/{name}/arrow", response_class=Response, responses={**_ROWS, **failures(404, 413, 503)})
async def list_arrow(request: Request, name: str, choice: Annotated[PageChoice, Query()]) -> Response:
    """List rows by number as an Arrow IPC stream, behind the row ``after``; fewer than ``limit`` are the last."""
    check_most("limit", choice.limit)
    page = await run_in_threadpool(_page, state(request), collection(request), choice)
    return Response(page, media_type=MEDIA_TYPE)


def _add(shared: State, named: Collection, body: bytes, choice: AddChoice) -> Ready:
    rows = read(body, lambda schema: check_schema(schema, named.about.size))
    if not len(rows):
        raise InvalidInput("the stream has no rows: expected at least one")
    options = AddOptions(choice.on_conflict, choice.fingerprint)
    with shared.reader.memory.held(VALUE_BYTES * _values(rows)):
        return add_ready(shared.sidecar, named, rows, options, compare=choice.compare)


def _values(rows: pa.Table) -> int:
    """Return the number of values that rows become, beside their vectors: a bit of a column is one, too."""
    columns = [column for name, column in zip(rows.schema.names, rows.columns, strict=True) if name not in _VECTORS]
    lists = sum(len(pc.list_flatten(column)) for column in columns if kind_for(column.type).startswith("list<"))
    return len(rows) * len(columns) + lists


def _page(shared: State, named: Collection, choice: PageChoice) -> bytes:
    rows = named.matching(choice.filter)
    start = int(np.searchsorted(rows, choice.after, "right"))
    rows = rows[start : start + choice.limit]
    shown = {SOURCE_STATE, *(_VECTORS if choice.vectors else ())}
    columns = [name for name in named.table.schema.names if name in shown or name not in HEAVY | _FLAGS]
    size = len(_VECTORS) * named.about.size * 4 if choice.vectors else 0  # bytes of a row
    with shared.reader.memory.held(_PAGE_COPIES * size * len(rows)):
        return written(named.table.read(rows, columns))
